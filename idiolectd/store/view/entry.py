"""One session as clients see it.

The record in its usual shape, so that every reader of records reads it (idiolect-oauth's stores too), but with an
empty ``refreshJwt``, and beside the known fields how the session stands::

    {"did": ..., "accessJwt": ..., "refreshJwt": "", ..., "state": "relogin_required", "cause": "revoked"}

Fields that this program does not know are left out: nobody can say that they hold no refresh token. The JWK
carries ``alg``, which the npm clients need and idiolect-oauth does not write.
"""

import json
from dataclasses import replace

from idiolectd.errors import SessionError
from idiolectd.session import OAuthSession
from idiolectd.store.view.standing import Standing


def encode_entry(session: OAuthSession, standing: Standing) -> bytes:
    """The entry of a session.

    Raises:
        SessionError: a field holds what is no Unicode text, which no reader would take.
    """
    shown = replace(
        session,
        refresh_jwt="",
        dpop_private_key_jwk=_with_alg(session.dpop_private_key_jwk),
        extra=standing.as_fields(),
    )
    try:
        return shown.to_json().encode()
    except UnicodeEncodeError:
        raise SessionError("a field holds a lone surrogate") from None


def _with_alg(jwk: str | None) -> str | None:
    """The JWK with its algorithm (RFC 7517, section 4.4); atproto has ES256 only (specs/oauth)."""
    try:
        key = json.loads(jwk or "")
    except (ValueError, RecursionError):
        return jwk
    if not isinstance(key, dict) or "alg" in key or key.get("crv") != "P-256":
        return jwk
    return json.dumps({**key, "alg": "ES256"}, separators=(",", ":"))
