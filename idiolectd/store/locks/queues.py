"""The queue of this process's tasks before a lock.

The kernel arbitrates between processes by trying again and again; within a process tasks are served
in the order in which they came, without polling.

What waits in one event loop can't be woken from another: each loop has queues of its own, and the kernel
decides between two loops of one process too.
"""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import anyio
import anyio.lowlevel

from idiolectd.errors import LockBusy
from idiolectd.finish import running_loop


@dataclass
class _Queue:
    # A semaphore, not a lock: a task that asks twice is told "busy" like everybody else.
    turn: anyio.Semaphore = field(default_factory=lambda: anyio.Semaphore(1))
    users: int = 0


class Queues:
    """A queue for each key and event loop, dropped when nobody stands in it.

    Args:
        alone: no kernel lock follows, so nothing decides between two loops: a second one is told so.
    """

    def __init__(self, *, alone: bool = False) -> None:
        self._queues: dict[tuple[object, str], _Queue] = {}
        self._alone = alone

    def __len__(self) -> int:
        return len(self._queues)

    @asynccontextmanager
    async def hold(self, key: str, patience: float) -> AsyncIterator[None]:
        """Waits for this key's turn, for `patience` seconds at most, and keeps it for the block.

        Raises:
            LockBusy: another task kept it for longer.
        """
        loop = running_loop()
        if self._alone and any(name == key and other is not loop for other, name in self._queues):
            raise LockBusy(f"{key} is being worked on in another event loop of this process; try again later")
        queue = self._queues.setdefault((loop, key), _Queue())
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
                del self._queues[loop, key]


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
