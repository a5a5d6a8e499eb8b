"""Standing in line for a lock of this process's store, and leaving the line.

A lock that is free is taken at once, in place. Otherwise a thread waits for it in the kernel's own line: who polls
gets it by luck, and a crowd that polls keeps everybody waiting. That thread can't be interrupted; if nobody
waits for it any more it stays in line, serves whoever next wants the same lock, and else lets go at once.

A process that is stopped while it stands in line (SIGSTOP, a frozen cgroup) would keep all behind it
waiting for a lock that is free. So who waits also looks for himself, once a second, and takes it if it
stays free for longer than the next in line would need.
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

# Between two looks for oneself while a thread stands in line; and if there is none.
_LOOK, _POLL = 1.0, 0.05

# How often in a row, `_POLL` apart, a lock is found free before it counts as left free: on a busy machine
# some time passes until the next in line has taken it.
_SEEN_FREE = 4

# So many threads of a store may stand in line. A daemon never waits for a claim; who does is a client.
_MOST_THREADS = 64


class OwnedLock:
    """A lock that this process holds, and has signed. Made by `LockWaiters.take`."""

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
    """A thread that stands in line."""

    def __init__(self, wait: Callable[[], OwnedLock]) -> None:
        self._wait = wait
        self._guard = threading.Lock()
        self._is_wanted = True
        self._is_over = False
        self._taken: OwnedLock | None = None
        self.errand = Errand(self._stand, "idiolectd-lock")

    def _stand(self) -> None:
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
        """Stands for somebody again; returns whether it still can."""
        with self._guard:
            self._is_wanted = True
            return not self._is_over

    def take(self) -> OwnedLock | None:
        """What it got, once; whoever asks has it then."""
        with self._guard:
            taken, self._taken = self._taken, None
            return taken

    def leave(self) -> None:
        """Nobody waits for it any more."""
        with self._guard:
            self._is_wanted = False
            taken, self._taken = self._taken, None
        if taken is not None:
            taken.release()


class LockWaiters:
    """All lines before the locks of one file. Each event loop stands in it for itself.

    Args:
        path: the lock file.
        in_place: does the tries, which never wait.
    """

    def __init__(self, path: Path, in_place: InPlace) -> None:
        self._path = path
        self._in_place = in_place
        self._standing: dict[tuple[object, int], _WaitingThread] = {}

    async def take(
        self, byte: int, deadline: float, into: list[OwnedLock], *, turn: int | None = None
    ) -> bool:
        """Takes the lock on a byte; returns whether it was given before the deadline.

        Args:
            byte: which. One task of an event loop at a time may wait for it.
            deadline: of the event loop's clock; in the past: it is only looked whether it is free.
            into: gets it, also if the caller is cancelled in the moment in which it is given.
            turn: see `wait_lock`.

        Raises:
            OSError: it can't be told.
        """
        if await self._try(byte, into, turn):
            return True
        if deadline <= anyio.current_time():
            return False
        thread = self._stand(byte, turn)
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
                if await self._try(byte, into, None):
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

    async def _try(self, byte: int, into: list[OwnedLock], turn: int | None) -> bool:
        def try_now() -> bool:
            held = try_lock(self._path, byte, 1, turn=turn)
            if held is not None:
                into.append(OwnedLock(held, self._path, byte))
            return held is not None

        return await self._in_place.run(try_now)

    def _stand(self, byte: int, turn: int | None) -> _WaitingThread | None:
        key = running_loop(), byte
        standing = self._standing.get(key)
        if standing is not None and standing.want():
            return standing
        self._standing = {k: each for k, each in self._standing.items() if not each.errand.is_done}
        if len(self._standing) >= _MOST_THREADS:
            return None

        def wait() -> OwnedLock:
            return OwnedLock(wait_lock(self._path, byte, turn=turn), self._path, byte)

        try:
            standing = self._standing[key] = _WaitingThread(wait)
        except RuntimeError:  # the system has no thread left
            return None
        return standing
