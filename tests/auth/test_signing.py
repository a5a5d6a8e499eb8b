"""`SessionAuth` signs: proofs, nonces, clocks. With each kind of client."""

import itertools
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from email.utils import formatdate
from pathlib import Path

import anyio
import httpx
import pytest

from tests.auth.support import (
    CREATE_RECORD,
    GET_SESSION,
    LONG,
    House,
    Way,
    record_body,
    refused_tokens,
)
from tests.jose import decode
from tests.simulator.wire import Request, Response, json_response


def test_a_dpop_session_signs(way: Way, house: House) -> None:
    """The first answer brings the nonce; from then on each request is one, query and all."""
    auth = house.auth()
    for number in range(3):
        answer = house.fetch(way, auth, url=f"{GET_SESSION}?n={number}")
        assert answer.json()["did"] == house.did
    assert len(house.wire.requests) == 4
    proofs = [decode(request.get("dpop") or "") for request in house.wire.requests]
    assert len({claims["jti"] for _, claims, *_ in proofs}) == 4
    assert all("ath" in claims for _, claims, *_ in proofs)


def test_a_legacy_session_signs(way: Way, legacy: House) -> None:
    """A Bearer token, no proof, one request."""
    assert legacy.fetch(way, legacy.auth()).json()["did"] == legacy.did
    (request,) = legacy.wire.requests
    assert request.get("authorization") == f"Bearer {legacy.session.access_jwt}"
    assert request.get("dpop") is None


def test_nonces_are_shared_and_kept_from_successes(way: Way, house: House) -> None:
    """Another account's auth in this process pays no refusal, and a new nonce comes with any answer."""
    house.fetch(way, house.auth())
    other = House(house.folder.with_name("other"))
    other.sim, other.wire, other.servers = house.sim, house.wire, house.servers
    other.account = house.sim.add_account("bob.test")
    other.did, other.record = other.account.did, house.sim.seed_oauth(other.account)
    other.store()
    before = len(house.wire.requests)
    house.wire.before = lambda _n, _r: None
    assert house.fetch(way, other.auth()).status_code == 200
    assert len(house.wire.requests) == before + 1


def test_a_new_nonce_costs_one_refusal(way: Way, house: House) -> None:
    """A server that has forgotten its nonces is obeyed at once, and a POST arrives whole."""
    auth = house.auth()
    house.fetch(way, auth)
    house.sim.restart()
    answer = house.fetch(way, auth, "POST", CREATE_RECORD, json=record_body(house.did))
    assert answer.status_code == 200
    assert house.wire.paths == ["getSession"] * 2 + ["createRecord"] * 2
    assert house.sim.counters.records_created == 1


def test_a_success_brings_the_next_nonce(way: Way, house: House) -> None:
    """Over ten changes of the nonce a client that calls now and then is never refused for it."""
    auth = house.auth()
    house.fetch(way, auth)
    for _ in range(10):
        house.sim.options.server_clock_offset += house.sim.options.nonce_rotation
        assert house.fetch(way, auth).status_code == 200
    assert house.sim.counters.nonce_requests == 1


def test_nonces_without_end_are_given_up(way: Way, house: House) -> None:
    """A server that always wants another nonce gets four requests, and the caller its answer."""
    nonces = iter(range(100))

    def refuse(_number: int, _request: Request) -> Response:
        return json_response(
            401,
            {"error": "use_dpop_nonce", "message": "again"},
            ("WWW-Authenticate", 'DPoP error="use_dpop_nonce"'),
            ("DPoP-Nonce", f"nonce-{next(nonces)}"),
        )

    house.wire.before = refuse
    assert house.fetch(way, house.auth()).status_code == 401
    assert len(house.wire.requests) == 4


@pytest.mark.parametrize("turns", ["ab", "aab", "abb"])
def test_nodes_with_nonces_of_their_own(way: Way, house: House, turns: str) -> None:
    """Behind one name every request may meet another node: the one that it meets gets its own nonce."""
    nodes = itertools.cycle(turns)

    def serve(_number: int, request: Request) -> Response | None:
        node = next(nodes)
        if decode(request.get("dpop") or "")[1].get("nonce") == f"nonce-{node}":
            return json_response(200, {"did": house.did})
        return json_response(
            401,
            {"error": "use_dpop_nonce", "message": "again"},
            ("WWW-Authenticate", 'DPoP error="use_dpop_nonce"'),
            ("DPoP-Nonce", f"nonce-{node}"),
        )

    house.wire.before = serve
    auth = house.auth()
    assert [house.fetch(way, auth).status_code for _ in range(6)] == [200] * 6


def test_a_wrong_clock_is_corrected(way: Way, tmp_path: Path) -> None:
    """A proof refused for its time is dated by the server's clock, once; later ones are right at once."""
    house = House(tmp_path / "store", options={"server_clock_offset": 1000.0})
    auth = house.auth()
    assert house.fetch(way, auth).status_code == 200
    sent = len(house.wire.requests)
    assert sent <= 3
    assert house.fetch(way, auth).status_code == 200
    assert len(house.wire.requests) == sent + 1


@pytest.mark.parametrize(
    ("status", "error"), [(400, "InvalidRequest"), (401, "invalid_token"), (401, "AuthRequired"), (400, None)]
)
def test_a_wrong_clock_is_corrected_whatever_the_words(
    way: Way, house: House, status: int, error: str | None
) -> None:
    """Servers say in many words that a proof is of another time; what counts is the time that they bring."""
    ahead = time.time() + 60

    def serve(_number: int, request: Request) -> Response:
        date = ("Date", formatdate(ahead, usegmt=True))
        if abs(decode(request.get("dpop") or "")[1]["iat"] - ahead) < 10:
            return json_response(200, {"did": house.did}, date)
        return json_response(status, {"error": error} if error else {}, date)

    house.wire.before = serve
    assert house.fetch(way, house.auth(patience=LONG)).status_code == 200
    assert len(house.wire.requests) == 2


def test_a_bad_proof_is_the_callers_to_see(way: Way, house: House) -> None:
    """Where the time is not the reason, nothing is repeated."""
    house.fetch(way, house.auth())
    refusal = json_response(
        401,
        {"error": "invalid_dpop_proof", "message": "no"},
        ("WWW-Authenticate", 'DPoP error="invalid_dpop_proof"'),
        ("Date", formatdate(usegmt=True)),
    )
    house.wire.before = lambda _n, _r: refusal
    before = len(house.wire.requests)
    assert house.fetch(way, house.auth()).status_code == 401
    assert len(house.wire.requests) == before + 1


def test_many_threads_share_one_auth(house: House) -> None:
    """Twenty threads over three rotations with one object: no call fails."""
    auth = house.auth(patience=LONG)
    stop = threading.Event()
    failures: list[object] = []

    def call() -> int:
        calls = 0
        with httpx.Client(transport=house.wire, auth=auth) as client:
            while not stop.is_set():
                answer = client.get(GET_SESSION)
                if answer.status_code != 200:
                    failures.append(answer.text)
                calls += 1
        return calls

    with ThreadPoolExecutor(20) as pool:
        running = [pool.submit(call) for _ in range(20)]
        for _ in range(3):
            time.sleep(0.3)  # longer than a thread of twenty waits for its turn
            house.rotate()
            time.sleep(0.05)
            house.store()
        time.sleep(0.1)
        stop.set()
        calls = [future.result() for future in running]
    assert failures == []
    assert min(calls) > 0
    assert refused_tokens(house) > 0


@pytest.mark.anyio
async def test_many_tasks_share_one_auth(house: House) -> None:
    """A hundred tasks are refused at the same moment, wait for the same save, and all go on."""
    auth = house.auth(patience=LONG)
    async with httpx.AsyncClient(transport=house.wire, auth=auth) as client:
        await client.get(GET_SESSION)
        house.rotate()
        codes: list[int] = []

        async def call() -> None:
            codes.append((await client.get(GET_SESSION)).status_code)

        async with anyio.create_task_group() as tg:
            for _ in range(100):
                tg.start_soon(call)
            with anyio.fail_after(LONG):
                while refused_tokens(house) < 100:
                    await anyio.sleep(0.01)
            house.store()
    assert codes == [200] * 100
    assert refused_tokens(house) == 100
