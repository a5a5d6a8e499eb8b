"""What one refresh costs the SQLite store, in what can be counted: crossings of threads, statements, bytes, calls.

The bounds lie a little above what was counted when they were written. Seconds are measured in `bench`.
"""

import math
import sqlite3
import sys
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import aiosqlite
import anyio.to_thread
import pytest

from idiolectd.ports import Committed, ScheduleEntry, SharedStore
from idiolectd.store import disk_space, in_place, open_store
from idiolectd.store.sqlite.asyncio_thread import AsyncioThread
from idiolectd.store.sqlite.database import DatabaseConnection
from tests.store.support import ALICE, NOW, rotated, session

pytestmark = pytest.mark.anyio

_ROUNDS = 20

# A token of the usual size: of what length the record is decides how many pages are written.
_ACCESS_TOKEN = "a" * 900


@pytest.fixture
def counted(monkeypatch: pytest.MonkeyPatch) -> Counter[str]:
    """Crossings of threads and statements, of every connection that is opened from now on."""
    found: Counter[str] = Counter()

    def count(owner: Any, name: str, what: str) -> None:
        real = getattr(owner, name)

        async def counting(*args: Any, **options: Any) -> Any:
            found[what] += 1
            return await real(*args, **options)

        monkeypatch.setattr(owner, name, counting)

    count(AsyncioThread, "run", "to the asyncio thread")
    count(aiosqlite.Connection, "_execute", "to aiosqlite's thread")
    count(anyio.to_thread, "run_sync", "to a worker thread")

    def execute(self: DatabaseConnection, sql: str, *values: Any) -> sqlite3.Cursor:
        found[sql.split()[0]] += 1
        return sqlite3.Connection.execute(self, sql, *values)

    monkeypatch.setattr(DatabaseConnection, "execute", execute, raising=False)
    monkeypatch.setattr(in_place, "_SLOW", math.inf)  # a busy machine changes no count
    monkeypatch.setattr(disk_space, "_GOOD_FOR", math.inf)
    return found


async def refresh(store: SharedStore, generation: int) -> None:
    """What the engine asks of a store for one refresh, when the token is due."""
    async with store.claim(ALICE, patience=0):
        found = await store.read(ALICE)
        read = found.session
        assert read is not None
        await store.ensure_room()
        due = ScheduleEntry(at=NOW + generation, did=ALICE, expires_at=NOW, server="https://issuer.example")
        noted = found.state.noting(read, NOW)
        assert await store.commit(read, noted, due=due) is Committed.DONE
        new, state = rotated(read, noted, generation + 1)
        later = replace(due, at=due.at + 1)
        new = replace(new, access_jwt=_ACCESS_TOKEN)
        assert await store.commit(read, state, tokens=new, due=later) is Committed.DONE


@pytest.mark.parametrize("anyio_backend", ["trio"])
async def test_a_refresh_costs_few_crossings_statements_and_bytes(
    counted: Counter[str], tmp_path: Path
) -> None:
    """Each commit crosses once to the thread with asyncio and once to aiosqlite's; reads and locks never."""
    calls = 0

    def count_call(_frame: object, event: str, _arg: object) -> None:
        nonlocal calls
        calls += event in ("call", "c_call")

    path = tmp_path / "s.db"
    async with open_store(f"sqlite://{path}") as store:
        await store.save(session(access_jwt=_ACCESS_TOKEN))
        await refresh(store, 1)
        await refresh(store, 2)
        counted.clear()
        log = path.with_name("s.db-wal")
        before = log.stat().st_size
        sys.setprofile(count_call)
        try:
            for generation in range(3, 3 + _ROUNDS):
                await refresh(store, generation)
        finally:
            sys.setprofile(None)
        written = log.stat().st_size - before
        each = {what: times / _ROUNDS for what, times in counted.items()}
    assert each.pop("to a worker thread", 0) <= 0.5  # a look at the room, now and then
    assert each.pop("to the asyncio thread") == 2
    assert each.pop("to aiosqlite's thread") == 2
    assert each.pop("BEGIN") == each.pop("COMMIT") == 2
    assert sum(each.values()) <= 10
    assert written / _ROUNDS <= 6.5 * 4096
    assert calls / _ROUNDS <= 2900
