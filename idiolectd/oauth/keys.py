"""Elliptic-curve keys that sign JWTs: ES256 and ES256K, the two that ATProto uses.

Does not verify signatures: servers do.
"""

import json
import secrets
from collections.abc import Mapping
from functools import cached_property
from typing import Any, NamedTuple, Self

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature

from idiolectd.jose import b64url_decode, b64url_encode, jwk_thumbprint

# Both curves: RFC 7518, section 6.2.1.2, and RFC 8812, section 3.1.
_COORDINATE_BYTES = 32


class _Curve(NamedTuple):
    curve: ec.EllipticCurve
    alg: str


_CURVES: Mapping[str, _Curve] = {
    "P-256": _Curve(ec.SECP256R1(), "ES256"),
    "secp256k1": _Curve(ec.SECP256K1(), "ES256K"),
}
_ENCODER = json.JSONEncoder(separators=(",", ":"))
_SHA256 = ec.ECDSA(hashes.SHA256())


class SigningKey:
    """A private key, its algorithm and its public JWK. `repr` shows only algorithm and thumbprint."""

    def __init__(self, crv: str, private_key: ec.EllipticCurvePrivateKey) -> None:
        self._crv = crv
        self._private_key = private_key

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.alg} {self.thumbprint}>"

    @classmethod
    def generate(cls) -> Self:
        """A new P-256 key."""
        return cls("P-256", ec.generate_private_key(ec.SECP256R1()))

    @classmethod
    def of_p256(cls, private: bytes) -> Self:
        """The P-256 key with this private half (RFC 7518, section 6.2.2.1).

        Raises:
            ValueError: it is zero, or not below the curve's order.
        """
        return cls("P-256", ec.derive_private_key(int.from_bytes(private), ec.SECP256R1()))

    @classmethod
    def parse(cls, text: str) -> Self:
        """Reads the JSON of a private JWK (RFC 7517), or an unencrypted PEM (RFC 7468).

        Raises:
            ValueError: it is neither, or its public and private halves don't match. Shows no value of it.
        """
        if text.lstrip().startswith("-----BEGIN"):
            return cls._from_pem(text)
        try:
            jwk = json.loads(text)
        except (ValueError, RecursionError):
            raise ValueError("the key is not JSON") from None
        if not isinstance(jwk, dict) or jwk.get("kty") != "EC":
            raise ValueError("the key is not an EC JWK")
        curve = _CURVES.get(str(jwk.get("crv")))
        if curve is None:
            raise ValueError("the key is on neither of the curves P-256 and secp256k1")
        try:
            private_key = ec.derive_private_key(int.from_bytes(_octets(jwk, "d")), curve.curve)
        except ValueError:
            raise ValueError("the key's private half is missing or unusable") from None
        key = cls(str(jwk["crv"]), private_key)
        # Compared as text, because the thumbprint that tokens are bound to is computed from the text.
        if any(jwk.get(name) != value for name, value in key.public_jwk.items()):
            raise ValueError("the key's two halves don't belong together")
        return key

    @classmethod
    def _from_pem(cls, text: str) -> Self:
        try:
            private_key = serialization.load_pem_private_key(text.encode(), password=None)
        except (ValueError, TypeError, UnsupportedAlgorithm):
            raise ValueError("the PEM holds no private key, or an encrypted one") from None
        if isinstance(private_key, ec.EllipticCurvePrivateKey):
            for name, known in _CURVES.items():
                if private_key.curve.name == known.curve.name:
                    return cls(name, private_key)
        raise ValueError("the key is on neither of the curves P-256 and secp256k1")

    @property
    def alg(self) -> str:
        """The JWS algorithm: ``ES256`` or ``ES256K``."""
        return _CURVES[self._crv].alg

    @cached_property
    def public_jwk(self) -> Mapping[str, str]:
        """The public key as a JWK with exactly the members that a thumbprint needs."""
        numbers = self._private_key.public_key().public_numbers()
        x, y = (b64url_encode(n.to_bytes(_COORDINATE_BYTES)) for n in (numbers.x, numbers.y))
        return {"kty": "EC", "crv": self._crv, "x": x, "y": y}

    @cached_property
    def thumbprint(self) -> str:
        """The key's JWK thumbprint (RFC 7638)."""
        return jwk_thumbprint(self.public_jwk)

    def to_private_jwk(self) -> str:
        """The JSON of the private JWK, as `parse` reads it. Only a session's record may hold it."""
        return json.dumps(
            {**self.public_jwk, "d": b64url_encode(self.private_bytes())}, separators=(",", ":")
        )

    def private_bytes(self) -> bytes:
        """The private half in 32 bytes. Only a session's record, or another program's, may hold it."""
        return self._private_key.private_numbers().private_value.to_bytes(_COORDINATE_BYTES)

    def sign(self, header: Mapping[str, Any], claims: Mapping[str, Any]) -> str:
        """A JWT in compact form (RFC 7519); `alg` is added to the header."""
        return self.sign_encoded(jwt_part({**header, "alg": self.alg}), claims)

    def sign_encoded(self, header: str, claims: Mapping[str, Any]) -> str:
        """As `sign`, with a header that is the same for many JWTs and was encoded once (`jwt_part`)."""
        signed = f"{header}.{jwt_part(claims)}"
        r, s = decode_dss_signature(self._private_key.sign(signed.encode(), _SHA256))
        raw = r.to_bytes(_COORDINATE_BYTES) + s.to_bytes(_COORDINATE_BYTES)  # RFC 7518, section 3.4
        return f"{signed}.{b64url_encode(raw)}"


def new_jti() -> str:
    """A new unique JWT identifier: servers refuse one that they have seen before."""
    return secrets.token_urlsafe(16)


def _octets(jwk: Mapping[str, Any], name: str) -> bytes:
    value = jwk.get(name)
    if not isinstance(value, str):
        raise ValueError(name)  # noqa: TRY004 -- one error for every fault of a key
    return b64url_decode(value)


def jwt_part(value: Mapping[str, Any]) -> str:
    """A header or claims as they stand in a JWT."""
    return b64url_encode(_ENCODER.encode(value).encode())
