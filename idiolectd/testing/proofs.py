"""Checks DPoP proofs (RFC 9449, section 4.3) as a PDS does."""

import hashlib
import hmac
import json
from collections.abc import Mapping
from typing import Any

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature

from idiolectd.jose import b64url_decode, b64url_encode, jwk_thumbprint

# Seconds by which a proof's time may differ from ours.
_TOLERANCE = 60.0

_CURVES: Mapping[str, tuple[str, ec.EllipticCurve]] = {
    "ES256": ("P-256", ec.SECP256R1()),
    "ES256K": ("secp256k1", ec.SECP256K1()),
}


class BadProof(Exception):
    """The proof is refused; the message says why, for the person whose test it is."""


class ProofCheck:
    """Checks proofs; each is good for one request."""

    def __init__(self) -> None:
        self._seen: set[str] = set()

    def thumbprint(self, proof: str, *, method: str, url: str, token: str, now: float) -> tuple[str, Any]:
        """The thumbprint of the key that signed a proof, and the nonce in it.

        Args:
            proof: the header ``DPoP``.
            method: of the request.
            url: of the request, without a query.
            token: the access token that came along.
            now: seconds since the epoch.

        Raises:
            BadProof: it is not a proof for this request.
        """
        try:
            header, claims = _verified(proof)
        except (ValueError, KeyError, TypeError, InvalidSignature) as error:
            raise BadProof(f"not a signed proof: {type(error).__name__}") from None
        expected = {"htm": method, "htu": url, "ath": b64url_encode(hashlib.sha256(token.encode()).digest())}
        for name, value in expected.items():
            if not hmac.compare_digest(str(claims.get(name)).encode(), value.encode()):
                raise BadProof(f"{name} is {claims.get(name)!r}, expected {value!r}")
        if not abs(float(claims.get("iat", 0)) - now) <= _TOLERANCE:
            raise BadProof("iat is too far from now")
        jti = str(claims.get("jti"))
        if "jti" not in claims or jti in self._seen:
            raise BadProof("jti was used before, or is missing")
        self._seen.add(jti)
        return jwk_thumbprint(header["jwk"]), claims.get("nonce")


def _verified(proof: str) -> tuple[dict[str, Any], dict[str, Any]]:
    signed, _, signature = proof.rpartition(".")
    header, claims = (json.loads(b64url_decode(part)) for part in signed.split("."))
    crv, curve = _CURVES[header["alg"]]
    jwk = header["jwk"]
    if header["typ"] != "dpop+jwt" or jwk["crv"] != crv or "d" in jwk:
        raise ValueError(crv)
    x, y = (int.from_bytes(b64url_decode(jwk[name])) for name in "xy")
    raw = b64url_decode(signature)
    r, s = int.from_bytes(raw[:32]), int.from_bytes(raw[32:])
    key = ec.EllipticCurvePublicNumbers(x, y, curve).public_key()
    key.verify(encode_dss_signature(r, s), signed.encode(), ec.ECDSA(hashes.SHA256()))
    return header, claims
