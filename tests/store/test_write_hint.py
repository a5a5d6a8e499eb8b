"""The kernel's hint that somebody writes to a database; without it the watch looks now and then."""

import sqlite3
from contextlib import closing
from pathlib import Path

import anyio
import pytest

from idiolectd.store.sqlite.write_hint import WriteHint

pytestmark = pytest.mark.anyio

LONG = 60.0


async def test_a_commit_is_hinted_at(tmp_path: Path) -> None:
    """In WAL mode and without; what happened before `forget` is no hint any more."""
    path = tmp_path / "sessions.sqlite"
    with closing(sqlite3.connect(path)) as database:
        database.execute("CREATE TABLE t (x)")
        hint = WriteHint(path)
        for mode in ("delete", "wal"):
            database.execute(f"PRAGMA journal_mode={mode}")
            hint.forget()
            database.execute("INSERT INTO t VALUES (1)")
            database.commit()
            assert await hint.wait_written(LONG)
            hint.forget()
            assert not await hint.wait_written(0.01)
        hint.close()
        assert not await hint.wait_written(0.01), "without the kernel it only waits"


async def test_other_files_beside_it_are_no_hint(tmp_path: Path) -> None:
    """Another program's log in the same folder wakes nobody."""
    hint = WriteHint(tmp_path / "sessions.sqlite")
    (tmp_path / "other.log").write_text("something")
    assert not await hint.wait_written(0.05)
    with anyio.CancelScope() as scope:
        scope.cancel()
        await hint.wait_written(LONG)
    assert scope.cancelled_caught
    hint.close()
