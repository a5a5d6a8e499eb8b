"""Reads only the beginning of a refusal's body, to judge it; the caller can still read all of it.

A refusal's error code is within its first few hundred bytes. A server that answers with gigabytes, compressed
or not, must not fill the client's memory.
"""

from collections.abc import AsyncGenerator, AsyncIterator, Iterator

import httpx

from idiolectd.http import unpacked

# Bytes, before and after decompression.
MOST = 64 * 1024


def read_beginning(answer: httpx.Response) -> bytes:
    """Returns the decompressed beginning of an answer's body, and leaves the whole body readable. Blocks.

    Raises:
        httpx.RequestError: the body can't be read.
    """
    stream = answer.stream
    if not isinstance(stream, httpx.SyncByteStream):
        return b""  # httpx itself reports a stream of the wrong kind
    parts, beginning, is_whole = iter(stream), b"", True
    try:
        for part in parts:
            beginning += part
            if len(beginning) > MOST:
                is_whole = False
                break
    except httpx.RequestError as error:
        error.request = answer.request
        raise
    answer.stream = _SyncBody(beginning, parts, stream, is_whole=is_whole)
    return _unpacked(beginning, answer)


async def aread_beginning(answer: httpx.Response) -> bytes:
    """As `read_beginning`, without blocking."""
    stream = answer.stream
    if not isinstance(stream, httpx.AsyncByteStream):
        return b""
    parts, beginning, is_whole = aiter(stream), b"", True
    try:
        async for part in parts:
            beginning += part
            if len(beginning) > MOST:
                is_whole = False
                break
    except httpx.RequestError as error:
        error.request = answer.request
        raise
    answer.stream = _AsyncBody(beginning, parts, stream, is_whole=is_whole)
    return _unpacked(beginning, answer)


def let_go(answer: httpx.Response) -> None:
    """Closes an answer that will be followed by another: httpx would otherwise read all of it first.

    Its body stays readable if all of it has arrived.
    """
    if isinstance(answer.stream, _SyncBody):
        answer.stream.close()
        answer.stream = httpx.ByteStream(answer.stream.whole)


async def alet_go(answer: httpx.Response) -> None:
    """As `let_go`, without blocking."""
    if isinstance(answer.stream, _AsyncBody):
        await answer.stream.aclose()
        answer.stream = httpx.ByteStream(answer.stream.whole)


def _unpacked(beginning: bytes, answer: httpx.Response) -> bytes:
    return unpacked(beginning, answer.headers.get("content-encoding", ""), MOST)


class _SyncBody(httpx.SyncByteStream):
    """A body whose beginning has been read."""

    def __init__(
        self, beginning: bytes, rest: Iterator[bytes], stream: httpx.SyncByteStream, *, is_whole: bool
    ) -> None:
        self.whole = beginning if is_whole else b""
        self._beginning, self._rest, self._stream = beginning, rest, stream

    def __iter__(self) -> Iterator[bytes]:
        yield self._beginning
        yield from self._rest

    def close(self) -> None:
        self._stream.close()


class _AsyncBody(httpx.AsyncByteStream):
    """The same for async clients."""

    def __init__(
        self, beginning: bytes, rest: AsyncIterator[bytes], stream: httpx.AsyncByteStream, *, is_whole: bool
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
