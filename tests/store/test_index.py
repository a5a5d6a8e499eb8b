"""The index of an SQLite store: who is called what, and which sessions need a look."""

import sqlite3
from dataclasses import replace
from pathlib import Path

import pytest

from idiolectd import load_session, open_store
from idiolectd.ports import Called, Overview, ScheduleEntry
from idiolectd.state import ENDING, Note, RefreshState, State
from idiolectd.store.sqlite import schema
from tests.store.support import ALICE, BOB, NOW, session

pytestmark = pytest.mark.anyio

CAROL = "did:plc:cccccccccccccccccccccccc"


def planned(did: str, at: float) -> ScheduleEntry:
    return ScheduleEntry(at=at, did=did, expires_at=at + 900, server="https://issuer.example")


@pytest.mark.parametrize(
    ("state", "attention"),
    [
        (RefreshState(), ""),
        (RefreshState(state=State.RETRYING), "retrying"),
        (RefreshState(state=State.SUSPENDED), "suspended"),
        (RefreshState(state=State.RELOGIN_REQUIRED), "relogin_required"),
        (RefreshState(state=State.RELOGIN_REQUIRED, paused=True), "relogin_required"),
        (RefreshState(paused=True), "suspended"),
        (RefreshState(ending=True), ENDING),
        (RefreshState(state=State.AMBIGUOUS), "ambiguous"),
        # A request is under way: nearly every session is in this state now and then.
        (RefreshState(state=State.AMBIGUOUS, note=Note("hash", NOW, 1)), ""),
    ],
)
async def test_who_needs_a_look(tmp_path: Path, state: RefreshState, attention: str) -> None:
    """Beside each state stands whether somebody should look; the sessions that need it are named first."""
    async with open_store(f"sqlite://{tmp_path}/s.sqlite") as store:
        for did in (ALICE, BOB, CAROL):
            await store.save(session(did))
        await store.commit(session(ALICE), RefreshState(), due=planned(ALICE, NOW + 60))
        await store.commit(session(BOB), RefreshState(), due=planned(BOB, NOW - 1))
        await store.commit(session(CAROL), state, due=planned(CAROL, NOW + 60))
        needy = {attention: 1} if attention else {}
        dids = [CAROL, BOB] if attention else [BOB]
        assert await store.overview(NOW, limit=10) == Overview(3, needy, 1, dids)
        assert (await store.overview(NOW, limit=1)) == Overview(3, needy, 1, dids[:1])


async def test_who_is_called_so(tmp_path: Path) -> None:
    """The index follows the record through saves, refreshes and logouts."""
    async with open_store(f"sqlite://{tmp_path}/s.sqlite") as store:
        alice = session(ALICE, handle="Alice.Example")
        await store.save(alice)
        await store.save(session(BOB, handle="bob.example", confirmed_handle="@bobby.example"))
        assert (await store.called("alice.example")).dids == [ALICE]
        assert (await store.called("bobby.example")).dids == [BOB]
        named = replace(alice, handle="alice.test", confirmed_handle="alice.test")
        await store.save(named)
        assert (await store.called("alice.example")).dids == []
        assert (await store.called("alice.test")).dids == [ALICE]
        await store.delete(ALICE)
        assert (await store.called("alice.test")).dids == []


async def test_when_no_record_has_to_be_read_for_a_handle(tmp_path: Path) -> None:
    """Once every session was looked at, until somebody else writes one."""
    place = tmp_path / "s.sqlite"
    async with open_store(f"sqlite://{place}") as store:
        alice = session(ALICE, handle="alice.test")
        await store.save(alice)
        assert not (await store.called("bob.test")).is_all
        await store.commit(alice, RefreshState(), due=planned(ALICE, NOW + 60))
        async with store.watch() as watch:
            assert await watch.wait_changed() == []
        assert await store.called("bob.test") == Called([], is_all=True)
        with sqlite3.connect(place) as database:
            database.execute("UPDATE sessions SET body_json = body_json || ' '")
        database.close()
        assert not (await store.called("bob.test")).is_all


async def test_a_hint_and_no_more(tmp_path: Path) -> None:
    """What an older version or a foreign program writes is found all the same, by reading every record."""
    place = tmp_path / "s.sqlite"
    url = f"sqlite://{place}"
    async with open_store(url) as store:
        await store.save(session(ALICE, handle="alice.test", confirmed_handle="alice.test"))
        await store.save(session(BOB, handle="bob.test", confirmed_handle="bob.test"))
        moved = session(ALICE, handle="new.test", confirmed_handle="new.test")
        with sqlite3.connect(place) as database:
            database.execute("UPDATE sessions SET body_json = ? WHERE did = ?", (moved.to_json(), ALICE))
        database.close()
        assert load_session(url, "new.test").did == ALICE
        assert load_session(url, "bob.test").did == BOB


async def test_an_older_database_gets_the_index(tmp_path: Path) -> None:
    """Nobody's schedule is given up for it, and until a session is written again it counts as unseen."""
    place = tmp_path / "s.sqlite"
    url = f"sqlite://{place}"
    async with open_store(url) as store:
        for did in (ALICE, BOB):
            await store.save(session(did))
            await store.commit(session(did), RefreshState(), due=planned(did, NOW + 60))
    with sqlite3.connect(place) as database:
        for name in ("handle", "attention"):
            database.execute(f"DROP INDEX idiolectd_state_{name}")
            database.execute(f"ALTER TABLE idiolectd_state DROP COLUMN {name}")
    database.close()
    async with open_store(url) as store:
        assert await store.overview(NOW, limit=10) is None
        assert await store.called("alice.test") == Called()
        await store.commit(session(ALICE), RefreshState(attempts=1), due=planned(ALICE, NOW + 60))
        found = await store.overview(NOW, limit=10)
        assert found == Overview(2, {"": 1}, 0, [BOB])
        async with store.watch() as watch:
            assert await watch.wait_changed() == []


async def test_totals_come_from_the_index(tmp_path: Path) -> None:
    """What `status` and a start count is in an index, and no state is read for it."""
    place = tmp_path / "s.sqlite"
    async with open_store(f"sqlite://{place}") as store:
        await store.save(session(ALICE))
    with sqlite3.connect(place) as database:
        for sql in (schema.COUNT_UNKNOWN, schema.COUNT_NEEDY, schema.COUNT_STATES, schema.COUNT):
            ((_, _, _, plan),) = database.execute(f"EXPLAIN QUERY PLAN {sql}").fetchall()
            assert "COVERING INDEX" in plan
    database.close()
