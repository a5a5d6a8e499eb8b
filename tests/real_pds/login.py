"""From a password to a session record, without a browser.

`oauth_login` walks the way a person's browser walks: pushed authorization request,
authorize page, sign-in, consent, code exchange. It makes the same JSON calls as the
server's own sign-in page, which are that page's private matter: a new version of the
server may need changes here. `legacy_login` is createSession.

What this module does not do: refresh, or use the tokens (`client`).
"""

import hashlib
import secrets
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import parse_qs, quote, urlencode, urlsplit

import httpx

from tests.jose import b64u, decode, new_jwk
from tests.real_pds.client import Record, discover, jwt_expiry, loopback, post_form, stamp
from tests.real_pds.proofs import ConfidentialClient

SCOPE = "atproto transition:generic"
LOOPBACK_REDIRECT = "http://127.0.0.1/callback"

_PAGE_API = "/@atproto/oauth-provider/~api"


class LoginFailedError(Exception):
    """The server refused a step; the message says which, and what it answered."""


def loopback_client_id(redirect_uri: str = LOOPBACK_REDIRECT, scope: str = SCOPE) -> str:
    """The client_id of a public client on this machine; it says all there is to know of it."""
    return "http://localhost?" + urlencode({"redirect_uri": redirect_uri, "scope": scope}, quote_via=quote)


def oauth_login(
    pds_url: str,
    handle: str,
    password: str,
    *,
    client: ConfidentialClient | None = None,
    scope: str = SCOPE,
    crv: str = "P-256",
) -> Record:
    """Log in over OAuth and return the session's record.

    Args:
        pds_url: the PDS; it names its authorization server.
        handle: the account's handle.
        password: its password.
        client: a confidential client, which the server must know already; None: a public loopback client.
        scope: what to ask for.
        crv: the curve of the new DPoP key, "P-256" or "secp256k1".
    """
    key = new_jwk(crv)
    client_id = client.client_id if client else loopback_client_id(scope=scope)
    redirect_uri = client.redirect_uri if client else LOOPBACK_REDIRECT
    server = discover(pds_url)
    issuer: str = server["issuer"]
    verifier, state = secrets.token_urlsafe(48), secrets.token_urlsafe(16)

    def form(**fields: str) -> dict[str, str]:
        own = {"client_id": client_id, "redirect_uri": redirect_uri}
        return own | fields | (client.auth_fields(issuer) if client else {})

    pushed = post_form(
        server["pushed_authorization_request_endpoint"],
        lambda: form(
            response_type="code",
            scope=scope,
            state=state,
            code_challenge=b64u(hashlib.sha256(verifier.encode()).digest()),
            code_challenge_method="S256",
            login_hint=handle,
        ),
        key,
    )
    request_uri = _checked("the pushed request", pushed, 201)["request_uri"]
    page = f"{server['authorization_endpoint']}?{urlencode({'client_id': client_id, 'request_uri': request_uri})}"
    back = _consent(issuer, page, handle, password, scope)
    if back.get("state") != [state] or back.get("iss") != [issuer] or "code" not in back:
        raise LoginFailedError(f"the consent led to {back}")

    answer = post_form(
        server["token_endpoint"],
        lambda: form(grant_type="authorization_code", code=back["code"][0], code_verifier=verifier),
        key,
        nonce=pushed.headers.get("dpop-nonce"),
    )
    tokens = _checked("the code exchange", answer, 200)
    now = datetime.now(UTC)
    record = {
        "did": tokens["sub"],
        "pdsUrl": pds_url,
        "accessJwt": tokens["access_token"],
        "refreshJwt": tokens["refresh_token"],
        "dpopPrivateKeyJwk": key,
        "dpopNonce": answer.headers["dpop-nonce"],
        "tokenType": "DPoP",
        "scope": tokens["scope"],
        "handle": handle,
        "issuedAt": stamp(now),
        "expiresAt": stamp(now + timedelta(seconds=tokens["expires_in"])),
        "issuer": issuer,
        "clientId": client_id,
        "clientAuthMethod": "private_key_jwt" if client else "none",
        "sessionStartedAt": stamp(now),
    }
    return record | ({"clientKeyId": client.key_id} if client else {})


def legacy_login(pds_url: str, handle: str, password: str) -> Record:
    """Log in with createSession and return the session's record."""
    with loopback() as http:
        answer = http.post(
            f"{pds_url}/xrpc/com.atproto.server.createSession",
            json={"identifier": handle, "password": password},
        )
    tokens = _checked("createSession", answer, 200)
    now = stamp(datetime.now(UTC))
    return {
        "did": tokens["did"],
        "pdsUrl": pds_url,
        "accessJwt": tokens["accessJwt"],
        "refreshJwt": tokens["refreshJwt"],
        "dpopPrivateKeyJwk": "",
        "tokenType": "Bearer",
        "scope": decode(tokens["accessJwt"])[1]["scope"],
        "handle": tokens["handle"],
        "issuedAt": now,
        "expiresAt": stamp(jwt_expiry(tokens["accessJwt"])),
        "issuer": pds_url,
        "clientId": "",
        "clientAuthMethod": "none",
        "sessionStartedAt": now,
    }


def create_app_password(pds_url: str, handle: str, password: str, name: str) -> str:
    """A new app password of that name, for `legacy_login`."""
    session = legacy_login(pds_url, handle, password)
    with loopback() as http:
        answer = http.post(
            f"{pds_url}/xrpc/com.atproto.server.createAppPassword",
            json={"name": name},
            headers={"Authorization": f"Bearer {session['accessJwt']}"},
        )
    made: str = _checked("createAppPassword", answer, 200)["password"]
    return made


def _consent(issuer: str, page: str, handle: str, password: str, scope: str) -> dict[str, list[str]]:
    """What a person does on the authorize page; returns the query the browser is sent back with."""
    with loopback() as http:
        document = {"Sec-Fetch-Site": "none", "Sec-Fetch-Mode": "navigate", "Sec-Fetch-Dest": "document"}
        opened = http.get(page, headers=document)
        if opened.status_code != 200:
            raise LoginFailedError(f"the authorize page: {opened.status_code} {opened.text[:300]}")
        # The cookies are carried by hand: they are marked Secure, and a jar keeps those from http.
        cookies = _cookies(opened)

        def api(path: str, body: dict[str, Any], token: str | None = None) -> dict[str, Any]:
            headers = {
                "Sec-Fetch-Site": "same-origin",
                "Sec-Fetch-Mode": "same-origin",
                "Sec-Fetch-Dest": "empty",
                "Origin": issuer,
                "Referer": page,
                "X-CSRF-Token": cookies["csrf-token"],
                "Cookie": "; ".join(f"{name}={value}" for name, value in cookies.items()),
            }
            if token:
                headers["Authorization"] = f"Bearer {token}"
            http.cookies.clear()
            answer = http.post(issuer + _PAGE_API + path, json=body, headers=headers)
            cookies.update(_cookies(answer))
            return _checked(path, answer, 200)

        who = {"locale": "en", "username": handle, "password": password, "remember": False}
        signed_in = api("/sign-in", who)
        key = "did" if "did" in signed_in["account"] else "sub"  # as releases before 0.5 call it
        who_consents = {key: signed_in["account"][key], "scope": scope}
        consented = api("/consent", who_consents, signed_in.get("ephemeralToken"))
    return parse_qs(urlsplit(consented["url"]).query)


def _cookies(answer: httpx.Response) -> dict[str, str]:
    pairs = (line.partition(";")[0].partition("=") for line in answer.headers.get_list("set-cookie"))
    return {name: value for name, _, value in pairs}


def _checked(step: str, answer: httpx.Response, status: int) -> dict[str, Any]:
    if answer.status_code != status:
        raise LoginFailedError(f"{step}: {answer.status_code} {answer.text}")
    body: dict[str, Any] = answer.json()
    return body
