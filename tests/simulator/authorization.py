"""Logins: the pushed authorization request, the authorize page, and what a code is good for.

Does: judge a pushed request as the reference server does (proof and nonce, client, redirect URI, scope, PKCE),
and bind the code to its key, client, client key, redirect URI and verifier; codes and requests are good once.
Does not: show a page or ask anybody: whoever follows the URL is redirected at once, as `State.consent` says.
"""

from __future__ import annotations

import hashlib
import re
from urllib.parse import parse_qs, urlencode, urlsplit

from tests.jose import b64u
from tests.simulator.oauth import authenticate_client, check_proof, parse_form, rotate, token_answer
from tests.simulator.state import Account, Client, OAuthSession, PushedRequest, State
from tests.simulator.wire import Request, Response, json_response, oauth_error

PAR_PATH = "/oauth/par"
AUTHORIZE_PATH = "/oauth/authorize"

REQUEST_LIFE = 300.0
URI_PREFIX = "urn:ietf:params:oauth:request_uri:"

ALLOW, DENY = "allow", "deny"

_LOOPBACK = re.compile(r"(http://(?:127\.0\.0\.1|\[::1\]))(?::\d+)?(/.*)?")
_CHALLENGE = re.compile(r"[A-Za-z0-9_-]{43}")
_VERIFIER = re.compile(r"[A-Za-z0-9._~-]{43,128}")


def push(state: State, request: Request) -> Response:
    """The pushed authorization request endpoint (RFC 9126)."""
    if request.method != "POST":
        raise oauth_error(405, "invalid_request", "Method Not Allowed")
    state.counters.pushed_requests += 1
    form = parse_form(request)
    if not form.get("client_id"):
        raise oauth_error(400, "invalid_client", "Client credentials missing: client_id is required")
    jkt = check_proof(state, request)
    kid, key_jkt = authenticate_client(state, form, jkt)
    client = _client(state, form["client_id"])
    _check_request(client, form)
    pushed = PushedRequest(
        client_id=form["client_id"],
        client_key_id=kid,
        client_key_jkt=key_jkt,
        dpop_jkt=jkt,
        redirect_uri=form["redirect_uri"],
        scope=form["scope"],
        state=form.get("state"),
        code_challenge=form["code_challenge"],
        login_hint=form.get("login_hint"),
        expires_at=state.now + REQUEST_LIFE,
    )
    uri = URI_PREFIX + state.new_token("req-")[:36]
    state.pushed[uri] = pushed
    answer = {"request_uri": uri, "expires_in": int(REQUEST_LIFE)}
    return json_response(201, answer, ("Cache-Control", "no-store"), ("Pragma", "no-cache"))


def authorize(state: State, request: Request) -> Response:
    """The authorize page, with a person behind it who has made up their mind: `State.consent`."""
    if request.method != "GET":
        raise oauth_error(405, "invalid_request", "Method Not Allowed")
    query = request.query
    pushed = state.pushed.pop(query.get("request_uri", ""), None)
    if pushed is None:
        raise oauth_error(400, "invalid_request", "Unknown request_uri")
    if query.get("client_id") != pushed.client_id:
        return _back(
            state, pushed, error="access_denied", text="This request was initiated for another client"
        )
    if state.now > pushed.expires_at:
        return _back(state, pushed, error="access_denied", text="This request has expired")
    if state.consent == DENY:
        return _back(state, pushed, error="access_denied", text="The user rejected the request")
    account = _consenting(state, pushed)
    if account is None:
        raise oauth_error(400, "invalid_request", "Nobody signs in: no account fits the login_hint")
    code = state.new_token("cod-")
    pushed.did, pushed.expires_at = account.did, state.now + REQUEST_LIFE
    state.codes[code] = pushed
    return _back(state, pushed, code=code)


def check_code_payload(form: dict[str, str]) -> None:
    """What a code grant must hold before anything else is looked at."""
    for name in ("code", "client_id"):
        if not form.get(name):
            raise oauth_error(400, "invalid_grant", f'Invalid request payload: "{name}" is required')


def redeem(state: State, form: dict[str, str], jkt: str, kid: str | None, key_jkt: str | None) -> Response:
    """The code grant (RFC 6749, section 4.1.3). Whatever is refused once the code was found ends the login."""
    state.counters.code_requests += 1
    session = state.redeemed.get(form["code"])
    if session is not None:
        state.kill(session, "code replayed")
    pushed = state.codes.pop(form["code"], None)
    if pushed is None or pushed.did is None:
        raise oauth_error(400, "invalid_grant", "Invalid code")
    problem = _problem(state, pushed, form, (jkt, kid, key_jkt))
    if problem is not None:
        raise oauth_error(400, "invalid_grant", problem)
    session = OAuthSession(
        did=pushed.did,
        client_id=pushed.client_id,
        client_key_id=kid,
        client_key_jkt=key_jkt,
        dpop_jkt=jkt,
        scope=pushed.scope,
        created_at=state.now,
        updated_at=state.now,
        refresh_token="",
    )
    state.oauth_sessions.append(session)
    rotate(state, session)
    session.generation = 0
    state.redeemed[form["code"]] = session
    state.counters.logins += 1
    return json_response(
        200, token_answer(state, session), ("Cache-Control", "no-store"), ("Pragma", "no-cache")
    )


def _problem(
    state: State, pushed: PushedRequest, form: dict[str, str], now_by: tuple[str, str | None, str | None]
) -> str | None:
    jkt, kid, key_jkt = now_by
    verifier = form.get("code_verifier", "")
    challenge = b64u(hashlib.sha256(verifier.encode()).digest())
    first_use = challenge not in state.challenges_seen
    if state.now > pushed.expires_at:
        return "This code has expired"
    if form["client_id"] != pushed.client_id:
        return "Token was not issued to this client"
    if jkt != pushed.dpop_jkt:
        return "DPoP proof does not match the expected JKT"
    if (kid, key_jkt) != (pushed.client_key_id, pushed.client_key_jkt):
        return "The session was initiated with a different key than the client assertion currently used"
    if form.get("redirect_uri") != pushed.redirect_uri:
        return "The redirect_uri parameter must match the one used in the authorization request"
    if not _VERIFIER.fullmatch(verifier) or challenge != pushed.code_challenge:
        return "Invalid code_verifier"
    state.challenges_seen.add(challenge)
    return None if first_use else "Code challenge already used"


def _check_request(client: Client, form: dict[str, str]) -> None:
    if form.get("response_type") != "code":
        raise oauth_error(400, "unsupported_response_type", "Unsupported response_type")
    scopes = form.get("scope", "").split(" ")
    for scope in scopes:
        if scope not in client.scope.split(" "):
            raise oauth_error(400, "invalid_scope", f'Scope "{scope}" is not declared in the client metadata')
    if "atproto" not in scopes:
        raise oauth_error(400, "invalid_scope", 'The "atproto" scope is required')
    redirect_uri = form.get("redirect_uri", "")
    if not any(_same_redirect(known, redirect_uri) for known in client.redirect_uris):
        raise oauth_error(400, "invalid_request", f"Invalid redirect_uri {redirect_uri}")
    if not _CHALLENGE.fullmatch(form.get("code_challenge", "")):
        raise oauth_error(400, "invalid_request", "Use of PKCE is required")
    if form.get("code_challenge_method") != "S256":
        raise oauth_error(400, "invalid_request", 'atproto requires use of "S256" code_challenge_method')


def _same_redirect(known: str, asked: str) -> bool:
    """Equal, or on loopback equal but for the port (RFC 8252, section 7.3)."""
    ours, theirs = _LOOPBACK.fullmatch(known), _LOOPBACK.fullmatch(asked)
    if ours and theirs:
        return (ours[1], ours[2] or "/") == (theirs[1], theirs[2] or "/")
    return known == asked


def _client(state: State, client_id: str) -> Client:
    known = state.clients.get(client_id)
    if known is not None:
        return known
    declared = parse_qs(urlsplit(client_id).query)
    return Client(
        client_id,
        {},
        redirect_uris=tuple(declared.get("redirect_uri", ("http://127.0.0.1/", "http://[::1]/"))),
        scope=declared.get("scope", ["atproto"])[0],
    )


def _consenting(state: State, pushed: PushedRequest) -> Account | None:
    """Who signs in: the one that the hint names, or, by `State.consent`, somebody else."""
    who = pushed.login_hint if state.consent == ALLOW else state.consent
    found = state.accounts.get(state.handles.get((who or "").lower(), who or ""))
    return found if found is not None and found.status == "active" else None


def _back(
    state: State, pushed: PushedRequest, *, code: str = "", error: str = "", text: str = ""
) -> Response:
    fields = {"iss": state.issuer}
    if pushed.state is not None:
        fields["state"] = pushed.state
    fields |= {"error": error, "error_description": text} if error else {"code": code}
    joint = "&" if "?" in pushed.redirect_uri else "?"
    where = pushed.redirect_uri + joint + urlencode(fields)
    return Response(303, [("Location", where), ("Cache-Control", "no-store")])
