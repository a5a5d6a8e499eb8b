"""The beginning of a refusal's body, for judging it; the whole of it stays the caller's.

A refusal says what it says in some hundred bytes. Whoever answers with gigabytes, or packs them, must not
fill the memory of a program that only wanted to know whether its token was refused.
"""

from collections.abc import AsyncGenerator, AsyncIterator, Iterator

import httpx

from idiolectd.http import unpacked

# Bytes, before and after unpacking.
MOST = 64 * 1024


def read_beginning(answer: httpx.Response) -> bytes:
    """What an answer says first, unpacked; its body can be read afterwards as if nobody had. Blocks.

    Raises:
        httpx.RequestError: as reading it raises.
    """
    stream = answer.stream
    if not isinstance(stream, httpx.SyncByteStream):
        return b""  # a stream of the wrong kind is httpx's to complain of
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
    """Ends an answer that is only part of the next one's history: httpx would read all of it before that.

    Its body stays there if it has come whole.
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
            await self._rest.aclose()  # trio complains of one that is left half-way
        await self._stream.aclose()
