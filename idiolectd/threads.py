"""Runs blocking work that may never end in a thread of its own.

The event loop's worker threads are few and shared: a call that hangs there keeps others from working, and the
program's end waits for it. A call that can hang where nothing can interrupt it (a look-up at a DNS server
that does not answer, a lock that is never given) runs here instead. Any number of tasks may wait for it, on
trio or asyncio, and stop waiting; the program's end does not wait for it.

Does not limit how many there are: the caller does.
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
    """One call in a thread of its own; it begins at once.

    Args:
        work: what to call. What it raises, `wait` raises.
        name: the thread's name, for people who look at the process.

    Raises:
        RuntimeError: the system has no thread left.
    """

    def __init__(self, work: Callable[[], T], name: str) -> None:
        self._work = work
        self._guard = threading.Lock()
        self._wake_ups: list[Callable[[], object]] = []
        self._is_done = False
        self._value: T
        self._error: BaseException | None = None
        threading.Thread(target=self._run, name=name, daemon=True).start()

    @property
    def is_done(self) -> bool:
        """Whether `wait` returns at once."""
        return self._is_done

    async def wait(self) -> T:
        """Waits for what the work returns. Cancelling this does not stop the work."""
        event = anyio.Event()
        with self._guard:
            if self._is_done:
                event.set()
            else:
                self._wake_ups.append(_wake_up(event))
        await event.wait()
        return self.result()

    def result(self) -> T:
        """What the work returned; only after it is done."""
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
        for wake in self._wake_ups:
            with suppress(RuntimeError):  # its event loop has ended
                wake()


def _wake_up(event: anyio.Event) -> Callable[[], object]:
    """A function that sets an event of the running loop from another thread."""
    if is_asyncio():
        loop = asyncio.get_running_loop()
        return lambda: loop.call_soon_threadsafe(event.set)
    import trio

    token = trio.lowlevel.current_trio_token()
    return lambda: token.run_sync_soon(event.set)
