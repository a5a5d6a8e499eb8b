"""Opening a store to look at it changes nothing; and nobody opens what is another program's."""

import json
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

from idiolectd.did import upstream_file_name
from idiolectd.errors import StoreError
from idiolectd.state import RefreshState
from idiolectd.store import open_store
from tests.store.support import ALICE, BOB, session

pytestmark = pytest.mark.anyio

Shape = dict[str, tuple[int, int, int, int]]


def shape(folder: Path) -> Shape:
    """Everything below a folder, with what shows that somebody was there."""
    found = {}
    for path in sorted([folder, *folder.rglob("*")]):
        about = path.lstat()
        found[str(path)] = (about.st_mode, about.st_ino, about.st_size, about.st_mtime_ns)
    return found


def upstream_files(folder: Path) -> str:
    """A folder as upstream's program leaves it."""
    store = folder / "files"
    store.mkdir(0o755)
    (store / upstream_file_name(ALICE)).write_text(session().to_json())
    return f"file://{store}"


def database(folder: Path, mode: str, *statements: str, name: str = "s.db") -> str:
    """A database that a program has closed."""
    path = folder / name
    with closing(sqlite3.connect(path)) as db:
        db.execute(f"PRAGMA journal_mode = {mode}")
        for statement in statements:
            db.execute(statement)
        db.commit()
    path.chmod(0o644)
    return f"sqlite://{path}"


def upstream_database(folder: Path, mode: str = "WAL") -> str:
    text = session().to_json().replace("'", "''")
    return database(
        folder,
        mode,
        "CREATE TABLE sessions (did TEXT PRIMARY KEY NOT NULL, body_json TEXT NOT NULL)",
        f"INSERT INTO sessions VALUES ('{ALICE}', '{text}')",
    )


MADE: dict[str, Callable[[Path], str]] = {
    "files": upstream_files,
    "wal": upstream_database,
    "journal": lambda folder: upstream_database(folder, "DELETE"),
}


@pytest.mark.parametrize("kind", MADE)
async def test_looking_changes_nothing(kind: str, tmp_path: Path) -> None:
    """No mode, no journal mode, no table, no side file, no folder, no lock; and everything can be read."""
    url = MADE[kind](tmp_path)
    before = shape(tmp_path)
    async with open_store(url, looking=True) as store:
        assert await store.list_dids() == [ALICE]
        assert await store.count() == 1
        assert (await store.read(ALICE)).session == await store.load(ALICE) == session()
        assert await store.load(BOB) is None
        assert await store.due(1e12, limit=1) == []
        assert store.spill is not None
        await store.spill.survey()
        with pytest.raises(StoreError, match="to look at"):
            await store.save(session(BOB))
        with pytest.raises(StoreError, match="to look at"):
            async with store.claim(ALICE, patience=0):
                pass
        with pytest.raises(StoreError, match="to look at"):
            await store.commit(session(), RefreshState())
    assert shape(tmp_path) == before
    with pytest.raises(StoreError):
        async with open_store(url + "-missing", looking=True):
            pass
    assert shape(tmp_path) == before


async def test_looking_sees_what_somebody_writes_meanwhile(tmp_path: Path) -> None:
    """A database that nobody had open is read as it lies there only for as long as that is so."""
    url = upstream_database(tmp_path)
    async with open_store(url, looking=True) as looking:
        assert await looking.list_dids() == [ALICE]
        async with open_store(url) as writing:
            await writing.save(session(BOB))
            assert await looking.list_dids() == [ALICE, BOB]
        await looking.load(ALICE)
        for left in tmp_path.glob("s.db-*"):
            left.unlink()


async def test_looking_at_a_record_between_two_files(tmp_path: Path) -> None:
    """A state without its record is looked at twice, without a lock."""
    async with open_store(f"file://{tmp_path}/s") as store:
        await store.save(session())
    (tmp_path / "s" / upstream_file_name(ALICE)).unlink()
    before = shape(tmp_path)
    async with open_store(f"file://{tmp_path}/s", looking=True) as store:
        assert (await store.read(ALICE)).session is None
    assert shape(tmp_path) == before


FOREIGN = {
    "other tables": ("CREATE TABLE cookies (host TEXT)", "CREATE TABLE history (url TEXT)"),
    "other columns": ("CREATE TABLE sessions (session_key TEXT, session_data TEXT)",),
    "a few of both": ("CREATE TABLE sessions (id TEXT)", "CREATE TABLE users (id TEXT)"),
}


@pytest.mark.parametrize("looking", [False, True])
@pytest.mark.parametrize("what", FOREIGN)
async def test_another_programs_database_is_left_as_it_is(what: str, looking: bool, tmp_path: Path) -> None:
    """It gets no tables of ours, no WAL mode and no other permissions; the message says what was found."""
    url = database(tmp_path, "DELETE", *FOREIGN[what])
    before = shape(tmp_path)
    with pytest.raises(StoreError, match="database of another program"):
        async with open_store(url, looking=looking) as store:
            await store.save(session())
    assert shape(tmp_path) == before


@pytest.mark.parametrize("looking", [False, True])
async def test_what_is_no_database_is_left_as_it_is(looking: bool, tmp_path: Path) -> None:
    """A file of any other kind keeps content, mode and time."""
    path = tmp_path / "notes.txt"
    path.write_text(json.dumps({"not": "a database"}) * 100)
    before = shape(tmp_path)
    with pytest.raises(StoreError, match="not an SQLite database"):
        async with open_store(str(path), looking=looking) as store:
            await store.save(session())
    assert shape(tmp_path) == before
