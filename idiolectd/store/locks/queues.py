"""The queue of this process's tasks before a lock.

The kernel arbitrates between processes by trying again and again; within a process tasks are served
in the order in which they came, without polling.
"""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import anyio
import anyio.lowlevel

from idiolectd.errors import LockBusy


@dataclass
class _Queue:
    # A semaphore, not a lock: a task that asks twice is told "busy" like everybody else.
    turn: anyio.Semaphore = field(default_factory=lambda: anyio.Semaphore(1))
    users: int = 0


class Queues:
    """A queue for each key, dropped when nobody stands in it."""

    def __init__(self) -> None:
        self._queues: dict[str, _Queue] = {}

    def __len__(self) -> int:
        return len(self._queues)

    @asynccontextmanager
    async def hold(self, key: str, patience: float) -> AsyncIterator[None]:
        """Waits for this key's turn, for `patience` seconds at most, and keeps it for the block.

        Raises:
            LockBusy: another task kept it for longer.
        """
        queue = self._queues.setdefault(key, _Queue())
        queue.users += 1
        try:
            if not await _acquired(queue.turn, patience):
                raise LockBusy(f"{key} is being worked on by another task of this process; try again later")
            try:
                yield
            finally:
                queue.turn.release()
        finally:
            queue.users -= 1
            if not queue.users:
                del self._queues[key]


async def _acquired(turn: anyio.Semaphore, patience: float) -> bool:
    if patience <= 0:
        await anyio.lowlevel.checkpoint()
        try:
            turn.acquire_nowait()
        except anyio.WouldBlock:
            return False
        return True
    with anyio.move_on_after(patience):
        await turn.acquire()
        return True
    return False
