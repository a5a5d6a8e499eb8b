"""Blocking work that may never end, in a thread of its own.

The event loop's worker threads are few and shared: whoever keeps them busy keeps everybody from working,
and a pool's threads are waited for when the program ends. What can hang where nobody can interrupt it (a
look-up in a mute DNS, a lock that is not given) runs here instead: any number of tasks may wait for it, on
trio and asyncio alike, none must, and the end of the program waits for none of it.

Does not bound how many there are: whoever starts them does.
"""

import asyncio
import threading
from collections.abc import Callable
from contextlib import suppress
from typing import Generic, TypeVar

import anyio
import anyio.lowlevel

from idiolectd.finish import is_asyncio

T = TypeVar("T")


class Errand(Generic[T]):
    """One piece of blocking work; begins at once.

    Args:
        work: what to do. What it raises, `wait` raises.
        name: of the thread, for people who look at the process.

    Raises:
        RuntimeError: the system has no thread left.
    """

    def __init__(self, work: Callable[[], T], name: str) -> None:
        self._work = work
        self._guard = threading.Lock()
        self._wakers: list[Callable[[], object]] = []
        self._is_done = False
        self._value: T
        self._error: BaseException | None = None
        threading.Thread(target=self._run, name=name, daemon=True).start()

    @property
    def is_done(self) -> bool:
        """Whether `wait` returns at once."""
        return self._is_done

    async def wait(self) -> T:
        """What the work returned. Whoever stops waiting does not stop the work."""
        event = anyio.Event()
        with self._guard:
            if self._is_done:
                event.set()
            else:
                self._wakers.append(_waker(event))
        await event.wait()
        return self.result()

    def result(self) -> T:
        """What the work returned, when it is done."""
        if not self._is_done:
            raise RuntimeError("it is not done")
        if self._error is not None:
            raise self._error
        return self._value

    def _run(self) -> None:
        try:
            self._value = self._work()
        except BaseException as error:  # noqa: BLE001 - it is raised where somebody waits
            self._error = error
        with self._guard:
            self._is_done = True
        for wake in self._wakers:
            with suppress(RuntimeError):  # its event loop has ended
                wake()


def _waker(event: anyio.Event) -> Callable[[], object]:
    """What sets an event of the running loop from another thread."""
    if is_asyncio():
        loop = asyncio.get_running_loop()
        return lambda: loop.call_soon_threadsafe(event.set)
    import trio

    token = trio.lowlevel.current_trio_token()
    return lambda: token.run_sync_soon(event.set)
