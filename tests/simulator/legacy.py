"""App-password sessions: createSession, refreshSession with its grace, deleteSession.

Does: issue and rotate the PDS's own Bearer JWTs as the reference PDS does.
Does not: serve the calls that use them (see ``resource``).
"""

from __future__ import annotations

import json
from typing import Any, Literal

from tests.jose import sign_hmac
from tests.simulator.state import Account, LegacySession, LegacyToken, State
from tests.simulator.wire import Refused, Request, Response, json_response, xrpc_error

LOGIN_LIMIT = 30
LOGIN_WINDOW = 300.0


def create_session(state: State, request: Request) -> Response:
    """``com.atproto.server.createSession``."""
    try:
        body = json.loads(request.body)
        identifier, password = str(body["identifier"]), str(body["password"])
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise xrpc_error(400, "InvalidRequest", "Input must have identifier and password") from error
    if state.options.rate_limits:
        _limit_logins(state, identifier.lower())
    account = state.accounts.get(state.handles.get(identifier.lower(), identifier))
    if account is None or account.status == "deleted" or account.password != password:
        raise xrpc_error(401, "AuthenticationRequired", "Invalid identifier or password")
    refuse_takedown(account)
    _require_email_code(account, body)
    state.counters.legacy_logins += 1
    session = new_session(state, account)
    return json_response(200, answer(state, account, session))


def _require_email_code(account: Account, body: dict[str, Any]) -> None:
    """Asks for the sign-in code that was sent by e-mail, if the account has that second factor."""
    given = body.get("authFactorToken")
    if account.email_code is not None and not given:
        raise xrpc_error(401, "AuthFactorTokenRequired", "A sign in code has been sent to your email address")
    if account.email_code is not None and given != account.email_code:
        raise xrpc_error(400, "InvalidToken", "Token is invalid")


def refresh_session(state: State, request: Request) -> Response:
    """``com.atproto.server.refreshSession``: the same token again within the grace gives the same next one."""
    state.counters.legacy_refresh_requests += 1
    if request.body:
        raise xrpc_error(400, "InvalidRequest", "A request body was provided when none was expected")
    value, token = bearer(state, request, "refresh")
    session, now = token.session, state.now
    account = state.accounts.get(session.did)
    if account is None or account.status == "deleted":
        raise xrpc_error(400, "InvalidRequest", f"Could not find user info for account: {session.did}")
    refuse_takedown(account)
    if now >= token.expires_at:
        raise xrpc_error(400, "ExpiredToken", "Token has expired")
    if not session.alive or not _is_usable(token, now):
        raise xrpc_error(400, "ExpiredToken", "Token has been revoked")
    if token.successor is None:
        token.successor = _issue(state, account, session, "refresh")
        token.grace_until = now + state.options.legacy_grace
        state.counters.consumptions += 1
        state.counters.consumptions_by_did[session.did] += 1
        session.generation += 1
        if session.refresh_token == value:
            session.refresh_token = token.successor
    else:
        state.counters.legacy_grace_refreshes += 1
        state.legacy_tokens[token.successor].deleted = False
    state.counters.legacy_refreshes += 1
    return json_response(200, answer(state, account, session, refresh_jwt=token.successor))


def delete_session(state: State, request: Request) -> Response:
    """``com.atproto.server.deleteSession``: by the refresh token, which may be expired or revoked.

    It deletes that token only, as measured: a predecessor goes on through its grace and can bring
    the session back, and deleting a rotated token does not end its successor.
    """
    _, token = bearer(state, request, "refresh")
    state.counters.legacy_deletes += 1
    token.deleted = True
    chain = [other for other in state.legacy_tokens.values() if other.session is token.session]
    if not any(other.kind == "refresh" and _is_usable(other, state.now) for other in chain):
        state.kill(token.session, "deleted")
    return Response(200)


def _is_usable(token: LegacyToken, now: float) -> bool:
    """Whether a refresh token is neither deleted nor past its grace."""
    return not token.deleted and (token.grace_until is None or now < token.grace_until)


def new_session(state: State, account: Account) -> LegacySession:
    """A logged-in session, without the request."""
    session = LegacySession(account.did)
    session.refresh_token = _issue(state, account, session, "refresh")
    state.legacy_sessions.append(session)
    return session


def answer(
    state: State, account: Account, session: LegacySession, refresh_jwt: str | None = None
) -> dict[str, Any]:
    """The body of createSession and refreshSession; the access token is new every time."""
    return {
        "accessJwt": _issue(state, account, session, "access"),
        "refreshJwt": refresh_jwt or session.refresh_token,
        **account_fields(account),
    }


def account_fields(account: Account) -> dict[str, Any]:
    """Who the session belongs to."""
    fields: dict[str, Any] = {
        "did": account.did,
        "handle": account.handle,
        "active": account.status == "active",
    }
    if account.status != "active":
        fields["status"] = account.status
    return fields


def bearer(state: State, request: Request, kind: Literal["access", "refresh"]) -> tuple[str, LegacyToken]:
    """The token in the Authorization header, if it is one of ours and of the right kind."""
    scheme, _, value = (request.get("authorization") or "").partition(" ")
    if scheme.lower() != "bearer" or not value:
        raise auth_missing()
    token = state.legacy_tokens.get(value)
    if token is None:
        raise xrpc_error(400, "InvalidToken", "Token could not be verified")
    if token.kind != kind:
        raise xrpc_error(400, "InvalidToken", "Invalid token type")
    return value, token


def auth_missing() -> Refused:
    """The refusal of a call without credentials."""
    return xrpc_error(401, "AuthMissing", "Authentication Required")


def refuse_takedown(account: Account) -> None:
    """Refuse an account that was taken down."""
    if account.status == "takendown":
        raise xrpc_error(401, "AccountTakedown", "Account has been taken down")


def _issue(state: State, account: Account, session: LegacySession, kind: Literal["access", "refresh"]) -> str:
    options = state.options
    life = options.legacy_access_life if kind == "access" else options.legacy_refresh_life
    now = state.now
    claims = {
        "scope": "com.atproto.access" if kind == "access" else "com.atproto.refresh",
        "sub": account.did,
        "aud": state.service_did,
        "iat": int(now),
        "exp": max(int(now) + 1, round(now + life)),
        "jti": state.new_token("")[:32],
    }
    value = sign_hmac(state.jwt_secret, "at+jwt" if kind == "access" else "refresh+jwt", claims)
    state.legacy_tokens[value] = LegacyToken(session, kind, now + life)
    return value


def _limit_logins(state: State, identifier: str) -> None:
    now = state.now
    recent = [when for when in state.logins.get(identifier, []) if when > now - LOGIN_WINDOW]
    if len(recent) >= LOGIN_LIMIT:
        reset = int(recent[0] + LOGIN_WINDOW) + 1
        raise xrpc_error(
            429,
            "RateLimitExceeded",
            "Rate Limit Exceeded",
            ("Retry-After", str(max(1, reset - int(now)))),
            ("RateLimit-Limit", str(LOGIN_LIMIT)),
            ("RateLimit-Remaining", "0"),
            ("RateLimit-Reset", str(reset)),  # epoch seconds, unlike the IETF draft's delta
            ("RateLimit-Policy", f"{LOGIN_LIMIT};w={int(LOGIN_WINDOW)}"),
        )
    state.logins[identifier] = [*recent, now]
