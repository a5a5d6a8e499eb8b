"""Running a piece of work to its end, whatever happens to the task that asked for it.

A write that stops half-way would free the write lock under a thread that still writes, or leave a
connection inside a transaction. A shielded cancel scope is enough for anyio's and trio's own
cancellation; `asyncio.Task.cancel` (and so `asyncio.timeout`, `wait_for`) goes through it. So under
asyncio the work is a task of its own, and whoever is cancelled waits for it first.
"""

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, TypeVar, TypeVarTuple

import anyio
import anyio.to_thread

T = TypeVar("T")
Ts = TypeVarTuple("Ts")


def is_asyncio() -> bool:
    """Whether the running task is asyncio's."""
    try:
        return asyncio.current_task() is not None
    except RuntimeError:  # no loop runs in this thread
        return False


def running_loop() -> object:
    """The event loop that runs the current task; only its identity says something."""
    if is_asyncio():
        return asyncio.get_running_loop()
    import trio

    return trio.lowlevel.current_trio_token()


async def finish(work: Callable[[*Ts], Coroutine[Any, Any, T]], *args: *Ts) -> T:
    """Runs `work(*args)` to its end, then returns or raises what it did.

    It can't be cancelled, so it must have a bound of its own.
    """
    running = _finish_task(work(*args)) if is_asyncio() else work(*args)
    with anyio.CancelScope(shield=True):
        return await running
    raise AssertionError("a scope that nobody cancels swallows nothing")


async def _finish_task(work: Coroutine[Any, Any, T]) -> T:
    task = asyncio.create_task(work)
    cancelled: asyncio.CancelledError | None = None
    while not task.done():
        try:
            await asyncio.wait([task])
        except asyncio.CancelledError as error:
            cancelled = error
    if cancelled is None:
        return task.result()
    # What the work did stays done; its error has nobody left to go to.
    if not task.cancelled():
        task.exception()
    raise cancelled


def in_thread(work: Callable[[*Ts], T], *args: *Ts) -> Awaitable[T]:
    """Runs blocking work in a worker thread, to its end."""
    return finish(_in_thread, work, args)


async def _in_thread(work: Callable[[*Ts], T], args: tuple[*Ts]) -> T:
    return await anyio.to_thread.run_sync(work, *args)
