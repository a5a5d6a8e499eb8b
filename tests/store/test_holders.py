"""Which process holds a lock: said by itself, found by looking, and gone with it."""

import os
import signal
import sqlite3
import subprocess
import sys
from pathlib import Path

import anyio
import anyio.to_thread
import pytest

from idiolectd.ports import SharedStore
from idiolectd.store.locks.holders import holder_of, sign, signed_holder_of, unsign
from idiolectd.store.locks.ofd import try_lock
from tests.store.support import ALICE, BOB, Child, open_in


@pytest.mark.anyio
async def test_a_claim_names_its_holder_until_it_is_killed(shared: SharedStore, anyio_backend: str) -> None:
    """The process is named while it holds the claim, also after a look from here, and not when it is dead."""
    with Child(anyio_backend, "claim", shared.url, ALICE) as child:
        assert await anyio.to_thread.run_sync(child.line) == "ready"
        for _ in range(2):
            found = await shared.claim_holder(ALICE)
            assert found is not None
            assert found.startswith(f"process {child.process.pid} (python")
        assert await shared.claim_holder(BOB) is None
        child.process.send_signal(signal.SIGKILL)
        child.process.wait(5)
        assert await shared.claim_holder(ALICE) is None


@pytest.mark.anyio
async def test_own_signs_outlast_a_look_at_other_locks(shared: SharedStore, anyio_backend: str) -> None:
    """Looking for somebody else's sign opens the file of signs; ours are still there afterwards."""
    with Child(anyio_backend, "claim", shared.url, ALICE) as child:
        assert await anyio.to_thread.run_sync(child.line) == "ready"
        async with shared.claim(BOB, patience=0):
            assert await shared.claim_holder(ALICE) is not None
            looking = [sys.executable, "-c", _LOOK, shared.url, BOB]
            said = await anyio.run_process(looking, cwd=Path(__file__).parents[2])
            assert f"process {os.getpid()} " in said.stdout.decode()


_LOOK = """
import sys, anyio
from idiolectd.store import open_store
async def main():
    async with open_store(sys.argv[1]) as store:
        print(await store.claim_holder(sys.argv[2]))
anyio.run(main)
"""


def test_who_does_not_sign_is_found(tmp_path: Path) -> None:
    """A process that only locks, as older versions do, is found by its open files."""
    path = tmp_path / "claims"
    locking = (
        "import sys, pathlib; from idiolectd.store.locks.ofd import try_lock;"
        "held = try_lock(pathlib.Path(sys.argv[1]), 7, 1); print('ready', flush=True); sys.stdin.read()"
    )
    with _Other(locking, path) as other:
        assert signed_holder_of(path, 7) is None
        assert (holder_of(path, 7) or "").startswith(f"process {other.pid} (python")
        assert holder_of(path, 8) is None
    assert holder_of(path, 7) is None


def test_who_forgot_a_transaction_is_found(tmp_path: Path) -> None:
    """SQLite's own lock on a database in WAL mode names its holder, and looking costs nobody a lock."""
    path = tmp_path / "sessions.sqlite"
    ours = sqlite3.connect(path, isolation_level=None)
    ours.execute("PRAGMA journal_mode = WAL")
    ours.execute("CREATE TABLE t (x)")
    forgetting = (
        "import sys, sqlite3; db = sqlite3.connect(sys.argv[1], isolation_level=None);"
        "db.execute('BEGIN IMMEDIATE'); print('ready', flush=True); sys.stdin.read()"
    )
    with _Other(forgetting, path) as other:
        found = holder_of(tmp_path / "sessions.sqlite-shm", 120)
        assert (found or "").startswith(f"process {other.pid} (python")
        ours.execute("PRAGMA busy_timeout = 0")
        with pytest.raises(sqlite3.OperationalError, match="locked"):
            ours.execute("BEGIN IMMEDIATE")
    ours.execute("BEGIN IMMEDIATE")
    ours.close()


def test_signs_leave_no_descriptor_open(tmp_path: Path) -> None:
    """A process that works on a thousand stores one after the other runs out of nothing."""
    path = tmp_path / "claims"
    assert sign(path, 1)
    assert sign(path, 2)
    assert len(open_in(tmp_path)) == 1
    assert holder_of(path, 1) is None  # ourselves
    unsign(path, 1)
    unsign(path, 2)
    assert open_in(tmp_path) == []


def test_no_sign_no_obstacle(tmp_path: Path) -> None:
    """A file of signs that can't be made keeps nobody from working."""
    (tmp_path / "holders").mkdir()
    path = tmp_path / "claims"
    held = try_lock(path, 1, 1)
    assert held is not None
    with held:
        assert not sign(path, 1)
        assert signed_holder_of(path, 1) is None


class _Other:
    """Another process that runs some lines of Python on a path, and has said that it is ready."""

    def __init__(self, program: str, path: Path) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-c", program, str(path)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            cwd=Path(__file__).parents[2],
        )
        self.pid = self._process.pid

    def __enter__(self) -> "_Other":
        assert self._process.stdout is not None
        assert self._process.stdout.readline() == b"ready\n"
        return self

    def __exit__(self, *_: object) -> None:
        self._process.communicate(timeout=10)
