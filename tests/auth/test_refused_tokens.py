"""`SessionAuth` when a token is refused: it waits for the record, or says why there is nothing to wait for."""

import threading
import time
from dataclasses import replace

import anyio
import pytest

from idiolectd import (
    NoSessionError,
    TokenRefused,
    open_store,
)
from idiolectd.state import State, reconcile
from idiolectd.store import try_exclusive
from tests.auth.support import (
    CREATE_RECORD,
    LONG,
    House,
    Way,
    record_body,
    refused_tokens,
)
from tests.simulator import Fault
from tests.simulator.wire import Request, Response, json_response


def test_a_rotation_is_adopted_at_once(way: Way, house: House) -> None:
    """The record is read for every request: what was stored in between is used, and nothing refused."""
    auth = house.auth()
    house.fetch(way, auth)
    house.rotate()
    house.store()
    assert house.fetch(way, auth).status_code == 200
    assert refused_tokens(house) == 0


def test_the_record_is_waited_for(way: Way, house: House) -> None:
    """Refused in the moment between rotation and save: the request waits for the save and is repeated."""
    auth = house.auth(patience=LONG)
    house.fetch(way, auth)
    house.rotate()
    saving = house.store_later(0.15)
    answer = house.fetch(way, auth, "POST", CREATE_RECORD, json=record_body(house.did))
    saving.join()
    assert answer.status_code == 200
    assert refused_tokens(house) == 1
    assert house.sim.counters.records_created == 1


def test_rotations_on_the_way_are_followed(way: Way, house: House) -> None:
    """Rotated again each time the new token arrives: up to three newer tokens are tried, none twice."""
    auth = house.auth(patience=LONG)
    house.fetch(way, auth)
    first = len(house.wire.requests)

    def rotate(number: int, _request: Request) -> None:
        if number - first <= 3:
            house.rotate()
            house.store()

    house.wire.before = rotate
    assert house.fetch(way, auth).status_code == 200
    tokens = [request.get("authorization") for request in house.wire.requests[first:]]
    assert (len(tokens), len(set(tokens))) == (4, 4)


def test_rotations_without_end_are_given_up(way: Way, house: House) -> None:
    """The fourth refused token is the last one."""
    auth = house.auth(patience=LONG)
    house.fetch(way, auth)
    first = len(house.wire.requests)

    def rotate(_number: int, _request: Request) -> None:
        house.rotate()
        house.store()

    house.wire.before = rotate
    with pytest.raises(TokenRefused, match="4 access tokens"):
        house.fetch(way, auth)
    assert len(house.wire.requests) - first == 4


def test_a_session_that_ended_is_an_error(way: Way, house: House) -> None:
    """Nothing newer in time: the error names the store and that nobody runs there, and no secret."""
    house.fetch(way, house.auth())
    house.sim.revoke_sessions(house.did)
    began = time.monotonic()
    with pytest.raises(TokenRefused, match="start it") as raised:
        house.fetch(way, house.auth(patience=0.2))
    assert time.monotonic() - began >= 0.2
    text = str(raised.value)
    assert str(house.folder) in text
    assert house.did in text
    assert house.session.access_jwt not in text
    assert raised.value.state == "fresh"


def test_a_refusal_names_the_daemon_that_runs(way: Way, house: House) -> None:
    """While its lock is held, the advice is to ask it."""
    house.sim.revoke_sessions(house.did)
    with (
        try_exclusive(house.folder / ".idiolectd" / "daemon.lock"),
        pytest.raises(TokenRefused, match=f"runs on this store.*idiolectd status {house.did}"),
    ):
        house.fetch(way, house.auth(patience=0))


def test_a_refusal_names_the_login_that_is_needed(way: Way, house: House) -> None:
    """Once the daemon has found the session dead, the advice is the command to type."""

    async def declare_dead() -> None:
        async with open_store(f"file://{house.folder}") as store:
            entry = await store.read(house.did)
            assert entry.session is not None
            known = reconcile(entry.session, entry.state, time.time()).state
            await store.commit(entry.session, replace(known, state=State.RELOGIN_REQUIRED, cause="revoked"))

    anyio.run(declare_dead)
    house.sim.revoke_sessions(house.did)
    with pytest.raises(TokenRefused, match=f"type: idiolectd login {house.did}") as raised:
        house.fetch(way, house.auth(patience=0))
    assert (raised.value.state, raised.value.did) == ("relogin_required", house.did)


def test_without_patience_nothing_is_waited_for(way: Way, house: House) -> None:
    """``patience=0``: one look at the record, then the error."""
    auth = house.auth(patience=0)
    house.fetch(way, auth)
    house.rotate()
    with pytest.raises(TokenRefused):
        house.fetch(way, auth)
    assert refused_tokens(house) == 1
    house.wire.before = lambda _n, _r: house.store()  # saved while the request is on its way
    house.store(accessJwt="stale", refreshJwt="stale")
    assert house.fetch(way, auth).status_code == 200


def test_a_logout_while_waiting_is_told(way: Way, house: House) -> None:
    """The record is gone: no session, and no waiting for one."""
    auth = house.auth(patience=LONG)
    house.fetch(way, auth)
    house.rotate()
    leaving = threading.Timer(0.1, house.path.unlink)
    leaving.start()
    with pytest.raises(NoSessionError):
        house.fetch(way, auth)
    leaving.join()


def test_an_expired_legacy_token_is_waited_for(way: Way, legacy: House) -> None:
    """400 ExpiredToken of a token that is over by the server's clock: the record has to change."""
    legacy.sim.options.server_clock_offset = 86400.0
    legacy.record = legacy.sim.seed_legacy(legacy.account)
    saving = legacy.store_later(0.1)
    assert legacy.fetch(way, legacy.auth(patience=LONG)).status_code == 200
    saving.join()
    assert refused_tokens(legacy) == 1


@pytest.mark.parametrize("error", ["ExpiredToken", "InvalidToken"])
def test_another_token_in_the_same_words_is_the_callers(way: Way, legacy: House, error: str) -> None:
    """confirmEmail says ExpiredToken of the token in its body: ours lives, so the answer is passed on."""
    legacy.wire.before = lambda _n, _r: json_response(400, {"error": error, "message": "Token is bad"})
    answer = legacy.fetch(way, legacy.auth(patience=0.1), "POST", CREATE_RECORD, json={})
    assert (answer.status_code, answer.json()["error"]) == (400, error)
    assert len(legacy.wire.requests) == 1


# What servers say of a token that was rotated just now: status, WWW-Authenticate, body.
ROTATED = {
    "millipds": (401, None, b"revoked token"),
    "pegasus": (400, None, b'{"error":"ExpiredToken","message":"Token has been revoked"}'),
    "an older word": (400, None, b'{"error":"InvalidToken","message":"no"}'),
    "no word at all": (401, None, b""),
    "without quotes": (401, "DPoP error=invalid_token", b""),
    "in capitals": (401, 'DPOP Realm="x" , ERROR = "invalid_token"', b""),
    "with escapes": (401, 'DPoP error="invalid\\_token"', b""),
    "behind another scheme": (401, 'Basic realm="a, error=", DPoP algs="ES256", error="invalid_token"', b""),
    "an edge's page": (401, None, b"<html>Unauthorized</html>"),
}


@pytest.mark.parametrize("words", ROTATED)
def test_a_rotation_is_seen_in_any_words(way: Way, house: House, words: str) -> None:
    """Whatever a server says of the old token: before the caller hears it, the record is looked at."""
    house.fetch(way, house.auth())
    old = house.record["accessJwt"]
    status, challenge, body = ROTATED[words]
    fields = [("WWW-Authenticate", challenge)] if challenge else []

    def refuse(_number: int, request: Request) -> Response | None:
        return Response(status, fields, body) if old in (request.get("authorization") or "") else None

    house.wire.before = refuse
    house.rotate()
    saving = house.store_later(0.1)
    answer = house.fetch(way, house.auth(patience=LONG))
    assert answer.status_code == 200
    assert [one.content for one in answer.history[-1:]] == [body]  # what was said stays to be seen
    saving.join()


def test_an_unclear_refusal_is_the_callers_in_the_end(way: Way, house: House) -> None:
    """It is passed on untouched if the record brings nothing new; a known reason at once."""
    house.fetch(way, house.auth())
    house.wire.before = lambda _n, _r: Response(401, [], b"revoked token")
    answer = house.fetch(way, house.auth(patience=0.1))
    assert (answer.status_code, answer.text) == (401, "revoked token")
    assert len(house.wire.requests) == 3  # with the two of the nonce


@pytest.mark.parametrize("status", [400, 401, 403, 404, 500, 503])
def test_other_refusals_are_the_callers(way: Way, house: House, status: int) -> None:
    """Passed on untouched after one request, whatever the body is."""
    house.fetch(way, house.auth())
    before = len(house.wire.requests)
    house.sim.faults.add(Fault("respond", "getSession", status=status, body=b"<html>\xff"))
    faulty = house.sim.faults
    house.wire.before = lambda _n, r: found.response if (found := faulty.take(r)) else None
    answer = house.fetch(way, house.auth(patience=0.1 if status == 401 else LONG))
    assert (answer.status_code, answer.content) == (status, b"<html>\xff")
    assert len(house.wire.requests) == before + 1


def test_a_taken_down_account_is_the_callers(way: Way, house: House) -> None:
    """401 without the token's words: an OAuth session is ended with it, so the token is what is refused."""
    house.fetch(way, house.auth())
    house.sim.state.accounts[house.did].status = "takendown"
    answer = house.fetch(way, house.auth(patience=LONG))
    assert (answer.status_code, answer.json()["error"]) == (401, "AccountTakedown")
