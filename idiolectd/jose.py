"""The parts of JOSE that need no key: base64url, a JWT's claims, hashes of tokens and keys.

Nothing here verifies a signature. The claims that `peek_claims` returns are hints; no decision about trust
may rest on them.
"""

import base64
import binascii
import hashlib
from collections.abc import Mapping
from json.encoder import encode_basestring_ascii
from typing import Any

from idiolectd.foreign import json_object, number


def b64url_encode(data: bytes) -> str:
    """Base64url without padding (RFC 7515, section 2)."""
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode("ascii")


def b64url_decode(text: str) -> bytes:
    """The reverse of `b64url_encode`.

    Raises:
        ValueError: not base64url.
    """
    try:
        return base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)
    except (binascii.Error, UnicodeEncodeError) as error:
        raise ValueError("not base64url") from error


def peek_claims(token: str) -> Mapping[str, Any]:
    """The claims of a JWT, unverified; empty if the token is opaque."""
    parts = token.split(".")
    if len(parts) != 3:
        return {}
    try:
        return json_object(b64url_decode(parts[1])) or {}
    except ValueError:
        return {}


def numeric_claim(claims: Mapping[str, Any], name: str) -> float | None:
    """A NumericDate claim (RFC 7519, section 2) as seconds since the epoch; None if there is none."""
    value = claims.get(name)
    # Beyond the year 9999 it is not a date that anything else here can write.
    return None if isinstance(value, str) else number(value, 0, 253_402_300_799)


def claimed_life(token: str) -> float | None:
    """The lifetime of a JWT in seconds, `exp` minus `iat`; None if it lacks one of them.

    Only the difference is used, because the server's clock may differ from ours.
    """
    claims = peek_claims(token)
    issued_at, expires_at = numeric_claim(claims, "iat"), numeric_claim(claims, "exp")
    if issued_at is None or expires_at is None or expires_at <= issued_at:
        return None
    return expires_at - issued_at


def token_hash(token: str) -> str:
    """The SHA-256 of a token in base64url, which is stored instead of a spent token."""
    return b64url_encode(hashlib.sha256(token.encode("utf-8", "surrogatepass")).digest())


def jwk_thumbprint(jwk: Mapping[str, Any]) -> str:
    """The thumbprint of an EC key (RFC 7638), which tokens bound to it hold as ``cnf.jkt`` (RFC 9449).

    Raises:
        ValueError: it is not an EC key.
    """
    members: dict[str, Any] = {name: jwk.get(name) for name in ("crv", "kty", "x", "y")}
    if members["kty"] != "EC" or not all(isinstance(value, str) for value in members.values()):
        raise ValueError("not an EC key")
    canonical = ",".join(f'"{name}":{encode_basestring_ascii(value)}' for name, value in members.items())
    return b64url_encode(hashlib.sha256(f"{{{canonical}}}".encode()).digest())
