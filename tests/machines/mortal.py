"""A process that can die: all it touches, the store and the network, fails for it from then on.

Death strikes wherever it waits, shields or not: nothing in this process may run on, and nothing that
it had not made durable is left. What the kernel does at a real death is done here too: claims end.
"""

from collections.abc import AsyncIterator, Collection
from contextlib import asynccontextmanager
from typing import Any

import anyio
import httpx

from idiolectd.ports import Watch
from idiolectd.store import InMemoryOAuthTokenStore


class Died(BaseException):
    """Ends every task of a dead process; not an `Exception`, so that nobody handles it."""


class Life:
    """One process's."""

    def __init__(self) -> None:
        self.is_over = False
        self._waits: set[anyio.CancelScope] = set()

    def end(self) -> None:
        """Kills it."""
        self.is_over = True
        for wait in self._waits:
            wait.cancel()

    def check(self) -> None:
        """Raises `Died` in a dead process."""
        if self.is_over:
            raise Died

    @asynccontextmanager
    async def waiting(self) -> AsyncIterator[None]:
        """A wait that death ends."""
        self.check()
        with anyio.CancelScope() as scope:
            self._waits.add(scope)
            try:
                yield
            finally:
                self._waits.discard(scope)
        self.check()


class MortalTransport(httpx.AsyncBaseTransport):
    """The network, as one process sees it. Does not own what is below it."""

    def __init__(self, inner: httpx.AsyncBaseTransport, life: Life) -> None:
        self._inner, self._life = inner, life

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Serves one request."""
        response = None
        async with self._life.waiting():
            response = await self._inner.handle_async_request(request)
        assert response is not None
        assert isinstance(response.stream, httpx.AsyncByteStream)
        response.stream = _MortalStream(response.stream, self._life)
        return response


class _MortalStream(httpx.AsyncByteStream):
    def __init__(self, inner: httpx.AsyncByteStream, life: Life) -> None:
        self._inner, self._life = inner, life

    async def __aiter__(self) -> AsyncIterator[bytes]:
        async for part in self._inner:
            self._life.check()
            yield part

    async def aclose(self) -> None:
        await self._inner.aclose()


class MortalStore:
    """The store, as one process sees it: every operation happens whole, or not at all."""

    def __init__(self, inner: InMemoryOAuthTokenStore, life: Life) -> None:
        self._inner, self._life = inner, life

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._inner, name)
        if not callable(found) or name == "schedule":
            return found

        async def call(*args: Any, **kwargs: Any) -> Any:
            self._life.check()
            result = await found(*args, **kwargs)
            self._life.check()
            return result

        return call

    @asynccontextmanager
    async def claim(self, did: str, *, patience: float) -> AsyncIterator[None]:
        """See `SharedStore.claim`."""
        async with self._inner.claim(did, patience=patience):
            self._life.check()
            yield

    @asynccontextmanager
    async def watch(self) -> AsyncIterator["_MortalWatch"]:
        """See `SharedStore.watch`."""
        async with self._inner.watch() as watch:
            yield _MortalWatch(watch, self._life)

    @asynccontextmanager
    async def new_sessions(self) -> AsyncIterator[None]:
        """See `SharedStore.new_sessions`; a store in memory has none."""
        async with self._inner.new_sessions() as pages:
            self._life.check()
            yield pages


class _MortalWatch:
    def __init__(self, inner: Watch, life: Life) -> None:
        self._inner, self._life = inner, life

    async def wait_changed(self) -> Collection[str]:
        async with self._life.waiting():
            return await self._inner.wait_changed()
