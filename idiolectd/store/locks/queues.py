"""Queues this process's tasks for a lock.

The kernel arbitrates between processes; within a process, tasks get the lock in the order in which they
asked. For the write lock, tasks that hold new tokens go before the others.

A task can't be woken from another event loop, so each loop has queues of its own, and the kernel decides
between two loops of one process as between two processes.
"""

import heapq
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import anyio
import anyio.lowlevel

from idiolectd.errors import LockBusy
from idiolectd.finish import running_loop


class _Queue:
    """Gives one task at a time the turn. A task that asks again in its own turn times out."""

    def __init__(self) -> None:
        self.users = 0
        # When a task last finished its turn, by the event loop's clock.
        self.moved_at = 0.0
        self._is_taken = False
        self._line: list[tuple[bool, int, anyio.Event]] = []
        self._came = 0

    async def take(self, patience: float, *, first: bool, restarts: bool) -> bool:
        """Waits for the turn; returns whether it came in time."""
        await anyio.lowlevel.checkpoint()
        if not self._is_taken:
            self._is_taken = True
            return True
        began, mine = anyio.current_time(), anyio.Event()
        self._came += 1
        place = (not first, self._came, mine)
        heapq.heappush(self._line, place)
        try:
            while (left := self.deadline(began, patience, restarts=restarts) - anyio.current_time()) > 0:
                with anyio.move_on_after(left):
                    await mine.wait()
                if mine.is_set():
                    return True
        except BaseException:
            if mine.is_set():
                self.pass_on()
            raise
        finally:
            if not mine.is_set():
                self._line.remove(place)
                heapq.heapify(self._line)
        return False

    def deadline(self, began: float, patience: float, *, restarts: bool) -> float:
        """The end of the wait of a task that began to wait at `began`."""
        return (max(began, self.moved_at) if restarts else began) + patience

    def pass_on(self) -> None:
        """Ends the turn and gives it to the next task in the queue."""
        if self._line:
            heapq.heappop(self._line)[-1].set()
        else:
            self._is_taken = False


class Queues:
    """A queue for each key and event loop; an empty queue is dropped.

    Args:
        alone: no kernel lock follows that would decide between two event loops, so the second loop gets
            `LockBusy`.
    """

    def __init__(self, *, alone: bool = False) -> None:
        self._queues: dict[tuple[object, str], _Queue] = {}
        self._alone = alone

    def __len__(self) -> int:
        return len(self._queues)

    @asynccontextmanager
    async def hold(
        self, key: str, patience: float, *, first: bool = False, restarts: bool = False
    ) -> AsyncIterator[float]:
        """Waits for this key's turn, for `patience` seconds at most, and keeps it for the block.

        Yields the time, by the event loop's clock, until which the task may wait for the kernel lock.

        Args:
            key: which queue.
            patience: seconds; 0: does not wait.
            first: goes before tasks that are not `first`.
            restarts: `patience` starts again whenever another task finishes its turn: a long queue that moves
                is not a fault. A task that got `LockBusy` has not finished its turn.

        Raises:
            LockBusy: another task kept it for longer.
        """
        loop, began = running_loop(), anyio.current_time()
        if self._alone and any(name == key and other is not loop for other, name in self._queues):
            raise LockBusy(f"{key} is being worked on in another event loop of this process; try again later")
        queue = self._queues.setdefault((loop, key), _Queue())
        queue.users += 1
        try:
            if not await queue.take(patience, first=first, restarts=restarts):
                raise LockBusy(f"{key} is being worked on by another task of this process; try again later")
            try:
                yield queue.deadline(began, patience, restarts=restarts)
                queue.moved_at = anyio.current_time()
            finally:
                queue.pass_on()
        finally:
            queue.users -= 1
            if not queue.users:
                del self._queues[loop, key]
