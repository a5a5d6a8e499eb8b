"""Who waits for a lock stands in line, and nobody who stands there can hold up the others."""

import signal
import threading
from collections.abc import Callable
from contextlib import AsyncExitStack
from functools import partial
from pathlib import Path

import anyio
import anyio.to_thread
import pytest

from idiolectd.errors import LockBusy
from idiolectd.ports import SharedStore
from idiolectd.store.locks.claims import Locks
from idiolectd.store.locks.ofd import try_lock
from tests.store.support import ALICE, BOB, Child, session

pytestmark = pytest.mark.anyio


async def test_the_write_lock_is_given_in_the_order_of_asking(tmp_path: Path) -> None:
    """Eight that the kernel keeps apart get it one after the other, beside one that asks all the time."""
    given: list[str] = []
    busy, others = Locks(tmp_path / "run"), [Locks(tmp_path / "run") for _ in range(8)]
    file = tmp_path / "run" / "locks" / "claims"

    async def write(locks: Locks, name: str) -> None:
        async with locks.writing():
            given.append(name)
            await anyio.sleep(0.002)

    async with anyio.create_task_group() as tg:
        async with busy.writing():
            for number, locks in enumerate(others):
                tg.start_soon(write, locks, str(number))
                await _until(partial(_has_waiters, file, number + 1))
        for _ in range(3):
            await write(busy, "busy")
    # Who asks in the very moment in which the line moves may come in between; no other.
    assert [name for name in given if name != "busy"] == [*map(str, range(8))]
    assert given[0] == "0"


async def test_a_stopped_process_in_line_keeps_nobody_waiting(
    shared: SharedStore, anyio_backend: str
) -> None:
    """A process is stopped while it stands first in line; the lock is freed, and the next one gets it."""
    await shared.save(session())
    assert shared.runtime_dir is not None
    file = shared.runtime_dir / "locks" / "claims"
    held = try_lock(file, 2**62, 1)
    assert held is not None
    with Child(anyio_backend, "save", shared.url, BOB) as child:
        await _until(lambda: _waiters(file) == 1)
        child.process.send_signal(signal.SIGSTOP)
        await _until(lambda: _is_stopped(child.process.pid))
        held.release()
        await shared.save(session(generation=2))
        child.process.send_signal(signal.SIGCONT)
        assert await anyio.to_thread.run_sync(child.line) == "ready"


async def test_who_left_the_line_takes_nothing(tmp_path: Path, threads: Callable[[], int]) -> None:
    """Waiters that gave up leave one thread in line, which lets go as soon as it is given the lock."""
    locks, file = Locks(tmp_path / "run"), tmp_path / "run" / "locks" / "claims"
    async with Locks(tmp_path / "run").claim(ALICE, 0):
        for _ in range(3):
            with pytest.raises(LockBusy):
                async with locks.claim(ALICE, 0.05):
                    pass
        with anyio.move_on_after(0.05) as impatient:
            async with locks.claim(ALICE, 60):
                pass
        assert impatient.cancelled_caught
        assert _waiters(file) == 1
        assert threads() == 1
    await _until(lambda: not threads())
    async with Locks(tmp_path / "run").claim(ALICE, 0):
        pass


async def test_who_comes_back_keeps_its_place(tmp_path: Path, threads: Callable[[], int]) -> None:
    """A thread that stands in line for nobody serves the next of its store that wants the same."""
    locks = Locks(tmp_path / "run")
    async with AsyncExitStack() as holding, anyio.create_task_group() as tg:
        await holding.enter_async_context(Locks(tmp_path / "run").claim(ALICE, 0))
        with pytest.raises(LockBusy):
            async with locks.claim(ALICE, 0.05):
                pass
        given = anyio.Event()

        async def claim() -> None:
            async with locks.claim(ALICE, 60):
                given.set()

        tg.start_soon(claim)
        await anyio.wait_all_tasks_blocked()
        assert threads() == 1
        await holding.aclose()
        with anyio.fail_after(30):
            await given.wait()


@pytest.fixture
def threads() -> Callable[[], int]:
    """How many threads wait in line that were not there before."""
    before = set(threading.enumerate())
    return lambda: sum(thread.name == "idiolectd-lock" for thread in set(threading.enumerate()) - before)


def _is_stopped(pid: int) -> bool:
    """Whether each thread of a process has noticed: one that still runs might be given the lock."""
    return all(
        stat.read_text().rpartition(") ")[2][0] == "T" for stat in Path(f"/proc/{pid}/task").glob("*/stat")
    )


def _waiters(file: Path) -> int:
    """How many the kernel knows to wait for a lock on a file (proc_locks(5))."""
    inode = str(file.stat().st_ino)
    lines = Path("/proc/locks").read_text().splitlines()
    return sum(" -> " in line and f":{inode} " in line for line in lines)


def _has_waiters(file: Path, count: int) -> bool:
    return _waiters(file) == count


async def _until(condition: Callable[[], bool]) -> None:
    with anyio.fail_after(30):
        while not condition():
            await anyio.sleep(0.005)
