"""Work that nobody can cancel.

Past the point of no return a refresh runs to its end: a request may have rotated the token, and only
whoever waits for the answer can save the new one. The work brings its own deadline.
"""

import asyncio
from collections.abc import Awaitable, Callable
from typing import TypeVar

import anyio

T = TypeVar("T")


async def finish(work: Callable[[], Awaitable[T]]) -> T:
    """Runs `work` to its end. A cancellation of the caller is delivered afterwards.

    Under trio a shielded scope is all it takes. Under asyncio such a scope does not stop a native
    ``task.cancel()`` (``asyncio.wait_for``, ``asyncio.timeout``, Ctrl-C in ``asyncio.run``), so the
    work gets a task of its own there. Only the teardown of the whole loop, which cancels every
    task, still ends it; what is lost then is a clear answer, and the note says so.
    """
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        with anyio.CancelScope(shield=True):
            return await work()
    task = asyncio.ensure_future(work())
    cancelled: asyncio.CancelledError | None = None
    with anyio.CancelScope(shield=True):  # anyio's own scopes need no answer meanwhile
        while not task.done():
            try:
                await asyncio.wait([task])
            except asyncio.CancelledError as error:
                cancelled = error
    if cancelled is None:
        return task.result()
    if not task.cancelled():
        task.exception()  # seen: the caller is gone, and the loop must not complain
    raise cancelled
