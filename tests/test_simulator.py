"""The simulator against the measured behaviour of real servers, row by row, by direct requests.

Does: hold the judge to account, in process and on a socket, on both event loops.
Does not: test the package; nothing here imports it.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import anyio
import httpx
import pytest

from tests.clock import VirtualClock
from tests.jose import b64u
from tests.simulator import (
    DpopClient,
    Fault,
    Request,
    Response,
    Simulator,
    SimulatorTransport,
    html,
    new_client_key,
    serve,
    server_error,
    token_hash,
)
from tests.simulator.client import TOKEN
from tests.simulator.state import DAY

URL = "https://pds.test"
CONFIDENTIAL = "https://client.test/client-metadata.json"
GET_SESSION = "com.atproto.server.getSession"
Setup = tuple[Simulator, VirtualClock, DpopClient]


@pytest.fixture(params=["trio", "asyncio"])
def anyio_backend(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def public(**options: Any) -> Setup:
    """A simulator with one session of a public client that knows its nonces already."""
    clock = VirtualClock(1_750_000_000.0)
    alg = options.pop("alg", "ES256")
    sim = Simulator(URL, now=clock.now, seed=1, **options)
    client = DpopClient(sim.seed_oauth(sim.add_account("alice.test"), alg=alg), clock.now)
    return sim, clock, warm(sim, client)


def confidential(**options: Any) -> Setup:
    """The same for a confidential client with two keys; the session is bound to the first."""
    clock = VirtualClock(1_750_000_000.0)
    sim = Simulator(URL, now=clock.now, seed=1, **options)
    keys = [new_client_key("key-1"), new_client_key("key-2")]
    sim.add_client(CONFIDENTIAL, {"keys": keys})
    record = sim.seed_oauth(sim.add_account("alice.test"), client_id=CONFIDENTIAL)
    return sim, clock, warm(sim, DpopClient(record, clock.now, keys[0]))


def warm(sim: Simulator, client: DpopClient) -> DpopClient:
    state = sim.state
    client.nonces = {
        "as": state.as_nonces.current(state.now, sim.options.nonce_rotation),
        "pds": state.pds_nonces.current(state.now, sim.options.nonce_rotation),
    }
    return client


def refused(response: Response) -> tuple[int, str, str]:
    body = response.json()
    return response.status, body["error"], body.get("error_description", body.get("message"))


def alive(sim: Simulator, client: DpopClient) -> bool:
    """What counts is whether a later, correct refresh works; the admin view must agree."""
    info = sim.session_of(client.record["refreshJwt"])
    assert info is not None
    works = client.refresh(sim).status == 200
    assert works == info.consumable
    return works


def api(sim: Simulator, client: DpopClient, token: str | None = None) -> Response:
    return client.call(sim, lambda: client.api_request(GET_SESSION, token=token))


def test_a_refresh_rotates_both_tokens_and_ends_the_old_access_token() -> None:
    """Every refresh gives a new refresh token; the old access token is refused at once."""
    sim, _, client = public(access_life=600)
    before = dict(client.record)
    assert api(sim, client).status == 200
    response = client.refresh(sim)
    body = response.json()
    assert response.status == 200
    assert set(body) == {"access_token", "token_type", "refresh_token", "scope", "expires_in", "sub"}
    assert (body["token_type"], body["expires_in"], body["sub"]) == ("DPoP", 600, before["did"])
    assert response.get("DPoP-Nonce")
    assert response.get("Date") == "Sun, 15 Jun 2025 15:06:40 GMT"
    assert body["refresh_token"] != before["refreshJwt"]
    old = api(sim, client, before["accessJwt"])
    assert refused(old)[:2] == (401, "invalid_token")
    assert 'error="invalid_token"' in (old.get("www-authenticate") or "")
    assert api(sim, client).status == 200
    assert sim.sessions()[0].refresh_hash == token_hash(body["refresh_token"])


def test_stateless_access_tokens_outlive_rotation() -> None:
    """An entryway's old access token works until it expires, and not longer."""
    sim, clock, client = public(stateless_access_tokens=True, access_life=10.5)
    old = client.record["accessJwt"]
    assert client.refresh(sim).json()["expires_in"] == 10
    assert api(sim, client, old).status == 200
    clock.advance(10.4)
    assert api(sim, client, old).status == 200
    clock.advance(0.1)
    assert refused(api(sim, client, old))[1:] == ("invalid_token", '"exp" claim timestamp check failed')


def test_expired_and_rotated_access_tokens_look_alike() -> None:
    """Whether it was rotated or not, an expired token gets the same words."""
    sim, clock, client = public(access_life=60)
    old = client.record["accessJwt"]
    assert client.refresh(sim).status == 200
    clock.advance(61)
    assert refused(api(sim, client, old)) == refused(api(sim, client))


def test_opaque_access_tokens_work_the_same() -> None:
    """A token without JWT shape refreshes and authenticates."""
    sim, _, client = public(opaque_access_tokens=True)
    assert client.refresh(sim).json()["access_token"].startswith("acc-")
    assert api(sim, client).status == 200


def test_secp256k1_keys_are_taken() -> None:
    """Keys of the Node client may be secp256k1."""
    sim, _, client = public(alg="ES256K")
    assert client.refresh(sim).status == 200
    assert api(sim, client).status == 200


def test_a_replay_kills_the_session_with_its_newest_tokens() -> None:
    """A used refresh token ends everything, without grace."""
    sim, _, client = public()
    used = client.record["refreshJwt"]
    assert client.refresh(sim).status == 200
    assert refused(client.refresh(sim, refresh_token=used)) == (
        400,
        "invalid_grant",
        "Refresh token replayed",
    )
    assert refused(client.refresh(sim)) == (400, "invalid_grant", "Invalid refresh token")
    assert refused(api(sim, client))[:2] == (401, "invalid_token")
    assert (sim.counters.replays_seen, sim.counters.sessions_killed) == (1, 1)
    assert sim.counters.consumptions_by_did == {client.record["did"]: 2}


def test_a_wrong_dpop_key_kills() -> None:
    """A proof by another key is good as a proof, and takes the token with it."""
    sim, clock, client = public()
    other = warm(sim, DpopClient(sim.seed_oauth(sim.add_account("bob.test")), clock.now))
    wrong = other.refresh(sim, refresh_token=client.record["refreshJwt"])
    assert refused(wrong) == (400, "invalid_grant", "DPoP proof does not match the expected JKT")
    assert not alive(sim, client)
    assert alive(sim, other)


def test_a_wrong_client_id_kills() -> None:
    """Another valid client can't use the token, nor can anybody after it."""
    sim, _, client = public()
    wrong = client.refresh(sim, client_id="http://localhost?scope=atproto")
    assert refused(wrong) == (400, "invalid_grant", "Token was not issued to this client")
    assert not alive(sim, client)


def test_an_unknown_client_lives() -> None:
    """Client authentication comes before the token is taken."""
    sim, _, client = public()
    assert (
        refused(client.refresh(sim, client_id="https://nobody.test/x.json"))[1] == "invalid_client_metadata"
    )
    assert alive(sim, client)


def test_another_key_of_the_same_client_kills() -> None:
    """A session is bound to the client key that it began with."""
    sim, _, client = confidential()
    second = new_client_key("key-2")
    sim.state.clients[CONFIDENTIAL].keys["key-2"] = {name: second[name] for name in ("kty", "crv", "x", "y")}
    first, client.client_key = client.client_key, second
    code, text = refused(client.refresh(sim))[1:]
    assert code == "invalid_grant"
    assert text.startswith("The session was initiated with a different key")
    client.client_key = first
    assert not alive(sim, client)


def test_missing_and_stale_nonces_are_asked_for() -> None:
    """The authorization server asks with 400 and JSON; a nonce lasts two to three rotations."""
    sim, clock, client = public()
    nonce = client.nonces.pop("as")
    response = sim.handle(client.refresh_request())
    assert refused(response)[:2] == (400, "use_dpop_nonce")
    assert response.get("dpop-nonce") == nonce
    clock.advance(119)
    client.nonces["as"] = nonce
    assert client.send(sim, client.refresh_request()).status == 200
    assert client.nonces["as"] != nonce
    clock.advance(61)
    client.nonces["as"] = nonce
    assert refused(sim.handle(client.refresh_request()))[1] == "use_dpop_nonce"
    assert sim.counters.nonce_requests == 2
    assert alive(sim, client)


def test_the_pds_asks_for_its_own_nonce_with_401() -> None:
    """The PDS's nonces are kept apart from the authorization server's."""
    sim, _, client = public()
    client.nonces["pds"] = client.nonces["as"]
    response = sim.handle(client.api_request(GET_SESSION))
    assert refused(response)[:2] == (401, "use_dpop_nonce")
    challenge = response.get("www-authenticate") or ""
    assert challenge.startswith("DPoP ")
    assert 'error="use_dpop_nonce"' in challenge
    assert response.get("dpop-nonce") not in (None, client.nonces["as"])
    assert sim.counters.api_refusals == 0
    shared, _, client = public(separate_nonces=False)
    client.nonces["pds"] = client.nonces["as"]
    assert shared.handle(client.api_request(GET_SESSION)).status == 200


def bad_signature(proof: str) -> str:
    head, _, signature = proof.rpartition(".")
    return f"{head}.{'A' if signature[0] != 'A' else 'B'}{signature[1:]}"


TOKEN_URL = URL + TOKEN
BAD_PROOFS: dict[str, Callable[[DpopClient], str]] = {
    "none": lambda _: "",
    "two": lambda c: c.proof("POST", TOKEN_URL) + ", " + c.proof("POST", TOKEN_URL),
    "garbage": lambda _: "a.b.c",
    "wrong htu": lambda c: c.proof("POST", URL + "/xrpc/x"),
    "htu with query": lambda c: c.proof("POST", TOKEN_URL, htu=TOKEN_URL + "?a=b"),
    "htu of another host": lambda c: c.proof("POST", TOKEN_URL, htu="https://evil.test/oauth/token"),
    "wrong htm": lambda c: c.proof("GET", TOKEN_URL),
    "ath": lambda c: c.proof("POST", TOKEN_URL, token="x"),
    "signature": lambda c: bad_signature(c.proof("POST", TOKEN_URL)),
    "typ": lambda c: c.proof("POST", TOKEN_URL, header={"typ": "JWT"}),
    "alg none": lambda c: c.proof("POST", TOKEN_URL, header={"alg": "none"}),
    "alg of another curve": lambda c: c.proof("POST", TOKEN_URL, header={"alg": "ES256K"}),
    "private jwk": lambda c: c.proof(
        "POST", TOKEN_URL, header={"jwk": json.loads(c.record["dpopPrivateKeyJwk"])}
    ),
    "no jti": lambda c: c.proof("POST", TOKEN_URL, jti=None),
    "no iat": lambda c: c.proof("POST", TOKEN_URL, iat=None),
    "iat in the past": lambda c: c.proof("POST", TOKEN_URL, iat=int(c.now()) - 190),
    "iat in the future": lambda c: c.proof("POST", TOKEN_URL, iat=int(c.now()) + 190),
}


@pytest.mark.parametrize("name", BAD_PROOFS)
def test_bad_proofs_are_refused_and_cost_nothing(name: str) -> None:
    """The proof is judged before the token is taken."""
    sim, _, client = public()
    response = sim.handle(client.refresh_request(proof=BAD_PROOFS[name](client)))
    assert refused(response)[:2] == (401, "invalid_dpop_proof")
    assert response.get("dpop-nonce")
    assert alive(sim, client)


@pytest.mark.parametrize("offset", [-170, 170])
def test_a_proof_may_be_off_by_three_minutes(offset: int) -> None:
    """VirtualClock need not agree exactly, whichever of the two is wrong."""
    sim, clock, client = public()
    proof = client.proof("POST", TOKEN_URL, iat=int(clock.now()) + offset)
    assert sim.handle(client.refresh_request(proof=proof)).status == 200


def test_a_skewed_server_shows_in_its_date() -> None:
    """With its clock wrong, the server refuses good proofs and says so only in Date."""
    sim, clock, client = public(server_clock_offset=3600)
    response = sim.handle(client.refresh_request())
    assert refused(response)[:2] == (401, "invalid_dpop_proof")
    assert response.get("Date") == "Sun, 15 Jun 2025 16:06:40 GMT"
    proof = client.proof("POST", TOKEN_URL, iat=int(clock.now()) + 3600)
    assert sim.handle(client.refresh_request(proof=proof)).status == 200


def test_a_proof_is_used_once() -> None:
    """The same proof again is refused, before the token is looked at."""
    sim, _, client = public()
    request = client.refresh_request()
    assert client.send(sim, request).status == 200
    assert refused(sim.handle(request))[:2] == (401, "invalid_dpop_proof")
    assert alive(sim, client)


BAD_ASSERTIONS: dict[str, tuple[str, dict[str, Any]]] = {
    "expired": ("invalid_client", {"exp": 1_749_999_999}),
    "iat too old": ("invalid_client", {"iat": 1_749_999_939, "exp": 1_750_000_060}),
    "iat in the future": ("invalid_client", {"iat": 1_750_000_002}),
    "aud": ("invalid_client", {"aud": TOKEN_URL}),
    "iss": ("invalid_client", {"iss": "x"}),
    "sub": ("invalid_client", {"sub": "x"}),
    "no jti": ("invalid_client", {"jti": None}),
    "no iat": ("invalid_client", {"iat": None}),
    "kid": ("invalid_client", {"header": {"kid": "key-9"}}),
    "another's kid": ("invalid_client", {"header": {"kid": "key-2"}}),
}


@pytest.mark.parametrize("name", BAD_ASSERTIONS)
def test_bad_assertions_are_refused_and_cost_nothing(name: str) -> None:
    """The client is judged before the token is taken."""
    sim, _, client = confidential()
    code, claims = BAD_ASSERTIONS[name]
    response = client.refresh(sim, client_assertion=client.assertion(**claims))
    assert refused(response)[:2] == (400, code)
    assert alive(sim, client)


@pytest.mark.parametrize("missing", ["client_assertion", "client_assertion_type"])
def test_a_missing_assertion_is_an_invalid_request(missing: str) -> None:
    """A confidential client that does not prove itself is refused; the session lives."""
    sim, _, client = confidential()
    assert refused(client.refresh(sim, **{missing: None}))[:2] == (400, "invalid_request")
    assert alive(sim, client)


def test_an_assertion_is_used_once() -> None:
    """The one invalid_grant that is not fatal."""
    sim, _, client = confidential()
    assertion = client.assertion()
    assert client.refresh(sim, client_assertion=assertion).status == 200
    again = client.refresh(sim, client_assertion=assertion)
    assert refused(again) == (400, "invalid_grant", "private_key_jwt jti reused")
    assert alive(sim, client)


def test_the_client_key_must_not_be_the_dpop_key() -> None:
    """One key for both purposes is refused."""
    sim, _, client = confidential()
    assert client.client_key is not None
    client.record["dpopPrivateKeyJwk"] = json.dumps(client.client_key)
    same = warm(sim, DpopClient(client.record, client.now, client.client_key))
    assert refused(same.refresh(sim))[:2] == (400, "invalid_request")
    assert alive(sim, client)


def test_malformed_requests_cost_nothing() -> None:
    """What can't be parsed is called invalid_grant too, with its own words."""
    sim, _, client = public()
    for fields in ({"refresh_token": None}, {"grant_type": None}, {"grant_type": "password"}):
        status, code, text = refused(client.refresh(sim, **fields))
        assert (status, code) == (400, "invalid_grant")
        assert text.startswith("Invalid request payload: ")
    assert refused(client.refresh(sim, client_id=None))[2].startswith("Client credentials missing")
    bare = Request("POST", TOKEN_URL, [("content-type", "text/plain")], b"x")
    assert refused(sim.handle(bare))[2].startswith("Invalid request payload: ")
    assert refused(client.refresh(sim, refresh_token="ref-0"))[1:] == (
        "invalid_grant",
        "Invalid refresh token",
    )
    assert alive(sim, client)


DEEP = "[" * 100_000


def test_hostile_input_is_refused_not_fatal() -> None:
    """Whatever a client sends, the answer is a refusal."""
    sim, _, client = public()
    proofs = [
        client.proof("POST", TOKEN_URL, nonce="\u00e9"),
        client.proof("POST", TOKEN_URL, iat=float("nan")),
        client.proof("POST", TOKEN_URL, htu="http://["),
        client.proof("POST", TOKEN_URL, header={"alg": "\u2603"}),
        client.proof("POST", TOKEN_URL, header={"jwk": {"kty": "EC", "crv": [], "x": 1}}),
        f"{b64u(DEEP.encode())}.e30.AA",
    ]
    requests = [client.refresh_request(proof=proof) for proof in proofs]
    requests.append(client.refresh_request(client_id="http://["))
    for kind in ("application/json", "application/x-www-form-urlencoded"):
        bodies = (b"[]", b"\xff=\xff", b'{"grant_type": 1}', DEEP.encode(), b"")
        requests += [Request("POST", TOKEN_URL, [("content-type", kind)], body) for body in bodies]
    create = f"{URL}/xrpc/com.atproto.server.createSession"
    requests += [Request("POST", create, [], body) for body in (b"[]", b"\xff", DEEP.encode())]
    for request in requests:
        response = sim.handle(request)
        assert response.status in (400, 401), response
        for _, value in response.headers:
            value.encode("latin-1")
    assert alive(sim, client)


@pytest.mark.parametrize(
    ("make", "idle", "total"), [(public, 14, 14), (confidential, 90, 730)], ids=["public", "confidential"]
)
def test_sessions_end_by_idleness(make: Callable[[], Setup], idle: int, total: int) -> None:
    """A session that was left alone too long is refused, and is gone then."""
    sim, clock, client = make()
    assert sim.state.lifetimes(sim.state.oauth_sessions[0]) == (idle * DAY, total * DAY)
    clock.advance(idle * DAY - 4000)
    assert client.refresh(sim).status == 200
    sim.options.session_life = sim.options.confidential_session_life = 9999 * DAY
    clock.advance(idle * DAY)
    assert refused(client.refresh(sim))[1:] == ("invalid_grant", "Refresh token expired")
    assert refused(client.refresh(sim))[2] == "Invalid refresh token"


def test_sessions_end_by_age_and_shrink_before() -> None:
    """Near the absolute end expires_in is what is left; after it the session is over."""
    sim, clock, client = public(session_life=5000, refresh_idle_life=2000, access_life=1800)
    lives = []
    for _ in range(4):
        clock.advance(1200)
        lives.append(client.refresh(sim).json()["expires_in"])
    assert lives == [1800, 1800, 1400, 200]
    clock.advance(200)
    assert refused(client.refresh(sim))[1:] == ("invalid_grant", "Session expired")
    assert not alive(sim, client)


@pytest.mark.parametrize("event", ["takedown", "delete_account"])
def test_accounts_that_are_gone_take_their_sessions_along(event: str) -> None:
    """A takedown or deletion looks like an unknown token."""
    sim, _, client = public()
    getattr(sim, event)(client.record["did"])
    assert refused(client.refresh(sim)) == (400, "invalid_grant", "Invalid refresh token")
    assert refused(api(sim, client))[0] == 401


def test_what_a_session_survives() -> None:
    """Deactivation, a new password and a restarted server change nothing but the nonce."""
    sim, _, client = public()
    did = client.record["did"]
    sim.deactivate(did)
    sim.change_password(did, "other")
    sim.restart()
    assert refused(client.send(sim, client.refresh_request()))[1] == "use_dpop_nonce"
    assert alive(sim, client)
    assert api(sim, client).json()["status"] == "deactivated"


@pytest.mark.parametrize("which", ["refreshJwt", "accessJwt"])
def test_revoking_either_token_ends_the_session(which: str) -> None:
    """RFC 7009, at once."""
    sim, _, client = confidential()
    response = sim.handle(client.form("/oauth/revoke", {"token": client.record[which]}))
    assert (response.status, response.json()) == (200, {})
    assert not alive(sim, client)
    assert refused(api(sim, client))[1] == "invalid_token"
    assert (sim.counters.revocations, sim.counters.sessions_killed) == (1, 0)


@pytest.mark.parametrize("fault", ["no proof", "wrong key", "no assertion"])
def test_revocation_says_200_without_revoking(fault: str) -> None:
    """The answer does not show whether it took."""
    sim, clock, client = confidential()
    sender, proof = client, None
    fields: dict[str, str | None] = {"token": client.record["refreshJwt"]}
    if fault == "no proof":
        proof = ""
    elif fault == "no assertion":
        fields |= {"client_assertion": None, "client_assertion_type": None}
    else:
        other = sim.seed_oauth(sim.add_account("bob.test"), client_id=CONFIDENTIAL)
        sender = warm(sim, DpopClient(other, clock.now, client.client_key))
    response = sim.handle(sender.form("/oauth/revoke", fields, proof))
    assert (response.status, response.json()) == (200, {})
    assert alive(sim, client)


def test_discovery_leads_from_pds_to_issuer() -> None:
    """The documents name each other, also when the authorization server is another origin."""
    clock = VirtualClock(1_750_000_000.0)
    sim = Simulator("https://pds.test", issuer="https://entryway.test", now=clock.now)
    account = sim.add_account("alice.test")
    record = sim.seed_oauth(account)

    def get(url: str) -> Any:
        return sim.handle(Request("GET", url)).json()

    assert get("https://pds.test/.well-known/oauth-protected-resource")["authorization_servers"] == [
        sim.issuer
    ]
    metadata = get("https://entryway.test/.well-known/oauth-authorization-server")
    assert metadata["issuer"] == sim.issuer == record["issuer"]
    assert metadata["token_endpoint"] == "https://entryway.test/oauth/token"
    document = get(f"https://pds.test/{account.did}")
    assert document["alsoKnownAs"] == ["at://alice.test"]
    assert document["service"][0]["serviceEndpoint"] == "https://pds.test"
    url = "https://pds.test/xrpc/com.atproto.identity.resolveHandle?handle=Alice.test"
    assert get(url) == {"did": account.did}
    assert len(account.did) == len("did:plc:") + 24
    client = DpopClient(record, clock.now)
    assert client.refresh(sim).status == 200
    assert api(sim, client).status == 200
    wrong = client.proof("POST", "https://pds.test/oauth/token")
    assert refused(sim.handle(client.refresh_request(proof=wrong)))[1] == "invalid_dpop_proof"
    assert sim.handle(Request("GET", "https://pds.test/did:plc:nobody")).status == 404


def test_records_have_the_stored_shape() -> None:
    """Seeded records carry what the stores keep, with millisecond timestamps."""
    sim, _, client = public(access_life=60)
    record = client.record
    assert record["issuedAt"] == "2025-06-15T15:06:40.000Z"
    assert record["expiresAt"] == "2025-06-15T15:07:40.000Z"
    assert record["refreshExpiresAt"] == "2025-06-29T15:06:40.000Z"
    assert set(json.loads(record["dpopPrivateKeyJwk"])) == {"kty", "crv", "x", "y", "d"}
    assert record["clientAuthMethod"] == "none"
    assert "clientKeyId" not in record
    legacy = sim.seed_legacy(sim.add_account("bob.test"))
    assert (legacy["tokenType"], legacy["dpopPrivateKeyJwk"]) == ("Bearer", "")
    again, _, same = public(access_life=60)
    assert (same.record, again.pds_url) == (record, sim.pds_url)


def test_dpop_at_the_pds_needs_ath_and_the_right_key() -> None:
    """A token without its proof, or with another's, is refused and counted."""
    sim, clock, client = public()
    url = client.api_request(GET_SESSION).url
    for proof in ("", client.proof("GET", url, role="pds"), client.proof("GET", url, role="pds", token="x")):
        response = sim.handle(client.api_request(GET_SESSION, proof=proof))
        assert refused(response)[:2] == (401, "invalid_dpop_proof")
    other = warm(sim, DpopClient(sim.seed_oauth(sim.add_account("bob.test")), clock.now))
    assert refused(api(sim, other, client.record["accessJwt"]))[1:] == (
        "invalid_token",
        "Invalid DPoP key binding",
    )
    assert refused(sim.handle(Request("GET", url)))[:2] == (401, "AuthMissing")
    assert sim.counters.api_refusals == 5
    body = {"repo": client.record["did"], "collection": "app.bsky.feed.post", "record": {}}
    created = client.call(sim, lambda: client.api_request("com.atproto.repo.createRecord", body))
    assert created.json()["uri"].startswith(f"at://{client.record['did']}/app.bsky.feed.post/")
    assert sim.counters.records_created == 1


def legacy(**options: Any) -> Setup:
    clock = VirtualClock(1_750_000_000.0)
    sim = Simulator(URL, now=clock.now, seed=1, **options)
    return sim, clock, DpopClient(sim.seed_legacy(sim.add_account("alice.test", "pass")), clock.now)


def refresh_legacy(sim: Simulator, client: DpopClient, **how: Any) -> Response:
    return sim.handle(client.legacy_request("refreshSession", **how))


def test_legacy_refresh_has_two_hours_of_grace() -> None:
    """The same refresh token gives the same next one for 2 h, and then no more."""
    sim, clock, client = legacy()
    answers = [refresh_legacy(sim, client).json() for _ in range(4)]
    assert {a["refreshJwt"] for a in answers} != {client.record["refreshJwt"]}
    assert len({a["refreshJwt"] for a in answers}) == 1
    assert set(answers[0]) == {"accessJwt", "refreshJwt", "did", "handle", "active"}
    clock.advance(7199)
    assert refresh_legacy(sim, client).status == 200
    clock.advance(1)
    assert refused(refresh_legacy(sim, client)) == (400, "ExpiredToken", "Token has been revoked")
    assert refresh_legacy(sim, client, token=answers[0]["refreshJwt"]).status == 200
    assert (sim.counters.legacy_refreshes, sim.counters.consumptions) == (6, 2)


def test_legacy_lifetimes() -> None:
    """Access 2 h, refresh 90 days; both refusals are 400."""
    sim, clock, client = legacy()
    assert client.record["expiresAt"] == "2025-06-15T17:06:40.000Z"
    clock.advance(7200)
    assert refused(api(sim, client)) == (400, "ExpiredToken", "Token has expired")
    clock.advance(90 * DAY)
    assert refused(refresh_legacy(sim, client)) == (400, "ExpiredToken", "Token has expired")


def test_legacy_refusals_that_cost_nothing() -> None:
    """A body, garbage and the wrong kind of token."""
    sim, _, client = legacy()
    assert refused(refresh_legacy(sim, client, body=b"{}"))[:2] == (400, "InvalidRequest")
    assert refused(refresh_legacy(sim, client, token="garbage"))[:2] == (400, "InvalidToken")
    assert refused(refresh_legacy(sim, client, token=client.record["accessJwt"]))[:2] == (400, "InvalidToken")
    assert refused(api(sim, client, client.record["refreshJwt"]))[:2] == (400, "InvalidToken")
    assert refresh_legacy(sim, client).status == 200


def test_legacy_delete_needs_the_refresh_token_and_repeats() -> None:
    """deleteSession ends refreshing; the access token goes on until it expires."""
    sim, _, client = legacy()
    wrong = sim.handle(client.legacy_request("deleteSession", token=client.record["accessJwt"]))
    assert refused(wrong)[1] == "InvalidToken"
    for _ in range(2):
        assert sim.handle(client.legacy_request("deleteSession")).status == 200
    assert refused(refresh_legacy(sim, client)) == (400, "ExpiredToken", "Token has been revoked")
    assert api(sim, client).status == 200
    sim.revoke_app_password(client.record["did"])
    assert api(sim, client).status == 200


def test_legacy_account_states() -> None:
    """Taken down 401, deleted 400, deactivated 200 with active false."""
    sim, _, client = legacy()
    did = client.record["did"]
    sim.deactivate(did)
    assert refresh_legacy(sim, client).json()["active"] is False
    sim.takedown(did)
    assert refused(refresh_legacy(sim, client))[:2] == (401, "AccountTakedown")
    assert refused(api(sim, client))[:2] == (401, "AccountTakedown")
    sim.reactivate(did)
    assert refresh_legacy(sim, client).status == 200
    sim.delete_account(did)
    assert refused(refresh_legacy(sim, client))[:2] == (400, "InvalidRequest")


def test_logins_are_limited() -> None:
    """The 31st login in five minutes gets 429, with the reset in epoch seconds."""
    sim, clock, _ = legacy(rate_limits=True)
    body = json.dumps({"identifier": "alice.test", "password": "pass"}).encode()
    login = Request("POST", f"{URL}/xrpc/com.atproto.server.createSession", [], body)
    assert [sim.handle(login).status for _ in range(30)] == [200] * 30
    limited = sim.handle(login)
    assert refused(limited)[:2] == (429, "RateLimitExceeded")
    assert int(limited.get("ratelimit-reset") or 0) == int(clock.now()) + 301
    assert int(limited.get("retry-after") or 0) == 301
    clock.advance(301)
    assert sim.handle(login).status == 200
    wrong = Request("POST", login.url, [], body.replace(b'"pass"', b'"no"'))
    assert refused(sim.handle(wrong))[:2] == (401, "AuthenticationRequired")


# From here on: the adapters.


async def send(http: httpx.AsyncClient, client: DpopClient, request: Request, **how: Any) -> httpx.Response:
    response = await http.request(
        request.method, request.url, headers=request.headers, content=request.body, **how
    )
    client.learn(request, Response(response.status_code, list(response.headers.items()), response.content))
    return response


@asynccontextmanager
async def on_socket(**options: Any) -> AsyncIterator[tuple[Simulator, DpopClient, httpx.AsyncClient]]:
    sim = Simulator(**options)
    async with anyio.create_task_group() as group:
        await group.start(serve, sim)
        client = DpopClient(sim.seed_oauth(sim.add_account("alice.test")), lambda: sim.state.now)
        async with httpx.AsyncClient(trust_env=False) as http:
            yield sim, warm(sim, client), http
        group.cancel_scope.cancel()


@asynccontextmanager
async def in_process(**options: Any) -> AsyncIterator[tuple[Simulator, DpopClient, httpx.AsyncClient]]:
    sim, _, client = public(**options)
    async with httpx.AsyncClient(transport=SimulatorTransport(sim)) as http:
        yield sim, client, http


adapters = pytest.mark.parametrize("adapter", [in_process, on_socket], ids=["in process", "socket"])


@adapters
@pytest.mark.anyio
@pytest.mark.parametrize(
    ("kind", "error", "reached"),
    [
        ("drop_before", httpx.RemoteProtocolError, False),
        ("drop_after", httpx.RemoteProtocolError, True),
        ("reset", httpx.ReadError, False),
        ("reset_after", httpx.ReadError, True),
        ("truncate", httpx.RemoteProtocolError, True),
    ],
)
async def test_faults_that_lose_the_answer(
    adapter: Any, kind: Any, error: type[Exception], reached: bool
) -> None:
    """A retry after a lost answer is a replay exactly if the core was reached."""
    async with adapter() as (sim, client, http):
        fault = sim.faults.add(Fault(kind, "/oauth/token", count=20))
        with pytest.raises(error):
            await send(http, client, client.refresh_request())
        assert (fault.hits, sim.counters.faults, sim.counters.consumptions) == (1, 1, int(reached))
        response = await send(http, client, client.refresh_request())
        assert response.status_code == (400 if reached else 200)
        assert sim.counters.replays_seen == int(reached)


@adapters
@pytest.mark.anyio
async def test_faults_that_answer_otherwise(adapter: Any) -> None:
    """Given answers come with or without the core having acted; a DID matches its own requests."""
    async with adapter() as (sim, client, http):
        did = client.record["did"]
        sim.faults.add(server_error())
        sim.faults.add(html(match=did))
        sim.faults.add(Fault("respond_after", did, status=504, headers=[("Retry-After", "7")], body=b"late"))
        first = await send(http, client, client.refresh_request())
        assert (first.status_code, first.json()["error"]) == (500, "server_error")
        page = await http.get(sim.pds_url + "/xrpc/_health")
        assert page.json() == {"version": "simulator"}
        page = await http.request(
            *(r := client.api_request(GET_SESSION)).method.split(), r.url, headers=r.headers
        )
        assert page.headers["content-type"] == "text/html"
        assert sim.counters.consumptions == 0
        late = await send(http, client, client.refresh_request())
        assert (late.status_code, late.text, late.headers["retry-after"]) == (504, "late", "7")
        assert (sim.counters.consumptions, len(sim.faults)) == (1, 0)


@adapters
@pytest.mark.anyio
async def test_slow_answers_meet_time_outs(adapter: Any) -> None:
    """A client that gives up on a slow server has still sent its token."""
    async with adapter() as (sim, client, http):
        sim.faults.add(Fault("drip", "/_health", count=9, interval=0.01))
        assert (await http.get(sim.pds_url + "/xrpc/_health")).json() == {"version": "simulator"}
        sim.faults.add(Fault("delay", "/oauth/token", delay_after=0.5))
        with pytest.raises(httpx.ReadTimeout):
            await send(http, client, client.refresh_request(), timeout=0.05)
        assert sim.counters.consumptions == 1


@pytest.mark.anyio
async def test_a_request_outlives_its_client() -> None:
    """What was sent before the client gave up or was cancelled is worked off when its time comes."""
    sim, clock, client = public()
    async with httpx.AsyncClient(transport=SimulatorTransport(sim)) as http:
        sim.faults.add(Fault("delay", "/oauth/token", delay=30, times=2))
        with pytest.raises(httpx.ReadTimeout):
            await send(http, client, client.refresh_request(), timeout=0.01)
        clock.advance(29)
        assert sim.counters.consumptions == 0
        clock.advance(1)
        assert sim.counters.consumptions == 1
        with anyio.move_on_after(0.01):
            await send(http, client, client.refresh_request(), timeout=None)
        clock.advance(30)
        assert sim.counters.replays_seen == 1


@pytest.mark.anyio
async def test_several_servers_behind_one_transport() -> None:
    """Origins are told apart; one that is not there refuses the connection."""
    a, b = Simulator("https://a.test"), Simulator("https://b.test", issuer="https://login.test")
    transport = SimulatorTransport({"https://a.test": a, "https://b.test": b, "https://login.test": b})
    async with httpx.AsyncClient(transport=transport) as http:
        for origin, issuer in (
            ("https://a.test", "https://a.test"),
            ("https://b.test", "https://login.test"),
        ):
            found = await http.get(origin + "/.well-known/oauth-protected-resource")
            assert found.json()["authorization_servers"] == [issuer]
        with pytest.raises(httpx.ConnectError):
            await http.get("https://c.test/")
        a.faults.add(Fault("connect_error"))
        with pytest.raises(httpx.ConnectError):
            await http.get("https://a.test/")


@pytest.mark.anyio
async def test_a_socket_server_is_steered_from_outside() -> None:
    """Other processes seed, script faults and read the statistics; connections are kept."""
    async with on_socket(access_life=20) as (sim, client, http):
        url = sim.pds_url
        seeded = await http.post(url + "/_sim/accounts", json={"handle": "bob.test", "oauth": 1, "legacy": 1})
        record = seeded.json()["oauth"][0]
        assert (record["pdsUrl"], record["handle"]) == (url, "bob.test")
        await http.post(url + "/_sim/faults", json={"kind": "respond", "status": 502, "match": "/oauth"})
        assert (await send(http, client, client.refresh_request())).status_code == 502
        assert (await send(http, client, client.refresh_request())).status_code == 200
        stats = (await http.get(url + "/_sim/stats")).json()
        assert (stats["faults"], stats["refreshes"], stats["alive"]) == (1, 1, 3)
        assert stats["consumptions_by_did"] == {client.record["did"]: 1}
        await http.post(url + "/_sim/takedown", json={"did": record["did"]})
        sessions = (await http.get(url + "/_sim/sessions", params={"did": record["did"]})).json()
        assert [(s["kind"], s["alive"], s["consumable"]) for s in sessions] == [
            ("oauth", False, False),
            ("legacy", True, False),
        ]
        assert (await http.post(url + "/_sim/options", json={"access_life": 5})).json()["access_life"] == 5
        assert (await http.post(url + "/_sim/faults", json={"kind": "nonsense"})).status_code == 400


@pytest.mark.anyio
async def test_an_entryway_on_a_socket_of_its_own() -> None:
    """One simulator served twice: the authorization server's origin is not the PDS's."""
    sim = Simulator()
    async with anyio.create_task_group() as group:

        async def run(role: Any, *, task_status: Any) -> None:
            await serve(sim, role=role, task_status=task_status)

        issuer = await group.start(run, "issuer")
        pds = await group.start(run, "pds")
        assert (sim.issuer, sim.pds_url) == (issuer, pds)
        assert issuer != pds
        client = DpopClient(sim.seed_oauth(sim.add_account("alice.test")), lambda: sim.state.now)
        async with httpx.AsyncClient(trust_env=False) as http:
            for status in (400, 200):
                assert (await send(http, client, client.refresh_request())).status_code == status
        group.cancel_scope.cancel()


@pytest.mark.parametrize("backend", ["trio", "asyncio"])
def test_the_command_prints_one_line_and_stops_with_its_input(backend: str) -> None:
    """A parent learns everything from one line, and its end is the simulator's."""
    command = [
        sys.executable,
        "-m",
        "tests.simulator",
        "--backend",
        backend,
        "--accounts",
        "2",
        "--legacy",
        "1",
    ]
    with subprocess.Popen(
        [*command, "--access-life", "20"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        assert process.stdin is not None
        started = json.loads(process.stdout.readline())
        assert httpx.get(started["url"] + "/_sim/stats", trust_env=False).json()["accounts"] == 3
        kinds = [(len(a["oauth"]), len(a["legacy"])) for a in started["accounts"]]
        assert kinds == [(1, 0), (1, 0), (0, 1)]
        process.stdin.close()
        assert process.wait(10) == 0


def test_legacy_delete_leaves_the_predecessor_in_its_grace() -> None:
    """Deleting the newest token does not end the one before it, which can bring the session back."""
    sim, _, client = legacy()
    old = client.record["refreshJwt"]
    newest = refresh_legacy(sim, client).json()["refreshJwt"]
    assert sim.handle(client.legacy_request("deleteSession", token=newest)).status == 200
    assert sim.handle(client.legacy_request("refreshSession", token=old)).json()["refreshJwt"] == newest
    assert sim.handle(client.legacy_request("refreshSession", token=newest)).status == 200
