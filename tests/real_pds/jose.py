"""Keys, signed JWTs, DPoP proofs and client assertions, written apart from the daemon's own.

The daemon has its own code for all this. This is a second, independent one on purpose:
a test that made its proofs with the daemon's code could not find a fault in them.

What this module does not do: verify signatures, or send anything.
"""

import base64
import hashlib
import json
import secrets
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature

ASSERTION_TYPE = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"

_CURVES: dict[str, tuple[ec.EllipticCurve, str]] = {
    "P-256": (ec.SECP256R1(), "ES256"),
    "secp256k1": (ec.SECP256K1(), "ES256K"),
}


def b64u(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def new_jwk(crv: str = "P-256") -> str:
    """A new private key, as the JSON of its JWK."""
    numbers = ec.generate_private_key(_CURVES[crv][0]).private_numbers()
    public = numbers.public_numbers
    parts = {"x": public.x, "y": public.y, "d": numbers.private_value}
    jwk = {"kty": "EC", "crv": crv} | {name: b64u(n.to_bytes(32, "big")) for name, n in parts.items()}
    return json.dumps(jwk, separators=(",", ":"))


def public_jwk(private: str) -> dict[str, str]:
    """The public half: what may be shown."""
    jwk: dict[str, str] = json.loads(private)
    return {name: jwk[name] for name in ("kty", "crv", "x", "y")}


def sign_jwt(private: str, header: Mapping[str, Any], claims: Mapping[str, Any]) -> str:
    jwk: dict[str, str] = json.loads(private)
    curve, alg = _CURVES[jwk["crv"]]
    secret = int.from_bytes(base64.urlsafe_b64decode(jwk["d"] + "=="), "big")
    parts = [json.dumps(part, separators=(",", ":")).encode() for part in ({**header, "alg": alg}, claims)]
    text = ".".join(map(b64u, parts))
    signature = ec.derive_private_key(secret, curve).sign(text.encode(), ec.ECDSA(hashes.SHA256()))
    r, s = decode_dss_signature(signature)
    return text + "." + b64u(r.to_bytes(32, "big") + s.to_bytes(32, "big"))


def jwt_claims(token: str) -> dict[str, Any]:
    """What a JWT says, unverified."""
    payload = token.split(".")[1]
    claims: dict[str, Any] = json.loads(base64.urlsafe_b64decode(payload + "=="))
    return claims


def dpop_proof(
    private: str, method: str, url: str, *, nonce: str | None = None, access_token: str | None = None
) -> str:
    """A fresh DPoP proof; with `access_token` (at the PDS, never at the authorization server) bound to it."""
    claims: dict[str, Any] = {
        "jti": secrets.token_urlsafe(16),
        "htm": method,
        "htu": url.partition("?")[0].partition("#")[0],
        "iat": int(time.time()),
    }
    if nonce:
        claims["nonce"] = nonce
    if access_token:
        claims["ath"] = b64u(hashlib.sha256(access_token.encode()).digest())
    return sign_jwt(private, {"typ": "dpop+jwt", "jwk": public_jwk(private)}, claims)


@dataclass(frozen=True)
class ConfidentialClient:
    """An OAuth client that proves who it is with a key (private_key_jwt).

    Its host is in `.internal`: a private name that the server accepts (it refuses `.test`,
    `.invalid`, `.example` and example.com), and that nobody can own.
    """

    client_id: str = "https://client.idiolectd.internal/client-metadata.json"
    key_id: str = "key-1"
    private_jwk: str = field(default_factory=new_jwk, repr=False)
    redirect_uri: str = "https://client.idiolectd.internal/callback"
    scope: str = "atproto transition:generic"

    def metadata(self) -> dict[str, Any]:
        """The document that the authorization server reads at the client_id."""
        key = {**public_jwk(self.private_jwk), "kid": self.key_id, "use": "sig", "alg": "ES256"}
        return {
            "client_id": self.client_id,
            "application_type": "web",
            "redirect_uris": [self.redirect_uri],
            "scope": self.scope,
            "grant_types": ["authorization_code", "refresh_token"],
            "response_types": ["code"],
            "token_endpoint_auth_method": "private_key_jwt",
            "token_endpoint_auth_signing_alg": "ES256",
            "dpop_bound_access_tokens": True,
            "jwks": {"keys": [key]},
        }

    def auth_fields(self, issuer: str) -> dict[str, str]:
        """What to add to a form for the authorization server; anew for every request."""
        now = int(time.time())
        claims = {
            "iss": self.client_id,
            "sub": self.client_id,
            "aud": issuer,
            "jti": secrets.token_urlsafe(16),
            "iat": now - 5,  # the server has no tolerance for the future
            "exp": now + 60,
        }
        assertion = sign_jwt(self.private_jwk, {"typ": "JWT", "kid": self.key_id}, claims)
        return {"client_assertion_type": ASSERTION_TYPE, "client_assertion": assertion}
