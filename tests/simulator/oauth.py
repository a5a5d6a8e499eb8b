"""The authorization server: refreshing, revocation, and who a client is.

Does: refresh exactly in the reference server's order (parse, proof and nonce, client, *consume*, the rest).
Does not: log in (``authorization``), or choose the grant of a token request (``grants``).
"""

from __future__ import annotations

import json
import re
from functools import lru_cache
from typing import Any
from urllib.parse import parse_qsl, urlsplit

from tests.jose import sign_hmac
from tests.simulator.proofs import (
    AssertionError_,
    NonceNeeded,
    ProofError,
    ProofRules,
    verify_assertion,
    verify_proof,
)
from tests.simulator.state import AccessToken, OAuthSession, State
from tests.simulator.wire import Refused, Request, Response, json_response, oauth_error

TOKEN_PATH = "/oauth/token"
REVOKE_PATH = "/oauth/revoke"


def revoke(state: State, request: Request) -> Response:
    """Revocation (RFC 7009): 200 whatever happens, so that only a later refusal shows that it took."""
    if request.method != "POST":
        raise oauth_error(405, "invalid_request", "Method Not Allowed")
    state.counters.revocation_requests += 1
    session = _revocable(state, request)
    if session is not None:
        state.counters.revocations += 1
        state.kill(session, "revoked")
    return json_response(200, {}, ("Cache-Control", "no-store"))


def parse_form(request: Request) -> dict[str, str]:
    """The parameters; the reference server takes JSON as well as a form."""
    kind = (request.get("content-type") or "").split(";")[0].strip().lower()
    try:
        if kind == "application/json":
            pairs = list(json.loads(request.body).items())
        elif kind == "application/x-www-form-urlencoded":
            pairs = parse_qsl(request.body.decode(), keep_blank_values=True, strict_parsing=True)
        else:
            raise ValueError(f"unexpected content type {kind!r}")  # noqa: TRY301
    except (ValueError, AttributeError, RecursionError) as error:
        raise oauth_error(400, "invalid_grant", f"Invalid request payload: {error}") from error
    form: dict[str, str] = {}
    for name, value in pairs:
        if name in form or not isinstance(value, str):
            raise oauth_error(400, "invalid_grant", f'Invalid request payload: "{name}" must be one string')
        form[name] = value
    return form


def check_proof(state: State, request: Request) -> str:
    """The thumbprint behind the request's DPoP proof, or the authorization server's refusal."""
    rules = ProofRules(
        origin=state.issuer,
        now=state.now,
        window=state.options.proof_window,
        nonces=state.nonces(authorization_server=True),
        nonce_rotation=state.options.nonce_rotation,
        seen=state.proofs_seen,
    )
    try:
        return verify_proof(request, rules)
    except ProofError as error:
        raise oauth_error(401, "invalid_dpop_proof", str(error)) from error
    except NonceNeeded as error:
        state.counters.nonce_requests += 1
        raise oauth_error(400, "use_dpop_nonce", f"Authorization server {error}") from error


def authenticate_client(state: State, form: dict[str, str], jkt: str) -> tuple[str | None, str | None]:
    """Key id and thumbprint of a confidential client, two times None for a public one."""
    client_id = form["client_id"]
    client = state.clients.get(client_id)
    if client is None:
        if not valid_loopback_client(client_id):
            text = f'Unable to obtain client metadata for "{client_id}"'
            raise oauth_error(400, "invalid_client_metadata", text)
        return None, None
    if not client.keys:
        return None, None
    try:
        kid, key_jkt = verify_assertion(
            form, client_id, client.keys, state.issuer, state.now, state.assertions_seen
        )
    except AssertionError_ as error:
        raise oauth_error(400, error.code, str(error)) from error
    if key_jkt == jkt:
        raise oauth_error(
            400,
            "invalid_request",
            "The DPoP proof must be signed with a different key than the client assertion",
        )
    return kid, key_jkt


@lru_cache(maxsize=1024)
def valid_loopback_client(client_id: str) -> bool:
    """``http://localhost`` without port or path, with nothing but redirect URIs on loopback and a scope."""
    try:
        parts = urlsplit(client_id)
    except ValueError:
        return False
    if (
        parts.scheme != "http"
        or parts.netloc != "localhost"
        or parts.path not in ("", "/")
        or "#" in client_id
    ):
        return False
    for name, value in parse_qsl(parts.query, keep_blank_values=True):
        if name == "redirect_uri":
            if not re.match(r"http://(127\.0\.0\.1|\[::1\])(:\d+)?(/|$)", value):
                return False
        elif name != "scope" or "atproto" not in value.split(" "):
            return False
    return True


def check_refresh_payload(form: dict[str, str]) -> None:
    """What a refresh must hold before anything else is looked at."""
    if not form.get("refresh_token"):
        raise oauth_error(400, "invalid_grant", 'Invalid request payload: "refresh_token" is required')
    if not form.get("client_id"):
        raise oauth_error(400, "invalid_grant", "Client credentials missing: client_id is required")


def refresh(state: State, form: dict[str, str], jkt: str, kid: str | None, key_jkt: str | None) -> Response:
    """The refresh grant (RFC 6749, section 6)."""
    session = state.refresh_tokens.get(form["refresh_token"])
    account = state.accounts.get(session.did) if session is not None else None
    if session is None or not session.alive:
        raise oauth_error(400, "invalid_grant", "Invalid refresh token")
    if account is None or account.status in ("takendown", "deleted"):
        state.kill(session, "account gone")
        raise oauth_error(400, "invalid_grant", "Invalid refresh token")

    # The token is taken here. Whatever is refused from now on ends the session, for every key and client.
    state.counters.consumptions += 1
    state.counters.consumptions_by_did[session.did] += 1
    problem = _problem(state, session, form, jkt, kid, key_jkt)
    if problem is not None:
        state.kill(session, problem, refusal=True)
        raise oauth_error(400, "invalid_grant", problem)
    rotate(state, session)
    state.counters.refreshes += 1
    return json_response(
        200, token_answer(state, session), ("Cache-Control", "no-store"), ("Pragma", "no-cache")
    )


def _problem(
    state: State, session: OAuthSession, form: dict[str, str], jkt: str, kid: str | None, key_jkt: str | None
) -> str | None:
    idle, total = state.lifetimes(session)
    if form["refresh_token"] != session.refresh_token:
        state.counters.replays_seen += 1
        return "Refresh token replayed"
    if form["client_id"] != session.client_id:
        return "Token was not issued to this client"
    if jkt != session.dpop_jkt:
        return "DPoP proof does not match the expected JKT"
    if session.client_key_jkt is not None:
        if key_jkt is None:
            return "Client authentication method mismatch (expected private_key_jwt)"
        if (kid, key_jkt) != (session.client_key_id, session.client_key_jkt):
            return "The session was initiated with a different key than the client assertion currently used"
    if state.now >= session.created_at + total:
        return "Session expired"
    if state.now >= session.updated_at + idle:
        return "Refresh token expired"
    return None


def rotate(state: State, session: OAuthSession) -> None:
    """Give a session new tokens; the old access token ends at once where the server keeps state."""
    now, options = state.now, state.options
    old = state.access_tokens.get(session.access_token)
    if old is not None and not options.stateless_access_tokens:
        old.current = False
    if options.rotate_refresh_tokens or not session.access_token:
        session.refresh_token = state.new_token("ref-")
        state.refresh_tokens[session.refresh_token] = session
    idle, total = state.lifetimes(session)
    expires_at = min(now + options.access_life, now + idle, session.created_at + total)
    session.access_token = _new_access_token(state, session, now, expires_at)
    state.access_tokens[session.access_token] = AccessToken(session, expires_at)
    session.updated_at = now
    session.generation += 1


def _new_access_token(state: State, session: OAuthSession, now: float, expires_at: float) -> str:
    if state.options.opaque_access_tokens:
        return state.new_token("acc-")
    claims = {
        "iss": state.issuer,
        "aud": state.service_did,
        "sub": session.did,
        "client_id": session.client_id,
        "scope": session.scope,
        "cnf": {"jkt": session.dpop_jkt},
        "iat": int(now),
        "exp": max(int(now) + 1, round(expires_at)),
        "jti": state.new_token("tok-")[:36],
    }
    return sign_hmac(state.jwt_secret, "at+jwt", claims)


def token_answer(state: State, session: OAuthSession) -> dict[str, Any]:
    """The body of a successful answer."""
    # The millisecond keeps a whole number whole: (t + 600.0) - t may be a hair less than 600.
    life = state.access_tokens[session.access_token].expires_at - session.updated_at + 0.001
    return {
        "access_token": session.access_token,
        "token_type": "DPoP",
        "refresh_token": session.refresh_token,
        "scope": session.scope,
        "expires_in": max(1, int(life)),
        "sub": session.did,
    }


def _revocable(state: State, request: Request) -> OAuthSession | None:
    """The session that a revocation names and may end, if it proves both the key and the client."""
    try:
        form = parse_form(request)
        if not form.get("client_id"):
            return None
        jkt = check_proof(state, request)
        kid, key_jkt = authenticate_client(state, form, jkt)
    except Refused:
        return None
    value = form.get("token", "")
    session = state.refresh_tokens.get(value)
    if session is None and value in state.access_tokens:
        session = state.access_tokens[value].session
    if session is None or not session.alive or value not in (session.refresh_token, session.access_token):
        return None
    if (session.client_id, session.dpop_jkt) != (form["client_id"], jkt):
        return None
    if (session.client_key_id, session.client_key_jkt) != (kid, key_jkt):
        return None
    return session
