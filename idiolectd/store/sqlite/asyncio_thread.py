"""A thread with an asyncio loop, in which a trio program runs coroutines that need asyncio (aiosqlite).

A coroutine crosses over and its result comes back: 100 to 200 µs, so callers hand over whole pieces of work.
What was handed over runs to its end, and the trio task that waits for it can't be cancelled meanwhile.
Whatever the coroutines opened must be closed before the thread ends: a thread of aiosqlite that is still
there would keep the interpreter from ending.
"""

import asyncio
import threading
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from typing import Any, Self, TypeVar, TypeVarTuple

T = TypeVar("T")
Ts = TypeVarTuple("Ts")


class AsyncioThread:
    """Made by `open`; for tasks of the trio run in which it was opened."""

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._live, name="idiolectd-sqlite")

    @classmethod
    @asynccontextmanager
    async def open(cls) -> AsyncIterator[Self]:
        """Starts the thread; ends it after the block."""
        import trio

        opened = cls()
        opened._thread.start()
        try:
            yield opened
        finally:
            opened._loop.call_soon_threadsafe(opened._loop.stop)
            with trio.CancelScope(shield=True):  # of its own: trio's usual threads may all be busy
                await trio.to_thread.run_sync(opened._thread.join, limiter=trio.CapacityLimiter(1))

    async def run(self, work: Callable[[*Ts], Coroutine[Any, Any, T]], *args: *Ts) -> T:
        """Runs `work(*args)` in the thread and returns or raises what it does."""
        import outcome  # trio's own companion
        import trio

        task = trio.lowlevel.current_task()
        token = trio.lowlevel.current_trio_token()
        running: set[asyncio.Task[None]] = set()  # the loop itself keeps no strong reference

        async def run_and_report() -> None:
            result = await outcome.acapture(work, *args)
            token.run_sync_soon(trio.lowlevel.reschedule, task, result)

        def start() -> None:
            running.add(self._loop.create_task(run_and_report()))

        self._loop.call_soon_threadsafe(start)
        result: T = await trio.lowlevel.wait_task_rescheduled(lambda _: trio.lowlevel.Abort.FAILED)
        return result

    def _live(self) -> None:
        try:
            self._loop.run_forever()
        finally:
            self._loop.close()
