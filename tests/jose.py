"""Keys, proofs and assertions, signed and verified by joserfc.

The package under test has its own code for this (`idiolectd.jose`, on cryptography alone); what checks it
must be somebody else's. Judging claims is left to the simulator (`tests.simulator.proofs`).
"""

import base64
import hashlib
import json
import re
from collections.abc import Mapping
from functools import lru_cache
from typing import Any

from joserfc import jws
from joserfc.errors import JoseError as LibraryError
from joserfc.jwk import ECKey, OctKey

CURVES = {"ES256": "P-256", "ES256K": "secp256k1"}
_ALG_OF_CURVE = {crv: alg for alg, crv in CURVES.items()}

# RFC 7515, section 2: base64url without padding. The library is more lenient.
_COMPACT = re.compile(r"([A-Za-z0-9_-]+)\.([A-Za-z0-9_-]+)\.([A-Za-z0-9_-]*)")
_COORDINATE = re.compile(r"[A-Za-z0-9_-]{43}")

# Unknown header parameters are ignored (RFC 7515, section 4), as the reference server does.
_REGISTRY = jws.JWSRegistry(algorithms=[*CURVES, "HS256"], strict_check_header=False)
_REGISTRY.max_header_length = 8192


class JoseError(ValueError):
    """The token or key is not what it claims to be; the text says which rule it broke."""


def b64u(data: bytes) -> str:
    """Base64url without padding."""
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def sha256_b64u(text: str) -> str:
    """The ``ath`` of a token."""
    return b64u(hashlib.sha256(text.encode()).digest())


# Keys --------------------------------------------------------------------------------------------


def new_key(alg: str = "ES256", seed: bytes | None = None) -> ECKey:
    """A private key; from a seed if it is to be the same in every run."""
    crv = CURVES[alg]
    return ECKey.generate_key(crv) if seed is None else ECKey.derive_key(seed, crv)


def new_jwk(crv: str = "P-256") -> str:
    """A new private key, as the JSON of its JWK."""
    return json.dumps(private_jwk(new_key(_ALG_OF_CURVE[crv])), separators=(",", ":"))


def load_private_jwk(jwk: Mapping[str, Any]) -> ECKey:
    """A private key from its JWK."""
    return ECKey.import_key({name: jwk[name] for name in ("kty", "crv", "x", "y", "d")})


def alg_of(key: ECKey) -> str:
    """The JWS algorithm that fits a key's curve."""
    return _ALG_OF_CURVE[key.curve_name]


def public_jwk(key: ECKey) -> dict[str, str]:
    """The public half, with the members that a thumbprint needs and no other."""
    return _members(key.as_dict(private=False), "kty", "crv", "x", "y")


def private_jwk(key: ECKey) -> dict[str, str]:
    """The whole key as a JWK."""
    return _members(key.as_dict(private=True), "kty", "crv", "x", "y", "d")


def thumbprint(jwk: Mapping[str, Any]) -> str:
    """RFC 7638."""
    return _public_key(jwk["crv"], jwk["x"], jwk["y"]).thumbprint()


def _members(jwk: Mapping[str, Any], *names: str) -> dict[str, str]:
    return {name: jwk[name] for name in names}


@lru_cache(maxsize=65536)
def _public_key(crv: str, x: str, y: str) -> ECKey:
    if not _COORDINATE.fullmatch(x) or not _COORDINATE.fullmatch(y):
        raise JoseError("Invalid JWK")
    try:
        key = ECKey.import_key({"kty": "EC", "crv": crv, "x": x, "y": y})
        _ = key.public_key
    except (LibraryError, ValueError, KeyError) as error:
        raise JoseError("Invalid JWK: not a point on its curve") from error
    return key


# Compact JWS -------------------------------------------------------------------------------------


def decode(token: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """Header and claims, nothing verified."""
    if not _COMPACT.fullmatch(token):
        raise JoseError("Invalid Compact JWS")
    try:
        found = jws.extract_compact(token.encode(), registry=_REGISTRY)
        header: Any = found.headers()
        claims = json.loads(found.payload)
    except (LibraryError, ValueError, RecursionError) as error:
        raise JoseError("Invalid Compact JWS") from error
    if not isinstance(header, dict) or not isinstance(claims, dict):
        raise JoseError("Invalid Compact JWS")
    return header, claims


def verify(token: str, jwk: Mapping[str, Any]) -> None:
    """Checks an ECDSA signature by a public JWK, which must fit the algorithm and hold no secret."""
    alg = decode(token)[0].get("alg")
    if alg not in CURVES:
        raise JoseError('Unsupported "alg"')
    if jwk.get("kty") != "EC" or jwk.get("crv") != CURVES[alg] or "d" in jwk:
        raise JoseError('"jwk" must be a public key that fits "alg"')
    if not isinstance(jwk.get("x"), str) or not isinstance(jwk.get("y"), str):
        raise JoseError("Invalid JWK")
    key = _public_key(jwk["crv"], jwk["x"], jwk["y"])
    try:
        jws.deserialize_compact(token, key, registry=_REGISTRY)
    except (LibraryError, ValueError) as error:
        raise JoseError("signature verification failed") from error


def sign(key: ECKey, header: Mapping[str, Any], claims: Mapping[str, Any]) -> str:
    """A compact JWS by an EC key, signed with the algorithm of its curve whatever the header says."""
    return _signed(key, alg_of(key), header, claims)


def sign_hmac(secret: bytes, typ: str, claims: Mapping[str, Any]) -> str:
    """A compact HS256 JWS, as the reference PDS makes for its own tokens."""
    return _signed(_oct_key(secret), "HS256", {"typ": typ, "alg": "HS256"}, claims)


@lru_cache(maxsize=1024)
def _oct_key(secret: bytes) -> OctKey:
    return OctKey.import_key(secret)


def _signed(key: ECKey | OctKey, alg: str, header: Mapping[str, Any], claims: Mapping[str, Any]) -> str:
    parts = (json.dumps(part, separators=(",", ":")).encode() for part in (header, claims))
    message = ".".join(map(b64u, parts))
    return f"{message}.{b64u(_REGISTRY.get_alg(alg).sign(message.encode(), key))}"
