"""The SQLite store: upstream's table, foreign writers, the schedule, transactions, its life."""

import asyncio
import json
import os
import shutil
import sqlite3
import sys
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import closing, contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import anyio
import anyio.to_thread
import pytest

from idiolectd.errors import LockBusy, RecordError, StoreError
from idiolectd.ports import FULL_BATCH, Committed, ScheduleEntry
from idiolectd.session import OAuthSession
from idiolectd.state import RefreshState
from idiolectd.store import SqliteOAuthTokenStore, load_session, open_reading, open_store
from idiolectd.store.group_commit import GroupCommit
from idiolectd.store.in_place import InPlace
from idiolectd.store.sqlite.operations import Delete, Operation
from idiolectd.store.sqlite.writer import Answer
from tests.store.support import ALICE, BOB, GOLDEN, SOON, Child, rotated, session

pytestmark = pytest.mark.anyio
opened = SqliteOAuthTokenStore.open

UPSERT = (
    "INSERT INTO sessions (did, body_json) VALUES (?, ?) "
    "ON CONFLICT(did) DO UPDATE SET body_json = excluded.body_json"
)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "s.db"


@contextmanager
def foreign(path: Path) -> Iterator[sqlite3.Connection]:
    """Another program's connection; commits at the end."""
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("PRAGMA trusted_schema = OFF")
        yield connection


def due(did: str, at: float) -> ScheduleEntry:
    return ScheduleEntry(at=at, did=did, expires_at=at + 1, server="x")


# Upstream's table ----------------------------------------------------------------------------------


async def test_upstreams_database_comes_back_byte_for_byte(path: Path) -> None:
    """What idiolect-oauth wrote is read, and written back with the same bytes."""
    shutil.copy(GOLDEN / "sessions.sqlite", path)
    with foreign(GOLDEN / "sessions.sqlite") as connection:
        golden = connection.execute("SELECT did, body_json FROM sessions ORDER BY did").fetchall()
    async with opened(path) as store:
        assert await store.list_dids() == [did for did, _ in golden]
        for did, _ in golden:
            read = await store.load(did)
            assert read is not None
            await store.save(read)
    with foreign(path) as connection:
        assert connection.execute("SELECT did, body_json FROM sessions ORDER BY did").fetchall() == golden


async def test_upstreams_statements_work_on_our_database(path: Path) -> None:
    """Its create, upsert, select, list and delete; its table has nothing of ours on it."""
    async with opened(path) as store:
        await store.save(session())
        with foreign(path) as connection:
            connection.execute(
                "CREATE TABLE IF NOT EXISTS sessions (did TEXT PRIMARY KEY NOT NULL, body_json TEXT NOT NULL)"
            )
            ((text,),) = connection.execute("SELECT body_json FROM sessions WHERE did = ?", (ALICE,))
            assert text == session().to_json()
            assert json.loads(text)["refreshJwt"] == "refresh-1"
            connection.execute(UPSERT, (BOB, session(BOB).to_json()))
            assert connection.execute("SELECT did FROM sessions ORDER BY did").fetchall() == [
                (ALICE,),
                (BOB,),
            ]
            connection.execute("DELETE FROM sessions WHERE did = ?", (ALICE,))
            ((sql,),) = connection.execute("SELECT sql FROM sqlite_master WHERE name = 'sessions'")
            assert sql == "CREATE TABLE sessions (did TEXT PRIMARY KEY NOT NULL, body_json TEXT NOT NULL)"
            indices = connection.execute("PRAGMA index_list(sessions)").fetchall()
            assert [origin for _, _, _, origin, _ in indices] == ["pk"]
        assert await store.list_dids() == [BOB]


FOREIGN: dict[str, tuple[Sequence[tuple[str, tuple[object, ...]]], set[str]]] = {
    "insert": ([("INSERT INTO sessions VALUES (?, ?)", (BOB, "{}"))], {BOB}),
    "replace": ([("INSERT OR REPLACE INTO sessions VALUES (?, ?)", (ALICE, "{}"))], {ALICE}),
    "replace into": ([("REPLACE INTO sessions VALUES (?, ?)", (BOB, "{}"))], {BOB}),
    "ignore": ([("INSERT OR IGNORE INTO sessions VALUES (?, ?)", (BOB, "{}"))], {BOB}),
    "fail": ([("INSERT OR FAIL INTO sessions VALUES (?, ?)", (BOB, "{}"))], {BOB}),
    "upsert": ([(UPSERT, (ALICE, "{}"))], {ALICE}),
    "update": ([("UPDATE sessions SET body_json = ?", ("{}",))], {ALICE}),
    "update or rollback": ([("UPDATE OR ROLLBACK sessions SET body_json = ?", ("{}",))], {ALICE}),
    "rename": ([("UPDATE sessions SET did = ?", (BOB,))], {ALICE, BOB}),
    "rename or replace": (
        [(UPSERT, (BOB, "{}")), ("UPDATE OR REPLACE sessions SET did = ? WHERE did = ?", (BOB, ALICE))],
        {ALICE, BOB},
    ),
    "delete": ([("DELETE FROM sessions", ())], {ALICE}),
    "bad json": ([(UPSERT, (ALICE, "{"))], {ALICE}),
    "a blob": ([(UPSERT, (ALICE, b"\xff\0"))], {ALICE}),
    "a number": ([(UPSERT, (ALICE, 5))], {ALICE}),
    "odd keys": (
        [(UPSERT, (b"\xff", "{}")), (UPSERT, (5, "{}")), (UPSERT, ("é", "{}")), (UPSERT, (BOB, "x"))],
        {BOB},
    ),
    "recursive": (
        [("PRAGMA recursive_triggers = ON", ()), ("REPLACE INTO sessions VALUES (?, ?)", (ALICE, "{}"))],
        {ALICE},
    ),
}


@pytest.mark.parametrize("case", FOREIGN)
async def test_foreign_writers_never_fail_and_are_noticed(path: Path, case: str) -> None:
    """Whatever statement another program uses: it works, and is reported."""
    statements, expected = FOREIGN[case]
    async with opened(path) as store:
        await store.save(session())
        await store.commit(session(), RefreshState(), due=due(ALICE, 1))
        async with store.watch() as watch:
            assert await watch.wait_changed() == []
            with foreign(path) as connection:
                for sql, values in statements:
                    connection.execute(sql, values)
            seen: set[str] = set()
            with anyio.fail_after(SOON):
                while seen < expected:
                    seen.update(await watch.wait_changed())
        assert seen == expected
        await store.list_dids()


async def test_odd_rows_hide_nobody(path: Path) -> None:
    """Keys that are no DIDs, bodies that are no text and rows too large are skipped, also by pages."""
    async with opened(path) as store:
        with foreign(path) as connection:
            for number in range(450):
                did = f"did:plc:{number:024d}"
                connection.execute(UPSERT, (did, session(did).to_json()))
            huge = "x" * (9 * 1024 * 1024)
            odd = (("a", "{}"), (b"\xff", "{}"), (ALICE, huge), (BOB, 5), ("did:plc:0", b"\0"))
            connection.executemany(UPSERT, odd)
        assert len(await store.list_dids()) == 450
        assert await store.count() == 455
        for did in (ALICE, BOB, "did:plc:0"):
            with pytest.raises(RecordError):
                await store.load(did)
        with pytest.raises(RecordError):
            await store.read(ALICE)
        with pytest.raises(RecordError):
            await store.commit(session(), RefreshState())
        await store.save(session())  # a login mends it
        assert await store.load(ALICE) == session()
        with foreign(path) as connection:
            connection.execute(UPSERT, (ALICE, huge))
        await store.delete(ALICE)
        assert await store.load(ALICE) is None


# The schedule and the changes ----------------------------------------------------------------------


async def first_answer(store: SqliteOAuthTokenStore) -> set[str]:
    async with store.watch() as watch:
        return set(await watch.wait_changed())


async def test_after_a_restart_only_what_changed_is_named(path: Path) -> None:
    """What is scheduled stays scheduled; changed, added and removed sessions are looked at."""
    dids = [f"did:plc:{number:024d}" for number in range(5)]
    async with opened(path) as store:
        for did in dids:
            await store.save(session(did))
            await store.commit(session(did), RefreshState(), due=due(did, 1.0))
        assert await first_answer(store) == set()
    with foreign(path) as connection:
        connection.execute(UPSERT, (dids[1], session(dids[1], 2).to_json()))
        connection.execute("DELETE FROM sessions WHERE did = ?", (dids[2],))
        connection.execute(UPSERT, (ALICE, session().to_json()))
    async with opened(path) as store:
        assert await first_answer(store) == {dids[1], dids[2], ALICE}
        assert len(await store.due(2.0, limit=9)) == 5
        await store.delete(dids[2])
        await store.commit(session(dids[1], 2), RefreshState(), due=due(dids[1], 9.0))
        assert await first_answer(store) == {ALICE}


async def test_a_stale_schedule_survives_no_foreign_change(path: Path) -> None:
    """A commit on a record that somebody had changed since the read leaves the line unreliable."""
    async with opened(path) as store:
        await store.save(session())
        with foreign(path) as connection:
            connection.execute(UPSERT, (ALICE, session(pds_url="https://moved.example").to_json()))
        await store.commit(session(), RefreshState(), due=due(ALICE, 1.0))
        assert await first_answer(store) == {ALICE}


async def test_a_commit_of_another_process_is_reported(path: Path) -> None:
    """A refresh by hand, elsewhere, reaches the daemon though its schedule is in order."""
    async with opened(path) as store, opened(path) as other:
        await store.save(session())
        async with store.watch() as watch:
            await watch.wait_changed()
            new, state = rotated(session(), RefreshState(), 2)
            await other.commit(session(), state, tokens=new, due=due(ALICE, 1.0))
            with anyio.fail_after(SOON):
                assert await watch.wait_changed() == [ALICE]


async def test_existing_rows_are_entered_when_the_tables_are_made(path: Path) -> None:
    """A database of upstream's is taken over with all its sessions, in bounded answers."""
    with foreign(path) as connection:
        connection.execute("CREATE TABLE sessions (did TEXT PRIMARY KEY NOT NULL, body_json TEXT NOT NULL)")
        dids = {f"did:plc:{number:024d}" for number in range(FULL_BATCH + 5)}
        connection.executemany(UPSERT, [(did, "{}") for did in dids])
    async with opened(path) as store, store.watch() as watch:
        first, second = await watch.wait_changed(), await watch.wait_changed()
        assert len(first) == FULL_BATCH
        assert {*first, *second} == dids


@pytest.mark.parametrize(
    "damage",
    [
        "DROP TRIGGER idiolectd_sessions_update",
        "DROP TABLE idiolectd_changes",
        "DROP TABLE idiolectd_state",
        "DROP INDEX idiolectd_state_due",
        (
            "DROP TRIGGER idiolectd_sessions_update; CREATE TRIGGER idiolectd_sessions_update "
            "AFTER UPDATE ON sessions BEGIN SELECT 1; END"
        ),
    ],
)
async def test_tables_that_somebody_dropped_are_made_anew(path: Path, damage: str) -> None:
    """While a look-out runs: everything is named again, sessions are untouched, changes are noticed."""
    async with opened(path) as store:
        await store.save(session(ALICE))
        await store.save(session(BOB))
        for did in (ALICE, BOB):
            await store.commit(session(did), RefreshState(), due=due(did, 1.0))
        async with store.watch() as watch:
            assert await watch.wait_changed() == []
            with closing(sqlite3.connect(path)) as connection:
                connection.executescript(damage)
            with anyio.fail_after(SOON):
                assert set(await watch.wait_changed()) == {ALICE, BOB}
            with foreign(path) as connection:
                connection.execute(UPSERT, (ALICE, session(generation=2).to_json()))
            with anyio.fail_after(SOON):
                assert await watch.wait_changed() == [ALICE]
        assert await store.load(BOB) == session(BOB)
        assert await store.commit(session(BOB), RefreshState(), due=due(BOB, 1.0)) is Committed.DONE


async def test_a_write_repairs_the_tables_too(path: Path) -> None:
    """Nobody looks out, somebody dropped our tables: the next commit works."""
    async with opened(path) as store:
        await store.save(session())
        with closing(sqlite3.connect(path)) as connection:
            connection.executescript("DROP TABLE idiolectd_state; DROP TABLE idiolectd_changes")
        assert await store.commit(session(), RefreshState(), due=due(ALICE, 1.0)) is Committed.DONE
        assert await store.due(2.0, limit=1) == [due(ALICE, 1.0)]


async def test_the_schedule_uses_its_index(path: Path) -> None:
    """Neither the schedule nor the next number of a change is found by reading everything."""
    from idiolectd.store.sqlite import schema

    async with opened(path) as store:
        await store.save(session())
    with foreign(path) as connection:
        plans = [
            str(connection.execute(f"EXPLAIN QUERY PLAN {sql}", values).fetchall())
            for sql, values in (
                (schema.DUE, (1.0, 0.5, "", 5)),
                (schema.LAST_CHANGE, ()),
                (schema.CHANGES, (1, 2, 5)),
                (schema.UNSEEN, (0, 5)),
            )
        ]
    assert "USING INDEX idiolectd_state_due (due_at>? AND due_at<?)" in plans[0]
    assert "idiolectd_changes_seq" in plans[1]
    assert "idiolectd_changes_seq" in plans[2]
    assert "USING INTEGER PRIMARY KEY (rowid>?)" in plans[3]
    assert all("TEMP B-TREE" not in plan for plan in plans[1:])


# Files ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("umask", [0o000, 0o077])
async def test_nobody_else_can_read(tmp_path: Path, umask: int) -> None:
    """The database, its side files and the locks are 0600, whatever the umask, while open and after."""
    before = os.umask(umask)
    try:
        async with opened(tmp_path / "new" / "s.db") as store:
            await store.save(session())
            modes = modes_in(tmp_path / "new")
    finally:
        os.umask(before)
    assert modes == {"s.db": 0o600, "s.db-wal": 0o600, "s.db-shm": 0o600, "s.db.idiolectd": 0o700}
    assert modes_in(tmp_path / "new") == modes
    assert modes_in(tmp_path) == {"new": 0o700}
    assert modes_in(tmp_path / "new" / "s.db.idiolectd" / "locks") == {"claims": 0o600, "holders": 0o600}


async def test_a_group_may_read(tmp_path: Path) -> None:
    """With a group all three files are 0640 and the group's; the folder stays as it was."""
    import grp

    group = grp.getgrgid(os.getgroups()[-1] if os.getgroups() else os.getgid())
    folder = tmp_path / "f"
    folder.mkdir(0o755)
    async with opened(folder / "s.db", group=group.gr_name) as store:
        await store.save(session())
    assert modes_in(folder) == {"s.db": 0o640, "s.db-wal": 0o640, "s.db-shm": 0o640, "s.db.idiolectd": 0o700}
    assert {file.stat().st_gid for file in folder.glob("s.db*") if file.is_file()} == {group.gr_gid}
    assert folder.stat().st_mode & 0o7777 == 0o755


def modes_in(folder: Path) -> dict[str, int]:
    return {file.name: file.stat().st_mode & 0o7777 for file in folder.iterdir()}


async def test_an_open_database_of_ours_is_closed_to_others(path: Path) -> None:
    """A database that upstream made world-readable is 0600 after our first write."""
    shutil.copy(GOLDEN / "sessions.sqlite", path)
    path.chmod(0o644)
    async with opened(path) as store:
        await store.load(ALICE)
        assert path.stat().st_mode & 0o777 == 0o644  # reading changes nothing
        await store.save(session())
    assert path.stat().st_mode & 0o777 == 0o600


async def test_reading_makes_no_tables(path: Path) -> None:
    """Load, list, count, read and due work on upstream's database without writing to it."""
    shutil.copy(GOLDEN / "sessions.sqlite", path)
    before = path.read_bytes()
    async with opened(path) as store:
        (did, *_) = await store.list_dids()
        assert await store.load(did) == (await store.read(did)).session
        assert await store.due(1e12, limit=9) == []
        assert await store.count() == 3
    assert path.read_bytes() == before
    assert not list(path.parent.glob("*.idiolectd"))


async def test_a_reader_without_write_permission_can_load(
    shared_kind: str, public_path: Path, anyio_backend: str
) -> None:
    """While the owner has the store open, and after it was closed in order."""
    from tests.store.support import opener

    env = {}
    if os.geteuid() == 0:  # permissions mean nothing to root: the reader becomes somebody else
        env["DROP_TO"] = "65534"

    def load(url: str) -> str:
        root = public_path / ("files" if shared_kind == "files" else "db")
        for file in (root, *root.glob("[!.]*")):
            if file.suffix != ".idiolectd":
                file.chmod(0o555 if file.is_dir() else 0o444)
        try:
            with Child(anyio_backend, "load", url, ALICE, env=env) as child:
                return child.line()
        finally:
            for file in (root, *root.glob("[!.]*")):
                file.chmod(0o755 if file.is_dir() else 0o644)

    opening = opener(shared_kind, public_path)
    async with opening() as store:
        await store.save(session())
        assert await anyio.to_thread.run_sync(load, store.url) == f"ready refresh-1 {ALICE}"
    assert await anyio.to_thread.run_sync(load, store.url) == f"ready refresh-1 {ALICE}"
    for side_file in (public_path / "db").glob("s*-*"):
        side_file.unlink()  # a foreign program was the last to close, say
    if shared_kind == "sqlite":
        assert "-wal and -shm" in await anyio.to_thread.run_sync(load, store.url)


@pytest.mark.parametrize("content", [b"not a database, but long enough to look like one" * 40, b"short"])
async def test_what_is_no_database_is_left_alone(path: Path, content: bytes) -> None:
    """A file of another kind is a StoreError that says what to do, and keeps its bytes."""
    path.write_bytes(content)
    with pytest.raises(StoreError, match="not an SQLite database"):
        async with opened(path) as store:
            await store.save(session())
    assert path.read_bytes() == content


async def test_a_damaged_database_is_an_error(path: Path) -> None:
    """Overwritten pages are a StoreError, never "no session"; an in-order reopening says so too."""
    async with opened(path) as store:
        for number in range(200):
            did = f"did:plc:{number:024d}"
            await store.save(session(did))
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    whole = path.read_bytes()
    with path.open("r+b") as file:
        file.seek(4096)
        file.write(b"\xa5" * (len(whole) - 4096))
    damaged = path.read_bytes()
    with pytest.raises(StoreError, match=r"damaged|malformed"):
        async with opened(path) as store:
            await store.load("did:plc:" + "0" * 24)
    with pytest.raises(StoreError):
        async with opened(path) as store:
            await store.save(session())
    assert path.read_bytes() == damaged


async def test_a_database_that_was_replaced_is_no_empty_one(path: Path) -> None:
    """Removed under an open store: an error, not "no session"; swapped: the present one counts."""
    async with opened(path) as store, store.watch() as watch:
        await store.save(session())
        await watch.wait_changed()
        path.rename(path.with_suffix(".away"))
        with anyio.fail_after(SOON), pytest.raises(StoreError):
            await watch.wait_changed()
        with pytest.raises(StoreError):
            await store.load(BOB)
        for call in (store.load, store.read):
            with pytest.raises(StoreError):
                await call(BOB)
        with pytest.raises(StoreError):
            await store.save(session(BOB))
        async with opened(path):
            pass
        assert await store.load(BOB) is None


# Transactions --------------------------------------------------------------------------------------


async def test_an_operation_that_the_database_refuses_fails_alone(path: Path) -> None:
    """Somebody's own trigger forbids one row: the others of the same transaction are written."""
    results: dict[str, str] = {}
    dids = [f"did:plc:{number:024d}" for number in range(20)]
    async with opened(path) as store:
        with foreign(path) as connection:
            connection.execute(
                f"CREATE TRIGGER no BEFORE INSERT ON sessions WHEN new.did = '{dids[3]}' "
                "BEGIN SELECT RAISE(ABORT, 'not this one'); END"
            )

        async def save(did: str) -> None:
            try:
                await store.save(session(did))
                results[did] = "saved"
            except StoreError as error:
                results[did] = str(error)

        async with anyio.create_task_group() as group:
            for did in dids:
                group.start_soon(save, did)
        assert "not this one" in results.pop(dids[3])
        assert set(results.values()) == {"saved"}
        assert await store.list_dids() == sorted(results)
        with foreign(path) as connection:
            assert (
                connection.execute("SELECT did FROM idiolectd_state WHERE did = ?", (dids[3],)).fetchall()
                == []
            )


async def test_a_transaction_that_was_rolled_back_hides_no_change(path: Path) -> None:
    """The number of a change that never happened may be given to somebody else's: that is reported."""
    failed: list[StoreError] = []

    async def try_to(work: Awaitable[object]) -> None:
        try:
            await work
        except StoreError as error:
            failed.append(error)

    async with opened(path) as store:
        await store.save(session(ALICE))
        await store.save(session(BOB))
        with foreign(path) as connection:
            connection.execute(
                f"CREATE TRIGGER no BEFORE UPDATE ON sessions WHEN new.did = '{BOB}' "
                "BEGIN SELECT RAISE(ROLLBACK, 'no'); END"
            )
        async with store.watch() as watch:
            await watch.wait_changed()
            new, state = rotated(session(), RefreshState(), 2)
            async with anyio.create_task_group() as group:
                # The first is done when the second takes the whole transaction back.
                group.start_soon(try_to, store.commit(session(), state, tokens=new))
                for generation in (2, 3):
                    group.start_soon(try_to, store.save(session(BOB, generation)))
            assert len(failed) == 3
            with foreign(path) as connection:
                connection.execute(UPSERT, (ALICE, session(generation=5).to_json()))
            with anyio.fail_after(SOON):
                assert await watch.wait_changed() == [ALICE]
        assert await store.load(ALICE) == session(generation=5)


async def test_a_login_between_read_and_commit_wins(path: Path) -> None:
    """What was read under the claim is compared with what is stored now, text by text."""
    async with opened(path) as store:
        await store.save(session())
        async with store.claim(ALICE, patience=0):
            entry = await store.read(ALICE)
            assert entry.session is not None
            with foreign(path) as connection:
                connection.execute(UPSERT, (ALICE, session(generation=5).to_json()))
            new, state = rotated(entry.session, entry.state, 2)
            assert await store.commit(entry.session, state, tokens=new) is Committed.SUPERSEDED
        assert await store.load(ALICE) == session(generation=5)


async def test_a_foreign_lock_stops_no_event_loop(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In place SQLite is given no time to wait for it; a thread waits, and everybody else goes on."""
    shutil.copy(GOLDEN / "sessions.sqlite", path)
    waits: list[float] = []
    in_place = InPlace.run

    async def run(self: InPlace, work: Callable[..., Any], *args: Any) -> Any:
        try:
            return await in_place(self, work, *args)
        finally:
            waits.append(store._reader._waits)

    monkeypatch.setattr(InPlace, "run", run)
    async with opened(path) as store:
        (did, *_) = await store.list_dids()
        with closing(sqlite3.connect(path, isolation_level=None)) as connection:
            connection.execute("BEGIN EXCLUSIVE")

            async def free_it() -> None:
                await anyio.sleep(0.05)
                connection.execute("ROLLBACK")

            async with anyio.create_task_group() as group:
                group.start_soon(free_it)
                assert await store.load(did) == (await store.read(did)).session
    assert len(waits) == 2
    assert set(waits) == {0.0}


@pytest.mark.slow
async def test_a_foreign_lock_is_waited_for_and_survived(path: Path) -> None:
    """A program that keeps the database locked makes LockBusy after its five seconds, not a dead store."""
    async with opened(path) as store:
        await store.save(session())
        with closing(sqlite3.connect(path, isolation_level=None)) as connection:
            connection.execute("BEGIN IMMEDIATE")
            with pytest.raises(LockBusy):
                await store.save(session(generation=2))
            assert await store.load(ALICE) == session()  # readers don't wait
            connection.execute("ROLLBACK")
        await store.save(session(generation=2))
        assert await store.load(ALICE) == session(generation=2)


async def test_group_commit_shares_transactions_and_their_failures() -> None:
    """Those who wait go together; if the transaction fails all of them learn it, and the next works."""
    batches: list[int] = []
    broken = [True]
    goes_on = anyio.Event()

    async def apply(operations: Sequence[Operation]) -> list[Answer]:
        batches.append(len(operations))
        await goes_on.wait()
        if broken[0]:
            raise StoreError("full")
        return [Committed.DONE] * len(operations)

    group_commit = GroupCommit[Operation, Committed](apply)
    failed = []

    async def do() -> None:
        try:
            await group_commit.do(Delete(ALICE))
        except StoreError as error:
            failed.append(error)

    async with anyio.create_task_group() as group:
        for number in range(30):
            group.start_soon(do)
            if number == 9:
                await anyio.wait_all_tasks_blocked()  # these ten are on their way
        await anyio.wait_all_tasks_blocked()
        goes_on.set()
    assert (batches, len(failed)) == ([10, 20], 30)
    assert len({id(error) for error in failed}) == 30
    broken[0] = False
    assert await group_commit.do(Delete(ALICE)) is Committed.DONE


async def test_a_crash_of_our_own_in_a_group_leaves_nobody_waiting() -> None:
    """A bug in one transaction is raised by whoever ran it; the others get an error at once."""

    async def apply(operations: Sequence[Operation]) -> list[Answer]:
        await anyio.sleep(0.01)
        raise ZeroDivisionError

    group_commit = GroupCommit[Operation, Committed](apply)
    seen: list[type] = []

    async def do() -> None:
        try:
            await group_commit.do(Delete(ALICE))
        except (ZeroDivisionError, StoreError) as error:
            seen.append(type(error))

    with anyio.fail_after(SOON):
        async with anyio.create_task_group() as group:
            for _ in range(5):
                group.start_soon(do)
    assert (seen.count(ZeroDivisionError), seen.count(StoreError)) == (1, 4)


def test_asyncios_own_cancellation_leaves_the_store_usable(path: Path) -> None:
    """`Task.cancel` at any moment of a commit: it is done or not, and the next one works."""

    async def main() -> None:
        async with opened(path) as store:
            await store.save(session())
            for number in range(60):
                read = await store.load(ALICE)
                assert read is not None
                new, state = rotated(read, RefreshState(), number + 2)
                task = asyncio.create_task(store.commit(read, state, tokens=new))
                await asyncio.sleep(0.0002 * (number % 20))
                task.cancel()
                with suppress(asyncio.CancelledError):
                    await task
            async with asyncio.timeout(5):
                await store.save(session(BOB))
                assert await store.list_dids() == [ALICE, BOB]

    asyncio.run(main())


async def test_two_processes_write_without_losing_anything(path: Path, anyio_backend: str) -> None:
    """Another process rotates one session while this one rotates another and reads both."""
    async with opened(path) as store:
        await store.save(session(ALICE))
        await store.save(session(BOB))
        with Child(anyio_backend, "rewrite", store.url, ALICE, "200") as child:
            for generation in range(1, 200):
                entry = await store.read(BOB)
                assert entry.session is not None
                new, state = rotated(entry.session, entry.state, generation + 1)
                assert await store.commit(entry.session, state, tokens=new) is Committed.DONE
            assert await anyio.to_thread.run_sync(child.finish) == 0
        for did in (ALICE, BOB):
            found = await store.load(did)
            assert found is not None
            assert found.refresh_jwt == "refresh-200"
    with foreign(path) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]


# Life ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("command", ["save", "crash"])
async def test_the_process_can_end(path: Path, anyio_backend: str, command: str) -> None:
    """No thread of ours keeps the interpreter, be the store left in order or by an exception."""
    with Child(anyio_backend, command, f"sqlite://{path}", ALICE, "5") as child:
        with anyio.fail_after(30):
            code = await anyio.to_thread.run_sync(child.finish)
    assert code == (0 if command == "save" else 1)
    async with opened(path) as store:
        assert isinstance(await store.load(ALICE), OAuthSession)


async def test_a_failed_opening_leaves_no_threads(tmp_path: Path) -> None:
    """Neither the island nor a connection survives an opening that raised."""
    import threading

    (tmp_path / "bad.db").write_bytes(b"x" * 5000)
    before = {thread.name for thread in threading.enumerate()}
    with pytest.raises(StoreError):
        async with opened(tmp_path / "bad.db"):
            pass

    def left() -> list[str]:
        names = {thread.name for thread in threading.enumerate()} - before
        return [name for name in names if "idiolectd" in name or "connection" in name]

    with anyio.move_on_after(5):  # a thread that was told to end may do so a moment later
        while left():
            await anyio.sleep(0.01)
    assert not left()


async def test_fields_survive_unusual_text(path: Path) -> None:
    """NUL, emoji and right-to-left text in a field come back from a TEXT column."""
    saved = replace(session(), handle="a\0b\u202e\U0001f510", extra={"n": 1.5})
    async with opened(path) as store:
        await store.save(saved)
        assert await store.load(ALICE) == saved


async def test_a_journal_left_by_a_writer_that_died_is_rolled_back(tmp_path: Path) -> None:
    """A database whose last writer was killed in a transaction opens as it was before that."""
    path = tmp_path / "sessions.sqlite"
    program = (
        "import os, sqlite3, sys\n"
        "c = sqlite3.connect(sys.argv[1], isolation_level=None)\n"
        "c.execute('CREATE TABLE sessions (did TEXT PRIMARY KEY NOT NULL, body_json TEXT NOT NULL)')\n"
        "c.execute('PRAGMA cache_size=1')\n"
        "c.execute('BEGIN')\n"
        "for n in range(200):\n"
        "    c.execute('INSERT INTO sessions VALUES (?, ?)', (f'did:plc:{n}', 'x' * 3000))\n"
        "os.kill(os.getpid(), 9)\n"
    )
    await anyio.run_process([sys.executable, "-c", program, str(path)], check=False)
    assert path.with_name("sessions.sqlite-journal").stat().st_size > 0
    async with SqliteOAuthTokenStore.open(path) as store:
        assert await store.count() == 0


async def test_a_key_of_nine_megabytes_is_nobodys(path: Path) -> None:
    """A foreign row with a key beyond what SQLite hands out stops neither start, noticing nor reading."""
    huge = "did:plc:" + "x" * (9 * 1024 * 1024)
    with foreign(path) as connection:
        connection.execute("CREATE TABLE sessions (did TEXT PRIMARY KEY NOT NULL, body_json TEXT NOT NULL)")
        connection.executemany(
            UPSERT, ((huge, "{}"), (ALICE, session().to_json()), (huge[:-1], session().to_json()))
        )
    async with opened(path) as store, store.watch() as watch:
        await store.save(session(BOB))
        seen: set[str] = set()
        with anyio.fail_after(SOON):
            while seen < {ALICE, BOB}:
                seen.update(await watch.wait_changed())
            with foreign(path) as connection:
                connection.execute("UPDATE sessions SET body_json = body_json || ' ' WHERE did != 'x'")
            seen.clear()
            while seen < {ALICE, BOB}:
                seen.update(await watch.wait_changed())
        survey = await store.survey()
        assert survey.dids == [ALICE, BOB]
        assert len(survey.broken) == 2
    reading = open_reading(str(path))
    assert reading.dids() == [ALICE, BOB]


async def test_a_path_that_is_no_text_is_a_store(tmp_path: Path) -> None:
    """A path is bytes: in every spelling of the URL it leads to the same file."""
    for text in (b"b\xff.db", b"folder\xff/"):
        name = os.fsdecode(os.fsencode(tmp_path) + b"/" + text)
        async with open_store(name) as store:
            await store.save(session())
            url = store.url
        assert url.isascii()
        async with open_store(url) as store:
            assert await store.load(ALICE) == session()
        assert load_session(url, ALICE) == session()


async def test_a_damaged_line_of_the_schedule_hides_nobody(path: Path) -> None:
    """A line without a lane, or with a key that is no DID: the others are due, and it is looked at."""
    async with opened(path) as store:
        for did in (ALICE, BOB):
            await store.save(session(did))
            await store.commit(session(did), RefreshState(), due=due(did, 1))
        with foreign(path) as connection:
            connection.execute(
                "UPDATE idiolectd_state SET lane = NULL, expires_at = 'x' WHERE did = ?", (ALICE,)
            )
            for key in (b"\xff", "nobody", 5):
                connection.execute(
                    "INSERT INTO idiolectd_state (did, due_at, lane) VALUES (?, 0, 'x')", (key,)
                )
        assert await store.due(2, limit=2) == [
            ScheduleEntry(at=1, did=ALICE, expires_at=1, server=""),
            due(BOB, 1),
        ]
