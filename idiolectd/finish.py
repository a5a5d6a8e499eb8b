"""Runs a piece of work to its end, whatever happens to the task that asked for it.

A write that stops half-way would free the write lock under a thread that still writes, or leave a
connection inside a transaction; a refresh that stops half-way throws the new tokens away. A shielded
cancel scope protects from anyio's and trio's own cancellation, and from nothing else. So the work runs in a
task of its own. The task that asked for it waits until it is done, even when it is interrupted meanwhile, and
raises the interruption then:

* asyncio: `asyncio.Task.cancel` (and so `asyncio.timeout`, `wait_for`) goes through a shield. A second
  Ctrl-C ends the event loop, and `asyncio.run` then cancels every task that is registered: so the work's task
  is not registered, and `asyncio.run` waits for the task that waits for it.
* trio raises `KeyboardInterrupt` in the main task, through any shield: so the work runs in a system task,
  in which trio never raises it.

Not survived: a third Ctrl-C in `asyncio.run`; one that comes while the work's own Python code runs (some
milliseconds of a refresh) and not while it waits; a loop that is closed by hand.

The work has a time limit of its own. For a refresh: two requests (the second if the server asks for another
nonce) of `idiolectd.http.http_client.DEADLINE` each with a last read, 70 s in all, and as long as
its `SaveDeadline` says while its tokens can't be saved, 60 s unless a daemon holds them.
"""

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from contextvars import ContextVar, copy_context
from typing import Any, TypeVar, TypeVarTuple

import anyio
import anyio.to_thread
from anyio.lowlevel import RunVar

T = TypeVar("T")
Ts = TypeVarTuple("Ts")

# The trio system task that runs such work already: work inside it needs no task of its own.
_work_task: ContextVar[object] = ContextVar("idiolectd.finish.work_task", default=None)


def is_asyncio() -> bool:
    """Whether the running task is asyncio's."""
    loop = asyncio._get_running_loop()  # noqa: SLF001 -- the one way to ask that raises nothing
    return loop is not None and asyncio.current_task(loop) is not None


def running_loop() -> object:
    """The event loop that runs the current task; compare it by identity only."""
    if is_asyncio():
        return asyncio.get_running_loop()
    import trio

    return trio.lowlevel.current_trio_token()


async def finish(work: Callable[[*Ts], Coroutine[Any, Any, T]], *args: *Ts) -> T:
    """Runs `work(*args)` to its end, then returns or raises what it did.

    The work can't be cancelled, so it must have a time limit of its own. See the module for the exceptions.

    Raises:
        KeyboardInterrupt: trio was interrupted meanwhile; the work has been done.
    """
    if is_asyncio():
        with anyio.CancelScope(shield=True):
            return await _as_task(work(*args))
    import trio  # only where it runs anyway

    with trio.CancelScope(shield=True):  # anyio's costs twice as much
        return await _as_system_task(work, *args)
    raise AssertionError("a scope that nobody cancels swallows nothing")


async def _as_task(work: Coroutine[Any, Any, T]) -> T:
    task = asyncio.create_task(work)
    asyncio.tasks._unregister_task(task)  # noqa: SLF001 -- for whoever manages tasks by himself, say its docs
    cancelled: asyncio.CancelledError | None = None
    while not task.done():
        try:
            await asyncio.wait([task])
        except asyncio.CancelledError as error:
            cancelled = error
    if cancelled is None:
        return task.result()
    # The work is done; its error is dropped, because the caller gets the cancellation.
    if not task.cancelled():
        task.exception()
    raise cancelled


async def _as_system_task(work: Callable[[*Ts], Coroutine[Any, Any, T]], *args: *Ts) -> T:
    import trio

    if _work_task.get() is trio.lowlevel.current_task():
        return await work(*args)
    # Else it could be interrupted between starting the work and waiting for it.
    return await trio.lowlevel.enable_ki_protection(_wait_for_system_task)(work, *args)


async def _wait_for_system_task(work: Callable[[*Ts], Coroutine[Any, Any, T]], *args: *Ts) -> T:
    import outcome  # trio's own companion
    import trio

    done = trio.Event()
    result: outcome.Maybe[T] | None = None

    async def run() -> None:
        nonlocal result
        _work_task.set(trio.lowlevel.current_task())
        result = await outcome.acapture(work, *args)
        done.set()

    trio.lowlevel.spawn_system_task(run, context=copy_context())
    interrupted: KeyboardInterrupt | None = None
    while not done.is_set():
        try:
            await done.wait()
        except KeyboardInterrupt as error:
            interrupted = error
    if interrupted is not None:
        raise interrupted
    if result is None:
        raise AssertionError("the work is done")
    return result.unwrap()


# How many threads may work on files and locks at a time. They are separate from the event loop's usual worker
# threads: name look-ups, libraries or the calling program may keep all of those busy while tokens must be
# saved.
_THREADS = 16

_limiter: RunVar[anyio.CapacityLimiter] = RunVar("idiolectd.finish")


def in_thread(work: Callable[[*Ts], T], *args: *Ts) -> Awaitable[T]:
    """Runs blocking work on files or locks in a worker thread, to its end, as `finish` does."""
    return finish(_in_thread, work, args)


async def _in_thread(work: Callable[[*Ts], T], args: tuple[*Ts]) -> T:
    try:
        limiter = _limiter.get()
    except LookupError:
        limiter = anyio.CapacityLimiter(_THREADS)
        _limiter.set(limiter)
    return await anyio.to_thread.run_sync(work, *args, limiter=limiter)
