"""Takes a lock of the store, and waits for it without blocking the event loop.

A free lock is taken in place, in the event loop's thread. For one that is held, a thread waits in the
kernel's own queue: a process that polls would get it by chance. The waiting thread can't be interrupted. If
its task stops waiting, the thread goes on; the next task that wants the same lock takes it over, and if there
is none, the thread releases the lock as soon as it has it.

A process that is stopped while it waits (SIGSTOP, a frozen cgroup) would keep all behind it waiting for a
lock that is free. So a waiting task also looks once a second whether the lock is held, and takes it if it
stays free for longer than the next in the queue would need.
"""

import threading
from collections.abc import Callable
from pathlib import Path

import anyio

from idiolectd.finish import in_thread, running_loop
from idiolectd.store.in_place import InPlace
from idiolectd.store.locks.holders import sign, unsign
from idiolectd.store.locks.ofd import HeldLock, is_held, try_lock, wait_lock
from idiolectd.threads import Errand

# Seconds between two tries: while a thread waits as well, and without one.
_LOOK, _POLL = 1.0, 0.05

# A lock counts as abandoned when it is found free this many times in a row, `_POLL` apart: on a busy machine
# some time passes until the next process in the queue takes it.
_SEEN_FREE = 4

# The most threads of one store that may wait. Only clients wait for claims; the daemon never does.
_MOST_THREADS = 64


class OwnedLock:
    """A lock that this process holds and has signed (see `holders`). Made by `LockWaiters.take`."""

    def __init__(self, held: HeldLock, path: Path, byte: int) -> None:
        self._held = held
        self._sign = (path, byte) if sign(path, byte) else None

    def is_current(self) -> bool:
        """See `HeldLock.is_current`."""
        return self._held.is_current()

    def release(self) -> None:
        """Frees it; harmless when repeated. Never waits."""
        signed, self._sign = self._sign, None
        if signed is not None:
            unsign(*signed)
        self._held.release()


class _WaitingThread:
    """A thread that waits in the kernel for a lock."""

    def __init__(self, wait: Callable[[], OwnedLock]) -> None:
        self._wait = wait
        self._guard = threading.Lock()
        self._is_wanted = True
        self._is_over = False
        self._taken: OwnedLock | None = None
        self.errand = Errand(self._wait_and_keep, "idiolectd-lock")

    def _wait_and_keep(self) -> None:
        taken = None
        try:
            taken = self._wait()
        finally:
            with self._guard:
                self._is_over = True
                if self._is_wanted:
                    self._taken, taken = taken, None
        if taken is not None:
            taken.release()

    def want(self) -> bool:
        """Makes the thread wait on behalf of a task again; returns whether it still can."""
        with self._guard:
            self._is_wanted = True
            return not self._is_over

    def take(self) -> OwnedLock | None:
        """Hands over the lock that the thread got, once; None: it has none."""
        with self._guard:
            taken, self._taken = self._taken, None
            return taken

    def leave(self) -> None:
        """Tells the thread that no task waits any more: it releases the lock when it gets it."""
        with self._guard:
            self._is_wanted = False
            taken, self._taken = self._taken, None
        if taken is not None:
            taken.release()


class LockWaiters:
    """Takes the locks of one file. Each event loop has waiting threads of its own.

    Args:
        path: the lock file.
        in_place: runs the tries, which never wait.
    """

    def __init__(self, path: Path, in_place: InPlace) -> None:
        self._path = path
        self._in_place = in_place
        self._threads: dict[tuple[object, int], _WaitingThread] = {}

    async def take(
        self, byte: int, deadline: float, into: list[OwnedLock], *, has_turn: bool = False
    ) -> bool:
        """Takes the lock on a byte; returns whether it was given before the deadline.

        Args:
            byte: which byte. One task of an event loop at a time may wait for it.
            deadline: by the event loop's clock; in the past: one try, without waiting.
            into: the lock is appended here, even if the caller is cancelled at the moment it is taken.
            has_turn: see `wait_lock`.

        Raises:
            OSError: the state of the lock is unknown.
        """
        if await self._try(byte, into, has_turn=has_turn):
            return True
        if deadline <= anyio.current_time():
            return False
        thread = self._waiting_thread(byte, has_turn=has_turn)
        try:
            while (left := deadline - anyio.current_time()) > 0:
                if thread is None:
                    await anyio.sleep(min(left, _POLL))
                else:
                    with anyio.move_on_after(min(left, _LOOK)):
                        await thread.errand.wait()
                    if (taken := thread.take()) is not None:
                        into.append(taken)
                        return True
                if thread is not None and not await self._stays_free(byte):
                    continue
                if await self._try(byte, into):
                    return True
            return False
        finally:
            if thread is not None:
                thread.leave()

    async def _stays_free(self, byte: int) -> bool:
        for _ in range(_SEEN_FREE):
            if await in_thread(is_held, self._path, byte):
                return False
            await anyio.sleep(_POLL)
        return True

    async def _try(self, byte: int, into: list[OwnedLock], *, has_turn: bool = False) -> bool:
        def try_now() -> bool:
            held = try_lock(self._path, byte, 1, has_turn=has_turn)
            if held is not None:
                into.append(OwnedLock(held, self._path, byte))
            return held is not None

        return await self._in_place.run(try_now)

    def _waiting_thread(self, byte: int, *, has_turn: bool) -> _WaitingThread | None:
        key = running_loop(), byte
        thread = self._threads.get(key)
        if thread is not None and thread.want():
            return thread
        self._threads = {k: each for k, each in self._threads.items() if not each.errand.is_done}
        if len(self._threads) >= _MOST_THREADS:
            return None

        def wait() -> OwnedLock:
            return OwnedLock(wait_lock(self._path, byte, has_turn=has_turn), self._path, byte)

        try:
            thread = self._threads[key] = _WaitingThread(wait)
        except RuntimeError:  # the system has no thread left
            return None
        return thread
