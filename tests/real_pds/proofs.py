"""DPoP proofs and client assertions for the real PDS, made without the daemon's code.

A test that made its proofs with the daemon's code could not find a fault in them. Sends nothing.
"""

import json
import secrets
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from tests.jose import alg_of, load_private_jwk, new_jwk, public_jwk, sha256_b64u, sign
from tests.simulator.proofs import ASSERTION_TYPE


def public_half(private: str) -> dict[str, str]:
    """What may be shown of a key that is kept as the JSON of its JWK."""
    return public_jwk(load_private_jwk(json.loads(private)))


def _sign_jwt(private: str, header: Mapping[str, Any], claims: Mapping[str, Any]) -> str:
    key = load_private_jwk(json.loads(private))
    return sign(key, {**header, "alg": alg_of(key)}, claims)


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
        claims["ath"] = sha256_b64u(access_token)
    return _sign_jwt(private, {"typ": "dpop+jwt", "jwk": public_half(private)}, claims)


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
        key = {**public_half(self.private_jwk), "kid": self.key_id, "use": "sig", "alg": "ES256"}
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
        assertion = _sign_jwt(self.private_jwk, {"typ": "JWT", "kid": self.key_id}, claims)
        return {"client_assertion_type": ASSERTION_TYPE, "client_assertion": assertion}
