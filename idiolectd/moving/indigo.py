"""``ClientSessionData`` of the Go package indigo (``atproto/auth/oauth``): as JSON, or a column for each field."""

from collections.abc import Mapping
from typing import Any

from idiolectd.errors import SessionError
from idiolectd.jose import b64url_encode
from idiolectd.moving.base58 import base58_decode, base58_encode
from idiolectd.moving.form import Form
from idiolectd.moving.found import Entry, made, parsed
from idiolectd.oauth import AuthorizationServer, SigningKey
from idiolectd.session import OAuthSession

# https://atproto.com/specs/cryptography, and the multicodec table: p256-priv, as a varint.
_BASE58BTC = "z"
_P256_PRIVATE = bytes((0x86, 0x26))
_KEY_BYTES = 32


def _fits(fields: Mapping[str, Any]) -> bool:
    return {"account_did", "refresh_token", "dpop_privatekey_multibase"} <= fields.keys()


def _session(entry: Entry) -> OAuthSession:
    fields = entry.fields
    return made(
        {
            "did": fields.get("account_did"),
            "pdsUrl": fields.get("host_url"),
            "accessJwt": fields.get("access_token"),
            "refreshJwt": fields.get("refresh_token"),
            "dpopPrivateKeyJwk": _jwk(fields["dpop_privatekey_multibase"]),
            "dpopNonce": fields.get("dpop_host_nonce"),
            "tokenType": "DPoP",
            "scope": _scope(fields.get("scopes")),
            "issuer": fields.get("authserver_url"),
        }
    )


def _scope(value: Any) -> str | None:
    """The scopes as text: the package keeps a list, databases also its JSON or text with commas."""
    found = parsed(value) if isinstance(value, str) else value
    if isinstance(found, list):
        return " ".join(str(scope) for scope in found)
    return " ".join(value.replace(",", " ").split()) if isinstance(value, str) else None


def _jwk(text: Any) -> str:
    try:
        return SigningKey.of_p256(_key_bytes(text)).to_private_jwk()
    except ValueError:
        raise SessionError("its DPoP key is no multibase text of a P-256 key") from None


def _key_bytes(text: Any) -> bytes:
    if not isinstance(text, str) or not text.startswith(_BASE58BTC):
        raise ValueError("not base58btc")
    data = base58_decode(text.removeprefix(_BASE58BTC), len(_P256_PRIVATE) + _KEY_BYTES)
    if not data.startswith(_P256_PRIVATE):
        raise ValueError("another kind of key")
    return data.removeprefix(_P256_PRIVATE)


def _encode(session: OAuthSession, server: AuthorizationServer | None) -> Any:
    if session.kind != "dpop" or server is None:
        raise SessionError("it keeps OAuth sessions only")
    key = SigningKey.parse(session.dpop_private_key_jwk or "")
    if key.alg != "ES256":
        raise SessionError("it keeps P-256 keys only")
    return {
        "account_did": session.did,
        "session_id": b64url_encode(session.refresh_token_hash.encode())[:22],
        "host_url": session.pds_url,
        "authserver_url": server.issuer,
        "authserver_token_endpoint": str(server.token_endpoint),
        "authserver_revocation_endpoint": str(server.revocation_endpoint or ""),
        "scopes": (session.scope or "atproto").split(),
        "access_token": session.access_jwt,
        "refresh_token": session.refresh_jwt,
        "dpop_authserver_nonce": "",
        "dpop_host_nonce": session.dpop_nonce or "",
        "dpop_privatekey_multibase": _BASE58BTC + base58_encode(_P256_PRIVATE + key.private_bytes()),
    }


INDIGO = Form(
    name="indigo",
    program="indigo's OAuth client (Go)",
    stop="the Go program whose ClientAuthStore it is; it refreshes when a PDS answers 401",
    fits=_fits,
    session=_session,
    encode=_encode,
)
