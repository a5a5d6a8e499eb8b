"""The list of changes that nobody has looked at: whatever program writes, a start reads it and compares nothing."""

import sqlite3
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import anyio
import pytest

from idiolectd.ports import FULL_BATCH, SharedStore
from idiolectd.state import RefreshState
from idiolectd.store import SqliteOAuthTokenStore
from idiolectd.store.sqlite import schema
from tests.store.support import ALICE, BOB, SOON, rotated, session
from tests.store.test_sqlite import FOREIGN, UPSERT, due, first_answer, foreign, opened

pytestmark = pytest.mark.anyio

CAROL = "did:plc:cccccccccccccccccccccccc"

# How idiolectd 0.4.0 writes a record and its state.
_PUT_STATE_0_4 = (
    "INSERT INTO idiolectd_state (did, state_json, attention, seq, handle, due_at, expires_at, lane) "
    "VALUES (:did, :state, '', (SELECT seq FROM idiolectd_changes WHERE did = :did), '', 1.0, 1.0, '') "
    "ON CONFLICT (did) DO UPDATE SET state_json = excluded.state_json, seq = excluded.seq"
)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "sessions.sqlite"


async def plan(store: SharedStore, *dids: str) -> None:
    """Stores sessions, and gives each a schedule entry."""
    for did in dids:
        await store.save(session(did))
        await store.commit(session(did), RefreshState(), due=due(did, 1.0))


def listed(path: Path) -> set[str]:
    with closing(sqlite3.connect(path)) as connection:
        return {did for (did,) in connection.execute("SELECT did FROM idiolectd_unseen")}


@pytest.mark.parametrize("case", FOREIGN)
async def test_what_a_foreign_program_does_is_listed(path: Path, case: str) -> None:
    """Also what it does to a session that is listed already, whatever its statement says of conflicts."""
    statements, changed = FOREIGN[case]
    async with opened(path) as store:
        await plan(store, ALICE)
        assert await first_answer(store) == set()  # and the search is over
    with foreign(path) as connection:
        connection.execute("UPDATE sessions SET body_json = body_json || ' '")
        for sql, values in statements:
            connection.execute(sql, values)
    async with opened(path) as store:
        assert await first_answer(store) == {ALICE, *changed}


async def test_what_was_planned_or_is_gone_is_not_listed(path: Path) -> None:
    """Our own commits leave nothing behind, nor does a session that came and went while nobody looked."""
    async with opened(path) as store:
        await plan(store, ALICE, BOB)
        new, state = rotated(session(), RefreshState(), 2)
        await store.commit(session(), state, tokens=new, due=due(ALICE, 2.0))
        assert listed(path) == set()
        with foreign(path) as connection:
            connection.execute(UPSERT, (CAROL, session(CAROL).to_json()))
        assert listed(path) == {CAROL}
        with foreign(path) as connection:
            connection.execute("DELETE FROM sessions WHERE did = ?", (CAROL,))
            connection.execute("DELETE FROM sessions WHERE did = ?", (BOB,))
        assert listed(path) == {BOB}
        await store.forget(BOB)
        assert listed(path) == set()


async def test_an_older_program_keeps_the_list_too(path: Path) -> None:
    """It knows nothing of it: what it planned is not listed, what it could not plan is."""
    async with opened(path) as store:
        await plan(store, ALICE, BOB)
        assert await first_answer(store) == set()
    with foreign(path) as connection:
        for did in (ALICE, BOB):
            connection.execute(UPSERT, (did, session(did, 2).to_json()))
        connection.execute(_PUT_STATE_0_4, {"did": ALICE, "state": RefreshState().to_json()})
    async with opened(path) as store:
        assert await first_answer(store) == {BOB}


async def test_what_an_older_program_left_is_searched_for_once(path: Path) -> None:
    """In a database without the list: what changed, came, went, and has an entry that can't be relied on."""
    dave = replace(session(), did="did:plc:dddddddddddddddddddddddd")
    async with opened(path) as store:
        await plan(store, ALICE, BOB, CAROL)
        await store.save(dave)
    with foreign(path) as connection:
        for name in schema.UNSEEN_TRIGGERS:
            connection.execute(f"DROP TRIGGER {name}")
        for name in schema.UNSEEN_TABLES:
            connection.execute(f"DROP TABLE {name}")
        connection.execute(UPSERT, (BOB, session(BOB, 2).to_json()))
        connection.execute("DELETE FROM sessions WHERE did = ?", (CAROL,))
    for _ in range(2):
        async with opened(path) as store:
            assert await first_answer(store) == {BOB, CAROL, dave.did}
    with closing(sqlite3.connect(path)) as connection:
        assert connection.execute("SELECT * FROM idiolectd_search").fetchall() == []


async def test_a_crowd_that_nobody_can_read_is_named_in_the_end(path: Path) -> None:
    """It is offered once, and then left to the watch."""
    with foreign(path) as connection:
        connection.execute("CREATE TABLE sessions (did TEXT PRIMARY KEY NOT NULL, body_json TEXT NOT NULL)")
        dids = {f"did:plc:{number:024d}" for number in range(FULL_BATCH + 5)}
        connection.executemany(UPSERT, [(did, "{}") for did in dids])
    async with SqliteOAuthTokenStore.open(path) as store, store.watch() as watch:
        async with store.new_sessions() as pages:
            assert pages is not None
            with anyio.fail_after(SOON):
                assert list(await watch.wait_changed()) == []
            assert [page async for page in pages if page] == []
        seen: set[str] = set()
        with anyio.fail_after(SOON):
            while seen < dids:
                seen.update(await watch.wait_changed())
        async with store.new_sessions() as pages:
            assert pages is None
