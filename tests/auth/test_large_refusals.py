"""A refusal of any size: its beginning is judged, the whole is the caller's, and neither fills the memory."""

import gzip
import json
from collections.abc import AsyncIterator, Iterator

import httpx
import pytest

from idiolectd.adapters.httpx_bodies import MOST, Bodies

pytestmark = pytest.mark.anyio

ERROR = json.dumps({"error": "ExpiredToken"}).encode()
PART = b"x" * 16_384

BODIES = Bodies.of(httpx)


class Endless(httpx.AsyncByteStream, httpx.SyncByteStream):
    """An answer that goes on; counts what was taken of it."""

    def __init__(self, parts: int) -> None:
        self.parts = parts
        self.taken = 0
        self.is_closed = False

    def __iter__(self) -> Iterator[bytes]:
        yield ERROR
        while self.taken < self.parts:
            self.taken += 1
            yield PART

    async def __aiter__(self) -> AsyncIterator[bytes]:
        for part in self:
            yield part

    async def aclose(self) -> None:
        self.is_closed = True

    def close(self) -> None:
        self.is_closed = True


def answer_with(stream: Endless, **headers: str) -> httpx.Response:
    return httpx.Response(
        401, headers=headers, stream=stream, request=httpx.Request("GET", "https://pds.test/")
    )


async def test_only_the_beginning_is_read() -> None:
    """Of an answer without end, some dozen KiB; the caller still gets all of one that has an end."""
    for asynchronous in (True, False):
        stream = Endless(1000)
        answer = answer_with(stream)
        beginning = await BODIES.aread_beginning(answer) if asynchronous else BODIES.read_beginning(answer)
        assert beginning.startswith(ERROR)
        assert stream.taken <= MOST // len(PART) + 1
        whole = await answer.aread() if asynchronous else answer.read()
        assert whole == ERROR + PART * 1000
        assert stream.is_closed


async def test_what_is_sent_again_is_not_read_to_its_end() -> None:
    """httpx reads a refused answer before it repeats the request."""
    for asynchronous in (True, False):
        stream = Endless(10**9)
        answer = answer_with(stream)
        if asynchronous:
            await BODIES.aread_beginning(answer)
            await BODIES.alet_go(answer)
            assert await answer.aread() == b""
        else:
            BODIES.read_beginning(answer)
            BODIES.let_go(answer)
            assert answer.read() == b""
        assert stream.is_closed
        assert stream.taken <= MOST // len(PART) + 1


async def test_a_packed_answer_is_not_unpacked_whole() -> None:
    """A KiB may hold a MiB; what says why it was refused comes first."""

    class Packed(Endless):
        def __iter__(self) -> Iterator[bytes]:
            yield gzip.compress(ERROR + b" " * (MOST * 100))

    answer = answer_with(Packed(0), **{"content-encoding": "gzip"})
    beginning = await BODIES.aread_beginning(answer)
    assert beginning.startswith(ERROR)
    assert len(beginning) <= MOST + 1
    assert len(await answer.aread()) == len(ERROR) + MOST * 100
