"""``NodeSavedSession`` of the npm package ``@atproto/oauth-client-node``: what its session store is given to keep."""

import json
from collections.abc import Mapping
from typing import Any

from idiolectd.errors import SessionError
from idiolectd.moving.form import Form
from idiolectd.moving.found import Entry, key_text, made
from idiolectd.oauth import AuthorizationServer
from idiolectd.session import OAuthSession


def _fits(fields: Mapping[str, Any]) -> bool:
    return {"dpopJwk", "tokenSet"} <= fields.keys()


def _session(entry: Entry) -> OAuthSession:
    tokens, method = entry.fields["tokenSet"], entry.fields.get("authMethod")
    if not isinstance(tokens, dict):
        raise SessionError("its tokenSet is no object")
    if not tokens.get("refresh_token"):
        raise SessionError("it has no refresh token")
    # Older versions keep the method's name alone, or "legacy", which says that nobody knows it.
    method = method if isinstance(method, dict) else {}
    return made(
        {
            "did": tokens.get("sub"),
            "pdsUrl": tokens.get("aud"),
            "accessJwt": tokens.get("access_token"),
            "refreshJwt": tokens.get("refresh_token"),
            "dpopPrivateKeyJwk": key_text(entry.fields["dpopJwk"]),
            "tokenType": tokens.get("token_type"),
            "scope": tokens.get("scope"),
            "expiresAt": tokens.get("expires_at"),
            "issuer": tokens.get("iss"),
            "clientAuthMethod": method.get("method"),
            "clientKeyId": method.get("kid"),
        }
    )


def _encode(session: OAuthSession, _server: AuthorizationServer | None) -> Any:
    if session.kind != "dpop" or session.issuer is None:
        raise SessionError("it keeps OAuth sessions only")
    key = json.loads(session.dpop_private_key_jwk or "")
    method = {"method": session.client_auth_method or "none"}
    if session.client_key_id is not None:
        method["kid"] = session.client_key_id
    tokens = {
        "iss": session.issuer,
        "sub": session.did,
        "aud": session.pds_url,
        "scope": session.scope or "atproto",
        "refresh_token": session.refresh_jwt,
        "access_token": session.access_jwt,
        "token_type": "DPoP",
        "expires_at": session.expires_at,
    }
    # atproto has ES256 only (specs/oauth), and the package wants it said.
    return {"dpopJwk": {"alg": "ES256", **key}, "authMethod": method, "tokenSet": _said(tokens)}


def _said(tokens: Mapping[str, str]) -> dict[str, str]:
    return {name: value for name, value in tokens.items() if value}


NODE = Form(
    name="node",
    program="@atproto/oauth-client-node",
    stop="the Node program whose sessionStore it is; it refreshes whenever restore() finds an old token",
    fits=_fits,
    session=_session,
    encode=_encode,
)
