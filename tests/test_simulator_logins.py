"""The simulator's logins against what the reference server was read to do, by direct requests.

Does: hold the judge to account: each of its refusals is provoked once.
Does not: test the package; nothing here imports it.
"""

from __future__ import annotations

import hashlib
import json
from typing import Any
from urllib.parse import parse_qs, urlencode, urlsplit

import pytest

from tests.clock import VirtualClock
from tests.jose import b64u, new_key, private_jwk
from tests.simulator import DpopClient, Request, Response, Simulator, new_client_key
from tests.simulator.authorization import AUTHORIZE_PATH, PAR_PATH
from tests.simulator.state import LOOPBACK_CLIENT_ID, SCOPE

URL = "https://pds.test"
CONFIDENTIAL = "https://client.test/client-metadata.json"
HOSTED = "https://client.test/back"
VERIFIER = "v" * 43
KEYS = [new_client_key("key-1"), new_client_key("key-2")]


class Login:
    """One client's login; every field of every request can be bent."""

    def __init__(self, *, confidential: bool = False) -> None:
        self.clock = VirtualClock(1_750_000_000.0)
        self.sim = Simulator(URL, now=self.clock.now)
        self.account = self.sim.add_account("alice.test")
        self.sim.add_client(CONFIDENTIAL, KEYS, [HOSTED])
        self.redirect_uri = HOSTED if confidential else "http://127.0.0.1:4711/callback"
        self.client_id = CONFIDENTIAL if confidential else LOOPBACK_CLIENT_ID
        self.client = self.new_client(KEYS[0] if confidential else None)

    def new_client(self, client_key: dict[str, str] | None = None) -> DpopClient:
        """A client with a DPoP key of its own that knows the server's nonce."""
        record = {
            "dpopPrivateKeyJwk": json.dumps(private_jwk(new_key())),
            "clientId": self.client_id,
            "issuer": URL,
            "pdsUrl": URL,
        }
        client = DpopClient(record, self.clock.now, client_key)
        client.nonces["as"] = self.sim.state.as_nonces.current(self.clock.now(), 60)
        return client

    def push(self, **bent: str | None) -> Response:
        fields: dict[str, str | None] = {
            "response_type": "code",
            "redirect_uri": self.redirect_uri,
            "scope": SCOPE,
            "state": "s1",
            "code_challenge": b64u(hashlib.sha256(VERIFIER.encode()).digest()),
            "code_challenge_method": "S256",
            "login_hint": "Alice.test",
        }
        return self.sim.handle(self.client.form(PAR_PATH, fields | bent))

    def authorize(self, **bent: str) -> Response:
        query = {"client_id": self.client_id} | bent
        if "request_uri" not in query:
            query["request_uri"] = self.push().json()["request_uri"]
        return self.sim.handle(Request("GET", f"{URL}{AUTHORIZE_PATH}?{urlencode(query)}"))

    def code(self) -> str:
        return answered(self.authorize())["code"]

    def redeem(self, client: DpopClient | None = None, **bent: str | None) -> Response:
        fields: dict[str, str | None] = {
            "grant_type": "authorization_code",
            "redirect_uri": self.redirect_uri,
            "code_verifier": VERIFIER,
        }
        if "code" not in bent:
            fields["code"] = self.code()
        return self.sim.handle((client or self.client).form("/oauth/token", fields | bent))


def answered(response: Response) -> dict[str, str]:
    """What the browser is sent back with."""
    assert response.status == 303, response.body
    query = parse_qs(urlsplit(response.get("location") or "").query)
    return {name: values[0] for name, values in query.items()}


def refused(response: Response) -> str:
    """The words of a refusal."""
    assert response.status == 400
    return str(response.json()["error_description"])


@pytest.mark.parametrize("confidential", [False, True])
def test_a_login(confidential: bool) -> None:
    """From the pushed request to tokens that refresh, bound to key and client."""
    login = Login(confidential=confidential)
    pushed = login.push()
    assert (pushed.status, pushed.json()["expires_in"]) == (201, 300)
    back = answered(login.authorize(request_uri=pushed.json()["request_uri"]))
    assert (back["iss"], back["state"]) == (URL, "s1")
    answer = login.redeem(code=back["code"])
    assert answer.status == 200
    tokens = answer.json()
    assert (tokens["sub"], tokens["token_type"], tokens["scope"]) == (login.account.did, "DPoP", SCOPE)
    login.client.record["refreshJwt"] = tokens["refresh_token"]
    assert login.sim.handle(login.client.refresh_request()).status == 200
    assert login.sim.counters.logins == 1


@pytest.mark.parametrize(
    ("bent", "words"),
    [
        ({"response_type": "token"}, "response_type"),
        ({"scope": "transition:generic"}, "atproto"),
        ({"scope": "atproto transition:email"}, "transition:email"),
        ({"scope": None}, "declared"),
        ({"redirect_uri": None}, "redirect_uri"),
        ({"redirect_uri": "http://127.0.0.1:4711/other"}, "redirect_uri"),
        ({"redirect_uri": "https://evil.test/callback"}, "redirect_uri"),
        ({"code_challenge": None}, "PKCE"),
        ({"code_challenge": "short"}, "PKCE"),
        ({"code_challenge_method": "plain"}, "S256"),
        ({"code_challenge_method": None}, "S256"),
        ({"client_id": None}, "client_id"),
        ({"client_id": "https://unknown.test/c.json"}, "metadata"),
    ],
)
def test_what_is_not_taken_in(bent: dict[str, str | None], words: str) -> None:
    """A request that the reference server refuses is refused."""
    assert words in refused(Login().push(**bent))


def test_a_request_needs_proof_and_client() -> None:
    """A nonce is asked for, a proof must be right, a confidential client must prove itself."""
    login = Login(confidential=True)
    login.client.nonces.clear()
    asked = login.push()
    assert (asked.status, asked.json()["error"]) == (400, "use_dpop_nonce")
    login = Login(confidential=True)
    assert login.sim.handle(login.client.form(PAR_PATH, {}, proof="")).status == 401
    login.client.client_key = new_client_key("key-1")
    assert "signature" in refused(login.push())
    login.client.client_key = None
    assert "client_assertion" in refused(login.push())


def test_a_request_is_good_once_and_for_its_client() -> None:
    """Another client, a second use, a late one: no code."""
    login = Login()
    request_uri = login.push().json()["request_uri"]
    other = answered(login.authorize(request_uri=request_uri, client_id=CONFIDENTIAL))
    assert other["error"] == "access_denied"
    assert refused(login.authorize(request_uri=request_uri)) == "Unknown request_uri"
    request_uri = login.push().json()["request_uri"]
    login.clock.advance(301)
    assert "expired" in answered(login.authorize(request_uri=request_uri))["error_description"]


def test_who_consents() -> None:
    """The one that the hint names, somebody else, or nobody."""
    login = Login()
    other = login.sim.add_account("mallory.test")
    login.sim.set_consent("deny")
    back = answered(login.authorize())
    assert (back["error"], back["state"], back["iss"]) == ("access_denied", "s1", URL)
    for who in ("mallory.test", other.did):
        login = Login()
        other = login.sim.add_account("mallory.test", did=other.did)
        login.sim.set_consent(who)
        assert login.redeem().json()["sub"] == other.did
    login.sim.set_consent("allow")
    login.sim.takedown(login.account.did)
    assert login.authorize().status == 400


@pytest.mark.parametrize(
    ("bent", "words"),
    [
        ({"code": "cod-0"}, "Invalid code"),
        ({"code": None}, "code"),
        ({"code_verifier": "w" * 43}, "Invalid code_verifier"),
        ({"code_verifier": None}, "Invalid code_verifier"),
        ({"redirect_uri": "http://127.0.0.1:4712/callback"}, "redirect_uri"),
        ({"redirect_uri": None}, "redirect_uri"),
        ({"client_id": "http://localhost"}, "not issued to this client"),
        ({"grant_type": "password"}, "grant_type"),
    ],
)
def test_what_a_code_is_not_given_for(bent: dict[str, Any], words: str) -> None:
    """Code, verifier, redirect and client must be those of the request; and then the code is gone."""
    login = Login()
    code = login.code()
    assert words in refused(login.redeem(**({"code": code} | bent)))
    if "code" not in bent and "grant_type" not in bent:
        assert refused(login.redeem(code=code)) == "Invalid code"


def test_a_code_is_bound_to_both_keys() -> None:
    """Another DPoP key or another key of the client gets nothing for it."""
    login = Login(confidential=True)
    assert "expected JKT" in refused(login.redeem(login.new_client(KEYS[0]), code=login.code()))
    code = login.code()
    login.client.client_key = KEYS[1]
    assert "different key" in refused(login.redeem(code=code))


def test_a_code_that_is_used_twice_ends_the_session() -> None:
    """And a late one gets none."""
    login = Login()
    code = login.code()
    assert login.redeem(code=code).status == 200
    assert refused(login.redeem(code=code)) == "Invalid code"
    assert [info.alive for info in login.sim.sessions()] == [False]
    code = login.code()
    login.clock.advance(301)
    login.client.nonces["as"] = login.sim.state.as_nonces.current(login.clock.now(), 60)
    assert refused(login.redeem(code=code)) == "This code has expired"


def test_a_challenge_is_good_once() -> None:
    """A second login with the same verifier is refused."""
    login = Login()
    assert login.redeem().status == 200
    assert refused(login.redeem()) == "Code challenge already used"
