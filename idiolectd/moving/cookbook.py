"""The table ``oauth_session`` of the Python web application in Bluesky's cookbook (``python-oauth-web-app``)."""

from collections.abc import Mapping
from typing import Any

from idiolectd.moving.form import Form
from idiolectd.moving.found import Entry, key_text, made
from idiolectd.session import OAuthSession


def _fits(fields: Mapping[str, Any]) -> bool:
    return {"did", "dpop_private_jwk", "authserver_iss", "refresh_token"} <= fields.keys()


def _session(entry: Entry) -> OAuthSession:
    fields = entry.fields
    return made(
        {
            "did": fields.get("did"),
            "pdsUrl": fields.get("pds_url"),
            "accessJwt": fields.get("access_token"),
            "refreshJwt": fields.get("refresh_token"),
            "dpopPrivateKeyJwk": key_text(fields["dpop_private_jwk"]),
            "dpopNonce": fields.get("dpop_pds_nonce"),
            "tokenType": "DPoP",
            "handle": fields.get("handle"),
            "issuer": fields.get("authserver_iss"),
        }
    )


COOKBOOK = Form(
    name="cookbook",
    program="the cookbook's Python web application",
    stop="the web application; its refresh route sends the refresh token",
    fits=_fits,
    session=_session,
)
