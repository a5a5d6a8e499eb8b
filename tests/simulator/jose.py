"""Keys, thumbprints and compact JWS, written from the RFCs (7515, 7517, 7518, 7638, 8812).

Does: ES256, ES256K and HS256, sign and verify; parse without trusting.
Does not: judge claims (see ``proofs``) or remember anything but parsed public keys.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import json
from functools import lru_cache
from typing import Any

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature, encode_dss_signature

CURVES: dict[str, tuple[str, ec.EllipticCurve]] = {
    "ES256": ("P-256", ec.SECP256R1()),
    "ES256K": ("secp256k1", ec.SECP256K1()),
}
_ALG_OF_CURVE = {"secp256r1": "ES256", "secp256k1": "ES256K"}
_SHA256 = ec.ECDSA(hashes.SHA256())


class JoseError(ValueError):
    """The token or key is not what it claims to be; the text says which rule it broke."""


def b64u(data: bytes) -> str:
    """Base64url without padding."""
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def unb64u(text: str) -> bytes:
    """The reverse of `b64u`; padding, blanks and the other alphabet are refused."""
    if not text.isascii() or any(c in text for c in "=+/ \r\n"):
        raise JoseError("Invalid base64url")
    try:
        return base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)
    except binascii.Error as error:
        raise JoseError("Invalid base64url") from error


def sha256_b64u(text: str) -> str:
    """The ``ath`` of a token."""
    return b64u(hashlib.sha256(text.encode()).digest())


def new_key(alg: str = "ES256", secret: int | None = None) -> ec.EllipticCurvePrivateKey:
    """A private key; from a given scalar if it is to be the same in every run."""
    curve = CURVES[alg][1]
    return ec.generate_private_key(curve) if secret is None else ec.derive_private_key(secret, curve)


def alg_of(key: ec.EllipticCurvePrivateKey) -> str:
    """The JWS algorithm that fits a key's curve."""
    return _ALG_OF_CURVE[key.curve.name]


def public_jwk(key: ec.EllipticCurvePrivateKey) -> dict[str, str]:
    """The public half, with the members that a thumbprint needs and no other."""
    numbers = key.public_key().public_numbers()
    return {
        "kty": "EC",
        "crv": CURVES[alg_of(key)][0],
        "x": b64u(numbers.x.to_bytes(32, "big")),
        "y": b64u(numbers.y.to_bytes(32, "big")),
    }


def private_jwk(key: ec.EllipticCurvePrivateKey) -> dict[str, str]:
    """The whole key as a JWK."""
    return {**public_jwk(key), "d": b64u(key.private_numbers().private_value.to_bytes(32, "big"))}


def load_private_jwk(jwk: dict[str, Any]) -> ec.EllipticCurvePrivateKey:
    """A private key from its JWK."""
    alg = next(alg for alg, (crv, _) in CURVES.items() if crv == jwk["crv"])
    return new_key(alg, int.from_bytes(unb64u(jwk["d"]), "big"))


def thumbprint(jwk: dict[str, Any]) -> str:
    """RFC 7638."""
    members = {name: jwk[name] for name in ("crv", "kty", "x", "y")}
    return sha256_b64u(json.dumps(members, separators=(",", ":"), sort_keys=True))


@lru_cache(maxsize=65536)
def _public_key(crv: str, x: str, y: str) -> ec.EllipticCurvePublicKey:
    curve = next((curve for name, curve in CURVES.values() if name == crv), None)
    raw_x, raw_y = unb64u(x), unb64u(y)
    if curve is None or len(raw_x) != 32 or len(raw_y) != 32:
        raise JoseError("Invalid JWK")
    try:
        return ec.EllipticCurvePublicKey.from_encoded_point(curve, b"\x04" + raw_x + raw_y)
    except ValueError as error:
        raise JoseError("Invalid JWK: not a point on its curve") from error


def decode(token: str) -> tuple[dict[str, Any], dict[str, Any], bytes, bytes]:
    """Header, claims, signed bytes and signature, nothing verified."""
    parts = token.split(".")
    if len(parts) != 3:
        raise JoseError("Invalid Compact JWS")
    try:
        header, claims = json.loads(unb64u(parts[0])), json.loads(unb64u(parts[1]))
    except (ValueError, RecursionError) as error:
        raise JoseError("Invalid Compact JWS") from error
    if not isinstance(header, dict) or not isinstance(claims, dict):
        raise JoseError("Invalid Compact JWS")
    return header, claims, f"{parts[0]}.{parts[1]}".encode(), unb64u(parts[2])


def verify_ec(jwk: dict[str, Any], alg: str, signed: bytes, signature: bytes) -> None:
    """Check an ECDSA signature by a public JWK, which must fit the algorithm and hold no secret."""
    if alg not in CURVES:
        raise JoseError('Unsupported "alg"')
    if jwk.get("kty") != "EC" or jwk.get("crv") != CURVES[alg][0] or "d" in jwk:
        raise JoseError('"jwk" must be a public key that fits "alg"')
    if not isinstance(jwk.get("x"), str) or not isinstance(jwk.get("y"), str):
        raise JoseError("Invalid JWK")
    if len(signature) != 64:
        raise JoseError("signature verification failed")
    der = encode_dss_signature(int.from_bytes(signature[:32], "big"), int.from_bytes(signature[32:], "big"))
    try:
        _public_key(jwk["crv"], jwk["x"], jwk["y"]).verify(der, signed, _SHA256)
    except InvalidSignature as error:
        raise JoseError("signature verification failed") from error


def _compact(header: dict[str, Any], claims: dict[str, Any]) -> str:
    return ".".join(b64u(json.dumps(part, separators=(",", ":")).encode()) for part in (header, claims))


def sign_ec(key: ec.EllipticCurvePrivateKey, header: dict[str, Any], claims: dict[str, Any]) -> str:
    """A compact JWS by an EC key; ``header`` must name the algorithm."""
    message = _compact(header, claims)
    r, s = decode_dss_signature(key.sign(message.encode(), _SHA256))
    return f"{message}.{b64u(r.to_bytes(32, 'big') + s.to_bytes(32, 'big'))}"


def sign_hmac(secret: bytes, typ: str, claims: dict[str, Any]) -> str:
    """A compact HS256 JWS, as the reference PDS makes for its own tokens."""
    message = _compact({"typ": typ, "alg": "HS256"}, claims)
    return f"{message}.{b64u(hmac.digest(secret, message.encode(), 'sha256'))}"
