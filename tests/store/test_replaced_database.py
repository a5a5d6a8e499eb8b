"""Somebody replaces the database, or removes its side files, while it is open."""

import shutil
import sqlite3
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import closing
from pathlib import Path

import anyio
import pytest

from idiolectd.errors import LockBusy, StoreError
from idiolectd.ports import Committed, SharedStore
from idiolectd.store import open_reading, open_store
from idiolectd.store.sqlite.writer import StoreWriter
from tests.store.support import ALICE, BOB, Child, rotated, session

pytestmark = pytest.mark.anyio


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "sessions.sqlite"


@pytest.fixture
async def store(path: Path, anyio_backend: str) -> AsyncIterator[SharedStore]:
    async with open_store(f"sqlite://{path}") as opened:
        yield opened


def on_disk(path: Path) -> dict[str, str]:
    """The refresh tokens that another program finds."""
    with closing(sqlite3.connect(path)) as other:
        found = other.execute("SELECT did, json_extract(body_json, '$.refreshJwt') FROM sessions")
        return dict(found.fetchall())


def checkpoint(path: Path) -> None:
    with closing(sqlite3.connect(path)) as other:
        other.execute("PRAGMA wal_checkpoint(TRUNCATE)")


async def rotate(store: SharedStore, generation: int, did: str = ALICE) -> None:
    async with store.claim(did, patience=0):
        entry = await store.read(did)
        assert entry.session is not None
        new, state = rotated(entry.session, entry.state, generation)
        assert await store.commit(entry.session, state, tokens=new) is Committed.DONE


@pytest.mark.parametrize("suffixes", [["-wal"], ["-shm"], ["-wal", "-shm"]])
async def test_removed_side_files_take_nothing_along(
    store: SharedStore, path: Path, suffixes: list[str]
) -> None:
    """What was committed before and after the removal is there for the next program that opens it."""
    await store.save(session())
    await store.save(session(BOB))
    checkpoint(path)
    await rotate(store, 2)
    for suffix in suffixes:
        Path(f"{path}{suffix}").unlink()
    await rotate(store, 2, BOB)
    assert on_disk(path) == {ALICE: "refresh-2", BOB: "refresh-2"}
    await rotate(store, 3)
    assert on_disk(path) == {ALICE: "refresh-3", BOB: "refresh-2"}
    (why,) = store.reopened()
    assert suffixes[0] in why
    assert store.reopened() == []
    assert list(path.with_name(path.name + ".idiolectd").glob("*.sqlite*")) == []


async def test_a_login_in_a_removed_log_is_not_lost(store: SharedStore, path: Path) -> None:
    """A whole record that only the removed log held is carried over; the look-out finds the loss by itself."""
    await store.save(session())
    async with store.watch() as watch:
        await watch.wait_changed()
        checkpoint(path)
        await store.save(session(BOB))
        Path(f"{path}-wal").unlink()
        with anyio.fail_after(5):
            while BOB not in await watch.wait_changed():
                pass
    assert on_disk(path).keys() == {ALICE, BOB}


async def test_a_database_put_back_from_a_backup_gets_the_newer_tokens(
    store: SharedStore, path: Path
) -> None:
    """It is opened without a restart; tokens that are spent in it are replaced, what it lacks stays away."""
    await store.save(session())
    checkpoint(path)
    shutil.copy(path, path.with_suffix(".backup"))
    await rotate(store, 2)
    await store.save(session(BOB))
    for suffix in ("-wal", "-shm"):
        Path(f"{path}{suffix}").unlink()
    path.with_suffix(".backup").rename(path)
    found = await store.read(ALICE)
    assert found.session is not None
    assert found.session.refresh_jwt == "refresh-2"
    assert on_disk(path) == {ALICE: "refresh-2"}
    await rotate(store, 3)
    assert on_disk(path) == {ALICE: "refresh-3"}


@pytest.mark.parametrize("is_replaced", [True, False])
async def test_newer_tokens_win_after_a_failed_write_too(
    store: SharedStore, path: Path, monkeypatch: pytest.MonkeyPatch, is_replaced: bool
) -> None:
    """The writing connection is closed after a failure; the reading one still sees what it wrote."""
    await store.save(session())
    checkpoint(path)
    shutil.copy(path, path.with_suffix(".backup"))
    await rotate(store, 2)

    def fail(*_: object) -> None:
        raise sqlite3.OperationalError("disk I/O error")

    with monkeypatch.context() as patch:
        patch.setattr(StoreWriter, "_ensure_schema", fail)
        with pytest.raises(StoreError):
            await store.save(session(BOB))
    for suffix in ("-wal", "-shm"):
        Path(f"{path}{suffix}").unlink()
    if is_replaced:
        path.with_suffix(".backup").rename(path)
    found = await store.read(ALICE)
    assert found.session is not None
    assert found.session.refresh_jwt == "refresh-2"
    assert on_disk(path) == {ALICE: "refresh-2"}


_STALE = """
import sqlite3, sys
database = sqlite3.connect(sys.argv[1], isolation_level=None)
database.execute("SELECT count(*) FROM sessions").fetchall()
print("open", flush=True)
sys.stdin.readline()
try:
    database.execute("UPDATE sessions SET body_json = body_json")
except sqlite3.Error:
    pass
print("wrote", flush=True)
"""


def stale_program(path: Path) -> subprocess.Popen[str]:
    """Has the database open, and writes when it is told to."""
    return subprocess.Popen(
        [sys.executable, "-c", _STALE, str(path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )


async def test_a_program_with_the_removed_index_writes_over_nothing(store: SharedStore, path: Path) -> None:
    """It would put its pages over ours in the log, and whoever comes after us would ignore our commits."""
    await store.save(session())
    with stale_program(path) as child:
        assert child.stdin is not None
        assert child.stdout is not None
        assert child.stdout.readline() == "open\n"
        Path(f"{path}-shm").unlink()
        await rotate(store, 2)
        child.stdin.write("\n")
        child.stdin.flush()
        assert child.stdout.readline() == "wrote\n"
        await rotate(store, 3)
    # As the next program finds it when this one is gone: it makes an index of its own.
    copy = path.with_name("copy.sqlite")
    shutil.copy(path, copy)
    shutil.copy(f"{path}-wal", f"{copy}-wal")
    assert on_disk(copy) == {ALICE: "refresh-3"}


@pytest.mark.parametrize("is_replaced", [True, False])
async def test_newer_tokens_outlive_a_second_loss(
    store: SharedStore, path: Path, monkeypatch: pytest.MonkeyPatch, is_replaced: bool
) -> None:
    """What could not be carried over yet is not given up for what the present files hold."""
    await store.save(session())
    checkpoint(path)
    shutil.copy(path, path.with_suffix(".backup"))
    await rotate(store, 2)

    def fail(*_: object) -> None:
        raise sqlite3.OperationalError("disk I/O error")

    Path(f"{path}-wal").unlink()
    with monkeypatch.context() as patch:
        patch.setattr(StoreWriter, "_ensure_schema", fail)
        with pytest.raises(StoreError):
            await store.save(session(BOB))
    with closing(sqlite3.connect(path)) as other:  # the next program, and what it leaves is removed too
        other.execute("PRAGMA user_version = 1")
    await store.load(ALICE)
    for suffix in ("-wal", "-shm"):
        Path(f"{path}{suffix}").unlink(missing_ok=True)
    if is_replaced:
        path.with_suffix(".backup").rename(path)
    await store.save(session(BOB))
    found = await store.read(ALICE)
    assert found.session is not None
    assert found.session.refresh_jwt == "refresh-2"


async def test_tokens_for_a_session_that_another_database_lacks_are_kept(
    store: SharedStore, path: Path
) -> None:
    """Between reading and saving another database comes: a missing record there is no logout."""
    await store.save(session())
    async with store.claim(ALICE, patience=0):
        entry = await store.read(ALICE)
        assert entry.session is not None
        path.rename(path.with_suffix(".away"))
        with closing(sqlite3.connect(path)) as other:
            other.execute("CREATE TABLE sessions (did TEXT PRIMARY KEY NOT NULL, body_json TEXT NOT NULL)")
        new, state = rotated(entry.session, entry.state, 2)
        with pytest.raises(StoreError, match="taken the place"):
            await store.commit(entry.session, state, tokens=new)
        path.with_suffix(".away").rename(path)
        assert await store.commit(entry.session, state, tokens=new) is Committed.DONE


async def test_a_database_that_is_away_is_an_error_until_it_is_back(store: SharedStore, path: Path) -> None:
    """Nothing is read from or written into files that nobody else can see."""
    await store.save(session())
    path.rename(path.with_suffix(".away"))
    for work in (store.load(ALICE), store.save(session(generation=2)), store.due(9.0, limit=1)):
        with pytest.raises(StoreError):
            await work
    path.with_suffix(".away").rename(path)
    await store.save(session(generation=2))
    assert on_disk(path) == {ALICE: "refresh-2"}


async def test_another_programs_database_is_left_as_it_is(store: SharedStore, path: Path) -> None:
    """What takes the database's place may be anybody's: nothing is written into it."""
    await store.save(session())
    path.rename(path.with_suffix(".away"))
    with closing(sqlite3.connect(path)) as other:
        other.execute("CREATE TABLE theirs (x)")
    for _ in range(2):
        with pytest.raises(StoreError, match="another program"):
            await store.save(session(generation=2))
    with closing(sqlite3.connect(path)) as other:
        assert other.execute("SELECT name FROM sqlite_master").fetchall() == [("theirs",)]


async def test_a_copy_that_a_crash_left_behind_is_carried_over(path: Path, anyio_backend: str) -> None:
    """The process died after it had kept what it saw: the next writer brings it over."""
    async with open_store(f"sqlite://{path}") as store:
        await store.save(session())
        checkpoint(path)
        shutil.copy(path, path.with_suffix(".backup"))
        await rotate(store, 2)
    kept = path.with_name(path.name + ".idiolectd") / "side-files-lost.sqlite"
    checkpoint(path)
    path.rename(kept)
    path.with_suffix(".backup").rename(path)
    async with open_store(f"sqlite://{path}") as store:
        await store.save(session(BOB))
        assert on_disk(path) == {ALICE: "refresh-2", BOB: "refresh-1"}
    assert not kept.exists()


def test_a_reading_client_follows(path: Path) -> None:
    """A client that only reads sees the present files, not those that were removed."""
    with Child("asyncio", "save", f"sqlite://{path}", ALICE, "1") as child:
        child.finish()
    reading = open_reading(f"sqlite://{path}")
    known = reading.record(ALICE)
    assert known is not None
    Path(f"{path}-wal").unlink()
    Path(f"{path}-shm").unlink()
    with Child("asyncio", "save", f"sqlite://{path}", ALICE, "2") as child:
        child.finish()
    found = reading.record(ALICE, known)
    assert found is not None
    assert found.session.refresh_jwt == "refresh-2"


async def test_the_log_is_cut_back_after_it_grew(store: SharedStore, path: Path) -> None:
    """A reader that stays in a transaction makes the log grow; when it has gone, the space comes back."""
    big = {"pad": "x" * 500_000}
    await store.save(session(extra=big))
    with closing(sqlite3.connect(path)) as other:
        other.execute("BEGIN")
        other.execute("SELECT count(*) FROM sessions").fetchone()
        for generation in range(2, 30):
            await store.save(session(generation=generation, extra=big))
        grown = Path(f"{path}-wal").stat().st_size
    for generation in range(30, 33):
        await store.save(session(generation=generation))
    assert Path(f"{path}-wal").stat().st_size <= 8 * 1024 * 1024 < grown


def forgetful(path: Path) -> "subprocess.Popen[bytes]":
    """A program that begins to write and forgets it."""
    program = (
        f"import sqlite3; c = sqlite3.connect({str(path)!r}, isolation_level=None);"
        " c.execute('BEGIN IMMEDIATE'); print(1, flush=True); input()"
    )
    other = subprocess.Popen([sys.executable, "-c", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert other.stdout is not None
    other.stdout.readline()
    return other


@pytest.mark.slow
async def test_a_forgotten_transaction_is_named_by_its_process(store: SharedStore, path: Path) -> None:
    """Whoever waits for it in vain is told which program it is."""
    await store.save(session())
    with forgetful(path) as other:
        try:
            with pytest.raises(LockBusy, match=f"process {other.pid}"):
                await store.save(session(generation=2))
        finally:
            other.kill()
