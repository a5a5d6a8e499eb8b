"""DPoP proofs (RFC 9449) and client assertions (RFC 7523), judged as the reference server does.

Does: verify signatures and claims, nonces and single use.
Does not: know sessions; whether a key is the *right* key is decided where the session is known.
"""

from __future__ import annotations

import hmac
import json
from collections import deque
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from tests.jose import JoseError, decode, sha256_b64u, thumbprint, verify
from tests.simulator.wire import Request

ASSERTION_TYPE = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"
ASSERTION_MAX_AGE = 60.0

# A nonce handed out in rotation n is taken in n, n+1 and n+2: it dies after two to three rotations.
_ROTATIONS_KEPT = 3


class ProofError(Exception):
    """The proof is bad: ``invalid_dpop_proof``."""


class NonceNeeded(Exception):
    """The proof is good but for its nonce: ``use_dpop_nonce``."""


class AssertionError_(Exception):  # noqa: N801 -- the builtin has the better name
    """The assertion is refused with an OAuth error code of its own."""

    def __init__(self, code: str, text: str) -> None:
        super().__init__(text)
        self.code = code


class NonceSpace:
    """The nonces of one server: derived from a secret and the time, so that nothing is stored."""

    def __init__(self, secret: bytes) -> None:
        self._secret = secret

    def _at(self, rotation: int) -> str:
        return hmac.digest(self._secret, str(rotation).encode(), "sha256")[:24].hex()

    def current(self, now: float, every: float) -> str:
        """The nonce to hand out."""
        return self._at(int(now // every))

    def accepts(self, nonce: str, now: float, every: float) -> bool:
        """Whether a nonce is still good."""
        newest = int(now // every)
        return nonce in [self._at(newest - back) for back in range(_ROTATIONS_KEPT)]


class OnceOnly:
    """Values that may be used once within a time."""

    def __init__(self) -> None:
        self._seen: set[str] = set()
        self._order: deque[tuple[float, str]] = deque()

    def first_use(self, value: str, now: float, keep: float) -> bool:
        """Remember a value; False if it was there already."""
        while self._order and self._order[0][0] <= now:
            self._seen.discard(self._order.popleft()[1])
        if value in self._seen:
            return False
        self._seen.add(value)
        self._order.append((now + keep, value))
        return True


@dataclass(frozen=True)
class ProofRules:
    """What a proof is held against: the URL as the server knows itself, and its clock."""

    origin: str
    now: float
    window: float
    nonces: NonceSpace
    nonce_rotation: float
    seen: OnceOnly


def verify_proof(request: Request, rules: ProofRules, access_token: str | None = None) -> str:
    """The thumbprint of the key that signed the request's proof. The nonce is judged after all else."""
    proofs = request.get_all("dpop")
    if not proofs:
        raise ProofError("DPoP proof required")
    if len(proofs) > 1 or "," in proofs[0]:
        raise ProofError("DPoP header must contain a single proof")
    try:
        claims, jwk = _opened_proof(proofs[0])
    except JoseError as error:
        raise ProofError(f"Failed to verify DPoP proof: {error}") from error
    _check_claims(request, rules, claims, access_token)
    nonce = claims.get("nonce")
    if nonce is None:
        raise NonceNeeded("requires nonce in DPoP proof")
    if not rules.nonces.accepts(nonce, rules.now, rules.nonce_rotation):
        raise NonceNeeded('DPoP "nonce" mismatch')
    jkt = thumbprint(jwk)
    if not rules.seen.first_use(f"{jkt}:{claims['jti']}", rules.now, 2 * rules.window + 60):
        raise ProofError("DPoP proof replayed")
    return jkt


def _opened_proof(proof: str) -> tuple[dict[str, Any], dict[str, Any]]:
    header, claims = decode(proof)
    jwk = header.get("jwk")
    if header.get("typ") != "dpop+jwt":
        raise JoseError('unexpected "typ" JWT header value')
    if not isinstance(jwk, dict):
        raise JoseError('"jwk" (JSON Web Key) Header Parameter must be a JSON object')
    verify(proof, jwk)
    return claims, jwk


def _check_claims(
    request: Request, rules: ProofRules, claims: dict[str, Any], access_token: str | None
) -> None:
    iat, jti, nonce = claims.get("iat"), claims.get("jti"), claims.get("nonce")
    if not isinstance(iat, int | float) or isinstance(iat, bool):
        raise ProofError('DPoP "iat" missing')
    if not abs(iat - rules.now) <= rules.window:  # NaN is not within it either
        raise ProofError('Failed to verify DPoP proof: "iat" claim timestamp check failed')
    if not isinstance(jti, str) or not jti:
        raise ProofError('DPoP "jti" missing')
    if nonce is not None and not isinstance(nonce, str):
        raise ProofError('Invalid DPoP "nonce" type')
    if claims.get("htm") != request.method:
        raise ProofError('DPoP "htm" mismatch')
    path = urlsplit(request.url).path
    if normal_url(str(claims.get("htu"))) != normal_url(rules.origin + path):
        raise ProofError('DPoP "htu" mismatch')
    if access_token is None:
        if "ath" in claims:
            raise ProofError('DPoP "ath" claim not allowed')
    elif claims.get("ath") != sha256_b64u(access_token):
        raise ProofError('DPoP "ath" mismatch')


def normal_url(url: str) -> str:
    """A URL with lower-case scheme and host and no default port. A query or fragment stays: it must not match."""
    try:
        parts = urlsplit(url)
    except ValueError:
        return ""
    scheme, netloc = parts.scheme.lower(), parts.netloc.lower()
    default = {"http": ":80", "https": ":443"}.get(scheme)
    if default is not None:
        netloc = netloc.removesuffix(default)
    return parts._replace(scheme=scheme, netloc=netloc).geturl()


def verify_assertion(
    form: dict[str, str],
    client_id: str,
    keys: dict[str, dict[str, Any]],
    issuer: str,
    now: float,
    seen: OnceOnly,
) -> tuple[str, str]:
    """The key id and thumbprint of a confidential client that has proved itself."""
    if form.get("client_assertion_type") is None:
        raise AssertionError_("invalid_request", 'client_assertion_type required for "private_key_jwt"')
    if form["client_assertion_type"] != ASSERTION_TYPE:
        raise AssertionError_("invalid_client", "Unsupported client_assertion_type")
    if not form.get("client_assertion"):
        raise AssertionError_("invalid_request", 'client_assertion required for "private_key_jwt"')
    try:
        kid, claims = _opened_assertion(form["client_assertion"], keys)
        _check_assertion(claims, client_id, issuer, now)
    except JoseError as error:
        raise AssertionError_(
            "invalid_client", f'Validation of "client_assertion" failed: {error}'
        ) from error
    # The one refusal called invalid_grant that costs nothing: it comes before the token is taken.
    if not seen.first_use(json.dumps([client_id, claims["jti"]]), now, 2 * ASSERTION_MAX_AGE):
        raise AssertionError_("invalid_grant", "private_key_jwt jti reused")
    return kid, thumbprint(keys[kid])


_KEY_MEMBERS = frozenset({"kty", "crv", "x", "y"})


def _opened_assertion(assertion: str, keys: dict[str, dict[str, Any]]) -> tuple[str, dict[str, Any]]:
    header, claims = decode(assertion)
    kid = header.get("kid")
    if not isinstance(kid, str):
        raise JoseError('"kid" required in client_assertion')
    if kid not in keys:
        raise JoseError("no applicable key found in the JSON Web Key Set")
    key = {name: value for name, value in keys[kid].items() if name in _KEY_MEMBERS}
    verify(assertion, key)
    return kid, claims


def _check_assertion(claims: dict[str, Any], client_id: str, issuer: str, now: float) -> None:
    for name in ("iss", "sub"):
        if claims.get(name) != client_id:
            raise JoseError(f'unexpected "{name}" claim value')
    audience = claims.get("aud")
    if issuer not in (audience if isinstance(audience, list) else [audience]):
        raise JoseError('unexpected "aud" claim value')
    if not isinstance(claims.get("jti"), str) or not claims["jti"]:
        raise JoseError('missing required "jti" claim')
    iat, exp = claims.get("iat"), claims.get("exp")
    if not isinstance(iat, int | float) or not isinstance(exp, int | float):
        raise JoseError('"iat" and "exp" claims must be numbers')
    # The library behind the reference server floors its own clock to whole seconds, and gives no tolerance.
    if not iat <= int(now):
        raise JoseError('"iat" claim timestamp check failed (it should be in the past)')
    if int(now) - iat > ASSERTION_MAX_AGE:
        raise JoseError('"iat" claim timestamp check failed (too far in the past)')
    if not exp > int(now):
        raise JoseError('"exp" claim timestamp check failed')
