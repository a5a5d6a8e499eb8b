"""The benchmarks' server: a benchmark that counts wrongly would measure something else than it says."""

import time
from pathlib import Path

import httpx
import pytest

from bench.endpoint import Endpoint
from bench.errors import BenchError
from bench.naive import proof
from bench.peers import NAIVE, running
from bench.refreshes import observe
from bench.seeding import Seeding, did, write_sqlite
from tests.support import KEY


def refresh(http: httpx.Client, issuer: str, token: str, nonce: str | None) -> httpx.Response:
    url = f"{issuer}/oauth/token"
    form = {"grant_type": "refresh_token", "refresh_token": token, "client_id": "http://localhost"}
    return http.post(url, data=form, headers={"DPoP": proof({"dpopPrivateKeyJwk": KEY}, url, nonce)})


def test_a_token_is_taken_once() -> None:
    """A proof without the nonce is asked for it; then the token is exchanged; after that it is a replay."""
    token = f"ref-{7:024d}{0:08x}{0:032x}"
    with Endpoint(2, sessions=8) as endpoint, httpx.Client(trust_env=False) as http:
        asked = refresh(http, endpoint.issuers[1], token, None)
        assert (asked.status_code, asked.json()["error"]) == (400, "use_dpop_nonce")
        nonce = asked.headers["DPoP-Nonce"]
        given = refresh(http, endpoint.issuers[1], token, nonce)
        assert (given.status_code, given.json()["sub"]) == (200, did(7))
        replayed = refresh(http, endpoint.issuers[1], token, nonce)
        assert (replayed.status_code, replayed.json()["error"]) == (400, "invalid_grant")
        assert refresh(http, endpoint.issuers[1], given.json()["refresh_token"], nonce).status_code == 200
        counted = endpoint.statistics()
    assert (counted.tokens, counted.replays, counted.nonces_asked, counted.requests) == (2, 1, 1, 4)


def test_it_is_all_the_servers() -> None:
    """Each issuer names itself, and the directory says where a session lives."""
    with Endpoint(3) as endpoint, httpx.Client(trust_env=False) as http:
        for issuer in endpoint.issuers:
            metadata = http.get(f"{issuer}/.well-known/oauth-authorization-server").json()
            assert metadata["issuer"] == issuer
        document = http.get(f"{endpoint.directory}/{did(4)}").json()
        assert document["service"][0]["serviceEndpoint"] == endpoint.issuers[1]
        named = http.get(
            f"{endpoint.issuers[0]}/xrpc/com.atproto.identity.resolveHandle", params={"handle": "u4.test"}
        )
        assert named.json() == {"did": did(4)}


def test_a_token_that_is_sent_twice_ends_the_measure(tmp_path: Path) -> None:
    """What the figures of such a program would mean, nobody knows: there are none."""
    with Endpoint(2, sessions=200) as endpoint:
        seeding = Seeding(endpoint.issuers, 200, due=time.time())
        command = NAIVE.prepare(seeding, endpoint.directory, tmp_path)
        with running(command) as pid:
            assert list(observe("once", pid, endpoint, warm=10, total=200))
        (tmp_path / "sessions.sqlite").unlink()
        write_sqlite(tmp_path / "sessions.sqlite", seeding.records())  # the same tokens again
        with running(command) as pid, pytest.raises(BenchError, match="replays"):
            list(observe("twice", pid, endpoint, warm=210, total=400))
