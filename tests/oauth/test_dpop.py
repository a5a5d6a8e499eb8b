"""Keys and proofs, against the RFCs' own examples."""

import hashlib
import json
from typing import Any

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec
from joserfc.jwk import ECKey

from idiolectd.errors import SessionError
from idiolectd.jose import b64url_decode, b64url_encode, jwk_thumbprint
from idiolectd.oauth import DpopKey, OAuthClient, SigningKey
from idiolectd.oauth.client_auth import ClientAuth
from idiolectd.oauth.proof import RecentKeys
from tests.clock import VirtualClock
from tests.jose import decode, private_jwk, verify

# RFC 9449, section 4.1 (the key), section 6.1 (its thumbprint).
RFC9449_JWK = {
    "kty": "EC",
    "x": "l8tFrhx-34tV3hRICRDY9zCkDlpBhF42UQUfWVAWBFs",
    "y": "9VE4jf_Ok_o64zbTTlcuNJajHmt6v9TDVrU0CdvGRDA",
    "crv": "P-256",
}
RFC9449_THUMBPRINT = "0ZcOCORZNYy-DWpqq30jZyJGHTN0d2HglBV3uiguA4I"

# RFC 9449, section 7.1: an access token and its `ath`.
RFC9449_TOKEN = "Kz~8mXK1EalYznwH-LC-1fBAo.4Ljp~zsPE_NeO.gxU"
RFC9449_ATH = "fUHyO2r2Z3DZ53EsNrWBb0xWXoaNy59IiKCAqksmQEo"

# RFC 7515, appendix A.3.1: a P-256 key with its private half.
RFC7515_JWK = {
    "kty": "EC",
    "crv": "P-256",
    "x": "f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU",
    "y": "x_FEzRu9m36HLN_tue659LNpXW6pCyStikYjKIWI5a0",
    "d": "jpsQnnGQmL-YBIffH1136cspYG6-0iY7X1fCE9-E9LI",
}


def jwk(curve: ec.EllipticCurve) -> dict[str, str]:
    return private_jwk(ECKey.import_key(ec.generate_private_key(curve)))


def test_thumbprint_of_the_rfc() -> None:
    """RFC 7638 as RFC 9449 uses it."""
    assert jwk_thumbprint(RFC9449_JWK) == RFC9449_THUMBPRINT


def test_a_key_of_the_rfc_is_read() -> None:
    """The private half leads to the public half that stands beside it."""
    key = DpopKey.from_jwk_json(json.dumps(RFC7515_JWK))
    assert key.alg == "ES256"
    assert key.public_jwk == {name: RFC7515_JWK[name] for name in ("kty", "crv", "x", "y")}
    assert key.thumbprint == jwk_thumbprint(RFC7515_JWK)


@pytest.mark.parametrize("curve", [ec.SECP256R1(), ec.SECP256K1()])
@pytest.mark.parametrize(
    "form", [serialization.PrivateFormat.PKCS8, serialization.PrivateFormat.TraditionalOpenSSL]
)
def test_a_pem_is_the_same_key(curve: ec.EllipticCurve, form: serialization.PrivateFormat) -> None:
    """A client's key may be a PEM: it signs as its JWK does."""
    private_key = ec.generate_private_key(curve)
    pem = private_key.private_bytes(serialization.Encoding.PEM, form, serialization.NoEncryption())
    jwk_text = json.dumps(private_jwk(ECKey.import_key(private_key)))
    assert SigningKey.parse(pem.decode()).public_jwk == SigningKey.parse(jwk_text).public_jwk


@pytest.mark.parametrize("kind", ["another curve", "encrypted", "public", "garbage"])
def test_an_unusable_pem_is_refused(kind: str) -> None:
    """The error says what is wrong and shows nothing of the key."""
    private_key = ec.generate_private_key(ec.SECP384R1() if kind == "another curve" else ec.SECP256R1())
    secret = (
        serialization.BestAvailableEncryption(b"x") if kind == "encrypted" else serialization.NoEncryption()
    )
    pem = private_key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, secret
    ).decode()
    if kind == "public":
        public = serialization.PublicFormat.SubjectPublicKeyInfo
        pem = private_key.public_key().public_bytes(serialization.Encoding.PEM, public).decode()
    if kind == "garbage":
        pem = pem.replace("M", "N")
    with pytest.raises(ValueError, match=r"the key is on neither|holds no private key") as caught:
        SigningKey.parse(pem)
    assert pem.splitlines()[1] not in str(caught.value)


@pytest.mark.parametrize(("curve", "alg"), [(ec.SECP256R1(), "ES256"), (ec.SECP256K1(), "ES256K")])
def test_a_proof_is_what_the_rfc_asks_for(curve: ec.EllipticCurve, alg: str) -> None:
    """Header, claims and a raw signature that verifies (RFC 9449, section 4.2)."""
    text = json.dumps(jwk(curve))
    key = DpopKey.from_jwk_json(text)
    proof = key.proof(
        htm="GET",
        htu="https://PDS.test:443/xrpc/a?b=c#d",
        iat=1_700_000_000.9,
        nonce="n-1",
        access_token=RFC9449_TOKEN,
    )
    header, claims = decode(proof)
    verify(proof, header["jwk"])
    assert len(b64url_decode(proof.split(".")[2])) == 64
    assert (header["typ"], header["alg"]) == ("dpop+jwt", alg)
    assert "d" not in header["jwk"]
    assert jwk_thumbprint(header["jwk"]) == key.thumbprint == jwk_thumbprint(json.loads(text))
    jti = claims.pop("jti")
    assert len(jti) >= 16
    assert claims == {
        "htm": "GET",
        "htu": "https://pds.test/xrpc/a",
        "iat": 1_700_000_000,
        "nonce": "n-1",
        "ath": RFC9449_ATH,
    }


def test_a_proof_without_nonce_and_token_has_no_such_claims() -> None:
    """An authorization server refuses `ath`; an unknown nonce is left out."""
    claims = decode(DpopKey.generate().proof(htm="POST", htu="https://as.test", iat=1.0))[1]
    assert set(claims) == {"jti", "htm", "htu", "iat"}
    assert claims["htu"] == "https://as.test/"


def test_no_two_proofs_are_alike() -> None:
    """Servers refuse a jti that they saw before."""
    key = DpopKey.generate()
    jtis = {decode(key.proof(htm="POST", htu="https://as.test/t", iat=1.0))[1]["jti"] for _ in range(50)}
    assert len(jtis) == 50


def _broken(**changes: Any) -> str:
    return json.dumps({k: v for k, v in {**RFC7515_JWK, **changes}.items() if v is not None})


OTHER_X = RFC9449_JWK["x"]
BROKEN = [
    None,
    "",
    "{",
    "[]",
    "null",
    "[" * 100_000,
    _broken(kty="RSA"),
    _broken(crv="P-384"),
    _broken(crv=None),
    _broken(d=None),
    _broken(d=7),
    _broken(d="SECRET not base64"),
    _broken(d=b64url_encode(b"\0" * 32)),
    _broken(d=b64url_encode(b"\xff" * 32)),
    _broken(x=OTHER_X),
    _broken(x=None),
    _broken(y=RFC7515_JWK["y"] + "="),
    _broken(crv="secp256k1"),
]


@pytest.mark.parametrize("text", BROKEN)
def test_an_unusable_key_is_a_session_error_without_values(text: str | None) -> None:
    """A key that would make another thumbprint than the tokens', or none, is never signed with."""
    with pytest.raises(SessionError, match="dpopPrivateKeyJwk") as caught:
        DpopKey.from_jwk_json(text)
    assert "SECRET" not in str(caught.value)
    assert RFC7515_JWK["d"] not in str(caught.value)


def test_a_key_is_parsed_once() -> None:
    """Parsing costs more than signing."""
    text = json.dumps(jwk(ec.SECP256R1()))
    assert DpopKey.from_jwk_json(text) is DpopKey.from_jwk_json(text)


def test_a_key_is_forgotten_a_minute_after_its_last_use() -> None:
    """Of a session that ended nothing stays in memory, nor of more sessions than a few hundred."""
    clock = VirtualClock()
    keys = RecentKeys(clock.now)
    one, other = json.dumps(jwk(ec.SECP256R1())), json.dumps(jwk(ec.SECP256R1()))
    first = keys.get(one)
    for _ in range(3):
        clock.advance(50)
        assert keys.get(one) is first
    clock.advance(50)
    keys.get(other)
    assert len(keys) == 2
    clock.advance(50)
    keys.get(other)
    assert len(keys) == 1
    assert keys.get(one) is not first


def test_keys_show_no_secret() -> None:
    """A key may stand in a traceback."""
    key = DpopKey.from_jwk_json(json.dumps(RFC7515_JWK))
    auth = ClientAuth("https://client.test", "k1", SigningKey.parse(json.dumps(RFC7515_JWK)))
    for shown in (repr(key), repr(auth), repr(OAuthClient("https://client.test", {"k1": key}))):
        assert RFC7515_JWK["d"] not in shown
        assert str(int.from_bytes(b64url_decode(RFC7515_JWK["d"]))) not in shown


def test_a_client_assertion_is_what_servers_take() -> None:
    """RFC 7523, section 3, with an `iat` that is in no server's future and a minute's life."""
    key = SigningKey.generate()
    auth = ClientAuth("https://client.test", "k1", key)
    first, second = (auth.parameters("https://as.test", 1_700_000_000.0) for _ in range(2))
    header, claims = decode(first["client_assertion"])
    verify(first["client_assertion"], key.public_jwk)
    assert header == {"kid": "k1", "alg": "ES256"}
    assert claims.pop("jti") != decode(second["client_assertion"])[1]["jti"]
    assert claims == {
        "iss": "https://client.test",
        "sub": "https://client.test",
        "aud": "https://as.test",
        "iat": 1_699_999_992,
        "exp": 1_700_000_052,
    }
    assert first["client_assertion_type"] == "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"


def test_a_public_client_only_names_itself() -> None:
    """Method ``none``."""
    assert ClientAuth("http://localhost").parameters("https://as.test", 1.0) == {
        "client_id": "http://localhost"
    }


def test_ath_is_the_rfcs() -> None:
    """The vector itself, so that a wrong copy of it is noticed."""
    assert b64url_encode(hashlib.sha256(RFC9449_TOKEN.encode()).digest()) == RFC9449_ATH
