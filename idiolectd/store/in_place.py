"""Work of some microseconds on files, done on the event loop itself while the disk is quick.

Reading a row or trying a lock costs 10 to 20 µs; a hop to a thread and back costs 100 to 200. But a disk
that answers slowly would stop every session, not only the one whose file it is about. So the time is taken:
what once took longer than `_SLOW` is done in threads for the next `_REST` seconds, then tried again. What
may wait for somebody else (a lock that is held, a foreign transaction) must not be done here at all.
"""

import time
from collections.abc import Callable
from typing import TypeVar, TypeVarTuple

import anyio.lowlevel

from idiolectd.finish import in_thread

T = TypeVar("T")
Ts = TypeVarTuple("Ts")

# Seconds. Shorter waits are no sign of a slow disk: a machine with twenty busy processes takes a thread's
# processor away for up to 100 ms at a time.
_SLOW, _REST = 0.25, 10.0


class InPlace:
    """Whether one store's short work is done in place now. For any number of event loops."""

    def __init__(self) -> None:
        self._rests_until = 0.0

    async def run(self, work: Callable[[*Ts], T], *args: *Ts) -> T:
        """Does `work(*args)`, here or in a thread; returns or raises what it does."""
        began = time.monotonic()
        if began < self._rests_until:
            return await in_thread(work, *args)
        await anyio.lowlevel.checkpoint_if_cancelled()
        try:
            return work(*args)
        finally:
            ended = time.monotonic()
            if ended - began > _SLOW:
                self._rests_until = ended + _REST
