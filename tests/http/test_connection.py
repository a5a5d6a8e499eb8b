"""One connection: requests go out whole, answers come back in every legal frame, and then perhaps the next."""

from __future__ import annotations

import socket
import ssl
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import anyio
import anyio.lowlevel
import httpx
import pytest
from anyio.abc import ByteStream, SocketAttribute, SocketStream

from idiolectd.errors import NotSent, Unclear
from idiolectd.http import OriginPools
from idiolectd.http.connection import Connection
from idiolectd.http.request_progress import RequestProgress
from idiolectd.http.time_limits import EachWait
from tests.http.support import LOOPBACK, Handler, house, listening, read_request

pytestmark = pytest.mark.anyio

CONTEXT = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
HEADERS = [(b"Host", b"pds.test"), (b"Content-Length", b"3")]
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}"


@dataclass
class Scripted(ByteStream):
    """A stream that keeps what it is sent, each write by itself, and brings what it was given."""

    socket: socket.socket
    incoming: list[bytes]
    breaks: bool = False
    sent: list[bytes] = field(default_factory=list)
    reads: int = 0

    @property
    def extra_attributes(self) -> Mapping[Any, Any]:
        return {SocketAttribute.raw_socket: lambda: self.socket}

    async def send(self, item: bytes) -> None:
        await anyio.lowlevel.checkpoint()
        if self.breaks:
            raise anyio.BrokenResourceError
        self.sent.append(item)

    async def receive(self, max_bytes: int = 65536) -> bytes:
        await anyio.lowlevel.checkpoint()
        self.reads += 1
        if not self.incoming:
            raise anyio.EndOfStream
        return self.incoming.pop(0)

    async def send_eof(self) -> None:
        raise NotImplementedError

    async def aclose(self) -> None:
        await anyio.lowlevel.checkpoint()


@contextmanager
def scripted(*incoming: bytes, breaks: bool = False) -> Iterator[Scripted]:
    with socket.socket() as unconnected:
        yield Scripted(unconnected, list(incoming), breaks)


async def posted(connection: Connection) -> tuple[int, bytes]:
    head = await connection.ask(
        b"POST", b"/token", HEADERS, b"a=b", limits=EachWait({}), progress=RequestProgress(keep=1000)
    )
    body = b""
    while part := await connection.read_part(EachWait({})):
        body += part
    return head.status, body


async def test_a_request_is_one_write_and_its_answer_one_read() -> None:
    """Head and body go together; of an answer that arrived whole nothing more is waited for."""
    with scripted(OK, OK) as stream:
        connection = Connection(stream, CONTEXT)
        for _ in range(2):
            assert await posted(connection) == (200, b"{}")
            assert connection.rest()
    assert stream.sent == [b"POST /token HTTP/1.1\r\nHost: pds.test\r\nContent-Length: 3\r\n\r\na=b"] * 2
    assert stream.reads == 2


async def test_an_answer_counts_although_the_request_was_not_read() -> None:
    """A server may refuse early and stop reading. What it said is read; then the connection is no good."""
    refusal = b"HTTP/1.1 413 Content Too Large\r\nContent-Length: 2\r\n\r\n{}"
    with scripted(refusal, breaks=True) as stream:
        connection = Connection(stream, CONTEXT)
        assert await posted(connection) == (413, b"{}")
        assert not connection.rest()


async def test_nothing_of_an_answer_is_kept_for_the_next() -> None:
    """A connection that rests holds no tokens."""
    with scripted(OK) as stream:
        connection = Connection(stream, CONTEXT)
        await posted(connection)
        assert connection._progress.arrived == OK
        connection.rest()
        assert connection._progress.arrived == b""


@dataclass(frozen=True)
class Frame:
    """An answer, and whether the connection may be used again."""

    answer: bytes
    body: bytes = b"{}"
    status: int = 200
    again: bool = True
    ends: bool = False  # by closing


FRAMES = {
    "length": Frame(OK),
    "interim answers": Frame(
        b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n" + OK
    ),
    "chunks": Frame(
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\n{\r\n1;a=b\r\n}\r\n0\r\n\r\n"
    ),
    "chunks and trailers": Frame(
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\nDigest: x\r\n\r\n"
    ),
    "no content": Frame(b"HTTP/1.1 204 No Content\r\n\r\n", b"", 204),
    "head of 60 KB": Frame(b"HTTP/1.1 200 OK\r\nA: " + b"x" * 60_000 + b"\r\nContent-Length: 2\r\n\r\n{}"),
    "says that it closes": Frame(
        b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\n{}", again=False
    ),
    "HTTP/1.0": Frame(b"HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\n{}", again=False),
    "HTTP/1.0 until the end": Frame(b"HTTP/1.0 200 OK\r\n\r\n{}", again=False, ends=True),
    "until the end": Frame(b"HTTP/1.1 200 OK\r\n\r\n{}", again=False, ends=True),
}


@pytest.mark.parametrize("frame", FRAMES.values(), ids=list(FRAMES))
@pytest.mark.usefixtures("without_rest")
async def test_every_legal_frame_is_read(frame: Frame) -> None:
    """And the connection is used again if, and only if, the server keeps it."""
    connections = 0

    async def handler(stream: SocketStream) -> None:
        nonlocal connections
        connections += 1
        while True:
            await read_request(stream)
            await stream.send(frame.answer)
            if frame.ends:
                return

    async with listening(handler) as url, house() as w:
        for _ in range(2):
            response = await w.client.request("POST", url)
            assert (response.status, response.body) == (frame.status, frame.body)
    assert connections == (1 if frame.again else 2)


async def test_a_connection_that_the_server_has_closed_is_not_used() -> None:
    """A second request at once would else be put on it, and nobody would know what became of it."""
    closed = [anyio.Event(), anyio.Event()]
    ended = iter(closed)

    async def handler(stream: SocketStream) -> None:
        await read_request(stream)
        await stream.send(OK)
        await stream.aclose()
        next(ended).set()

    async with listening(handler) as url, house() as w:
        for event in closed:
            assert (await w.client.request("POST", url)).status == 200
            await event.wait()


async def test_many_interim_answers_let_others_work() -> None:
    """The event loop turns while thousands of them are read for which nobody has to wait."""
    turns = 0

    async def turn() -> None:
        nonlocal turns
        while True:
            await anyio.lowlevel.checkpoint()
            turns += 1

    with scripted(b"HTTP/1.1 100 Continue\r\n\r\n" * 5000 + OK) as stream:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(turn)
            assert await posted(Connection(stream, CONTEXT)) == (200, b"{}")
            tasks.cancel_scope.cancel()
    assert turns > 50


async def reads_nothing(stream: SocketStream) -> None:
    await anyio.sleep_forever()


async def reads_the_head_and_answers(stream: SocketStream) -> None:
    await read_request(stream)
    await stream.send(b"HTTP/1.1 413 Content Too Large\r\nContent-Length: 2\r\n\r\n{}")
    await anyio.sleep_forever()


@pytest.mark.parametrize(("handler", "status"), [(reads_nothing, None), (reads_the_head_and_answers, 413)])
async def test_a_request_that_is_stuck_half_way_is_unclear(handler: Handler, status: int | None) -> None:
    """From the first byte on the server may act; what it has said by then counts."""
    form = {"a": "x" * 20_000_000}  # more than any socket holds
    async with listening(handler) as url, house() as w:
        if status is None:
            with pytest.raises(Unclear):
                await w.client.request("POST", url, form=form, deadline=0.3)
        else:
            assert (await w.client.request("POST", url, form=form, deadline=0.3)).status == status


async def test_a_header_that_no_server_takes_is_not_sent() -> None:
    """The framing refuses what RFC 9110, section 5.5, does, and nothing has left."""
    async with listening(reads_nothing) as url, house() as w:
        with pytest.raises(NotSent) as caught:
            await w.client.request("POST", url, headers={"DPoP": "SECRET "})
    assert "SECRET" not in str(caught.value)


@pytest.mark.parametrize("scheme", ["http", "https"])
async def test_who_gives_up_leaves_no_connection_behind(scheme: str) -> None:
    """In the middle of a handshake or of an answer: the server sees the end while the client lives on."""
    came, gone = anyio.Event(), anyio.Event()

    async def handler(stream: SocketStream) -> None:
        await stream.receive()
        came.set()
        with anyio.fail_after(10):
            try:
                await stream.receive()
            except (anyio.EndOfStream, anyio.BrokenResourceError):
                gone.set()

    async with listening(handler) as url, house() as w:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(w.client.request, "GET", url.replace("http:", f"{scheme}:"))
            await came.wait()
            tasks.cancel_scope.cancel()
        with anyio.fail_after(10):
            await gone.wait()


async def test_it_serves_any_client_of_httpx() -> None:
    """It is one of httpx's transports: streams, methods and header fields as they were given."""
    seen: list[bytes] = []

    async def handler(stream: SocketStream) -> None:
        seen.append(await read_request(stream))
        await stream.send(
            b"HTTP/1.1 200 Fine\r\nX-A: 1\r\nx-a: 2\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n"
        )
        await stream.send(b"0\r\n\r\n")

    async with listening(handler) as url, httpx.AsyncClient(transport=OriginPools(LOOPBACK)) as client:
        async with client.stream("PUT", url + "/x?a=b", content=b"abc", headers={"X-Name": "v"}) as answer:
            assert await answer.aread() == b"{}"
        assert answer.headers.get_list("x-a") == ["1", "2"]
        with pytest.raises(httpx.UnsupportedProtocol):
            await client.get("ftp://127.0.0.1/")
    assert seen[0].startswith(b"PUT /x?a=b HTTP/1.1\r\nHost: 127.0.0.1")
    assert b"\r\nX-Name: v\r\n" in seen[0]
    assert seen[0].endswith(b"\r\n\r\nabc")
