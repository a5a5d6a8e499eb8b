"""Reads only the beginning of a refusal's body, to judge it; the caller can still read all of it.

A refusal's error code is within its first few hundred bytes. A server that answers with gigabytes, compressed
or not, must not fill the client's memory.
"""

from collections.abc import AsyncGenerator, AsyncIterator, Iterator
from functools import cache
from typing import Any

from idiolectd.http import unpacked

# Bytes, before and after decompression.
MOST = 64 * 1024


class Bodies:
    """Works on the bodies of one library's responses: httpx's or httpx2's.

    Args:
        library: the module.
    """

    def __init__(self, library: Any) -> None:
        self._library = library
        self._sync_body, self._async_body = _classes(library)

    @classmethod
    @cache
    def of(cls, library: Any) -> "Bodies":
        """The one for a library."""
        return cls(library)

    def read_beginning(self, answer: Any) -> bytes:
        """Returns the decompressed beginning of an answer's body, and leaves the whole body readable. Blocks.

        Raises:
            httpx.RequestError: the body can't be read.
        """
        stream = answer.stream
        if not isinstance(stream, self._library.SyncByteStream):
            return b""  # the library itself reports a stream of the wrong kind
        parts, beginning, is_whole = iter(stream), b"", True
        try:
            for part in parts:
                beginning += part
                if len(beginning) > MOST:
                    is_whole = False
                    break
        except self._library.RequestError as error:
            error.request = answer.request
            raise
        answer.stream = self._sync_body(beginning, parts, stream, is_whole=is_whole)
        return _unpacked(beginning, answer)

    async def aread_beginning(self, answer: Any) -> bytes:
        """As `read_beginning`, without blocking."""
        stream = answer.stream
        if not isinstance(stream, self._library.AsyncByteStream):
            return b""
        parts, beginning, is_whole = aiter(stream), b"", True
        try:
            async for part in parts:
                beginning += part
                if len(beginning) > MOST:
                    is_whole = False
                    break
        except self._library.RequestError as error:
            error.request = answer.request
            raise
        answer.stream = self._async_body(beginning, parts, stream, is_whole=is_whole)
        return _unpacked(beginning, answer)

    def let_go(self, answer: Any) -> None:
        """Closes an answer that will be followed by another: httpx would otherwise read all of it first.

        Its body stays readable if all of it has arrived.
        """
        if isinstance(answer.stream, self._sync_body):
            answer.stream.close()
            answer.stream = self._library.ByteStream(answer.stream.whole)

    async def alet_go(self, answer: Any) -> None:
        """As `let_go`, without blocking."""
        if isinstance(answer.stream, self._async_body):
            await answer.stream.aclose()
            answer.stream = self._library.ByteStream(answer.stream.whole)


def _unpacked(beginning: bytes, answer: Any) -> bytes:
    return unpacked(beginning, answer.headers.get("content-encoding", ""), MOST)


def _classes(library: Any) -> tuple[Any, Any]:
    """Bodies whose beginning has been read: httpx takes only those that are derived from its own streams."""

    class SyncBody(library.SyncByteStream):  # type: ignore[misc]  # which library is known at run time
        def __init__(self, beginning: bytes, rest: Iterator[bytes], stream: Any, *, is_whole: bool) -> None:
            self.whole = beginning if is_whole else b""
            self._beginning, self._rest, self._stream = beginning, rest, stream

        def __iter__(self) -> Iterator[bytes]:
            yield self._beginning
            yield from self._rest

        def close(self) -> None:
            self._stream.close()

    class AsyncBody(library.AsyncByteStream):  # type: ignore[misc]  # as above
        def __init__(
            self, beginning: bytes, rest: AsyncIterator[bytes], stream: Any, *, is_whole: bool
        ) -> None:
            self.whole = beginning if is_whole else b""
            self._beginning, self._rest, self._stream = beginning, rest, stream

        async def __aiter__(self) -> AsyncIterator[bytes]:
            yield self._beginning
            async for part in self._rest:
                yield part

        async def aclose(self) -> None:
            if isinstance(self._rest, AsyncGenerator):
                await self._rest.aclose()  # trio warns of an async generator that is not run to its end
            await self._stream.aclose()

    return SyncBody, AsyncBody
