"""One request, one whole answer, or an error that says whether anything was sent."""

import gzip
from collections.abc import AsyncIterator

import anyio
import anyio.lowlevel
import httpx
import pytest
from anyio.abc import SocketStream

from idiolectd.errors import NotSent, TransportError, Unclear
from idiolectd.http.http_client import MAX_BODY
from tests.http.support import Handler, answering, house, listening, read_request

pytestmark = pytest.mark.anyio

OK = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n"


async def test_an_answer_is_read_whole() -> None:
    """Status, lower-case headers, body and date arrive; the defaults go out."""
    seen: list[bytes] = []

    async def handler(stream: SocketStream) -> None:
        request = await read_request(stream)
        while not request.endswith(b"b=c+d"):
            request += await stream.receive()
        seen.append(request)
        await stream.send(OK + b"Date: Tue, 14 Nov 2023 22:13:20 GMT\r\nX-A: 1\r\nx-a: 2\r\n")
        await stream.send(b'Content-Length: 8\r\n\r\n{"a": 1}')

    async with listening(handler) as url, house() as w:
        response = await w.client.request("POST", url + "/x", form={"b": "c d"})
    assert (response.status, response.json_object(), response.date) == (200, {"a": 1}, 1_700_000_000.0)
    assert response.headers["x-a"] == "1, 2"
    assert b"Accept-Encoding: identity\r\n" in seen[0]


async def test_no_body_means_none() -> None:
    """A request without a body has neither content nor a content type."""
    seen: list[bytes] = []

    async def handler(stream: SocketStream) -> None:
        seen.append(await read_request(stream))
        await stream.send(b"HTTP/1.1 204 No Content\r\n\r\n")

    async with listening(handler) as url, house() as w:
        await w.client.request("POST", url)
    assert b"content-type" not in seen[0].lower()
    assert b"content-length: 0" in seen[0].lower()


async def test_a_redirect_is_an_answer() -> None:
    """Nobody is sent anywhere else."""
    calls: list[str] = []

    def handler(request: httpx.Request) -> httpx.Response:
        calls.append(str(request.url))
        return httpx.Response(307, headers={"Location": "https://evil.test/"})

    async with house(httpx.MockTransport(handler)) as w:
        response = await w.client.request("POST", "https://pds.test/x", form={"a": "b"})
    assert response.status == 307
    assert calls == ["https://pds.test/x"]


async def test_cookies_are_not_kept() -> None:
    """What one answer sets, the next request does not carry."""
    seen: list[httpx.Headers] = []

    def handler(request: httpx.Request) -> httpx.Response:
        seen.append(request.headers)
        return httpx.Response(200, headers={"Set-Cookie": "a=b; Path=/"})

    async with house(httpx.MockTransport(handler)) as w:
        await w.client.request("GET", "https://pds.test/x")
        await w.client.request("GET", "https://pds.test/x")
    assert all("cookie" not in headers for headers in seen)


BROKEN: dict[str, tuple[Handler, str]] = {
    "closes at once": (answering(), "protocol"),
    "garbage": (answering(b"SSH-2.0-OpenSSH_9.2\r\n\r\n"), "protocol"),
    "closes in the head": (answering(b"HTTP/1.1 200 OK\r\nConte"), "protocol"),
    "closes in the body": (answering(OK + b'Content-Length: 99\r\n\r\n{"a"'), "protocol"),
    "bad chunk length": (answering(OK + b"Transfer-Encoding: chunked\r\n\r\nzz\r\n{}\r\n"), "protocol"),
    "chunks without an end": (answering(OK + b"Transfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n"), "protocol"),
    "head without end": (answering(OK + b"A: " + b"x" * 200_000), "protocol"),
    "too large by its length": (
        answering(OK + b"Content-Length: 999999\r\n\r\n" + b"x" * (MAX_BODY + 70_000)),
        "too_large",
    ),
    "too large by chunks": (
        answering(
            OK + b"Transfer-Encoding: chunked\r\n\r\n" + b"8000\r\n" + b"x" * 0x8000 + b"\r\n",
            *[b"8000\r\n" + b"x" * 0x8000 + b"\r\n" for _ in range(20)],
        ),
        "too_large",
    ),
    "too large unpacked": (
        answering(
            OK + b"Connection: close\r\nContent-Encoding: gzip\r\n\r\n" + gzip.compress(b"x" * (MAX_BODY + 1))
        ),
        "too_large",
    ),
}


@pytest.mark.parametrize(("handler", "code"), BROKEN.values(), ids=list(BROKEN))
async def test_half_an_answer_is_unclear(handler: Handler, code: str) -> None:
    """Whatever breaks after the request went out is never taken for "not sent"."""
    async with listening(handler) as url, house() as w:
        with pytest.raises(Unclear) as caught:
            await w.client.request("POST", url, form={"refresh_token": "SECRET-token"})
    # Which of the two it is depends on whether the kernel had our bytes still unread.
    assert caught.value.code in (code, "reset")
    assert "SECRET" not in str(caught.value)


@pytest.mark.parametrize("size", [MAX_BODY, MAX_BODY - 1])
async def test_an_answer_up_to_the_cap_is_read(size: int) -> None:
    """The cap is not one byte off."""
    async with house(httpx.MockTransport(lambda _: httpx.Response(200, content=b"x" * size))) as w:
        assert len((await w.client.request("GET", "https://pds.test/")).body) == size


async def test_one_byte_above_the_cap_is_too_large() -> None:
    """The cap is the cap."""
    body = b"x" * (MAX_BODY + 1)
    async with house(httpx.MockTransport(lambda _: httpx.Response(200, content=body))) as w:
        with pytest.raises(Unclear) as caught:
            await w.client.request("GET", "https://pds.test/")
    assert caught.value.code == "too_large"


class TinyParts(httpx.AsyncByteStream):
    """A body in parts of one byte, all of which have arrived."""

    async def __aiter__(self) -> AsyncIterator[bytes]:
        for _ in range(20_000):
            yield b"a"


async def test_an_answer_in_tiny_parts_lets_others_work() -> None:
    """The event loop turns while twenty thousand parts are read for which nobody has to wait."""
    turns = 0

    async def turn() -> None:
        nonlocal turns
        while True:
            await anyio.lowlevel.checkpoint()
            turns += 1

    transport = httpx.MockTransport(lambda _: httpx.Response(200, stream=TinyParts()))
    async with house(transport) as w, anyio.create_task_group() as tg:
        tg.start_soon(turn)
        assert len((await w.client.request("GET", "https://pds.test/")).body) == 20_000
        assert turns > 200
        tg.cancel_scope.cancel()


async def test_a_header_that_comes_ten_thousand_times_is_one() -> None:
    """Its values are joined, in time that grows with their number."""
    answer = httpx.Response(200, headers=[("a", "b")] * 10_000, content=b"{}")
    async with house(httpx.MockTransport(lambda _: answer)) as w:
        assert (await w.client.request("GET", "https://pds.test/")).headers["a"] == ", ".join(["b"] * 10_000)


async def test_a_packed_answer_is_unpacked() -> None:
    """A middle box that packs unasked does not cost a session."""
    packed = OK + b"Connection: close\r\nContent-Encoding: gzip\r\n\r\n" + gzip.compress(b'{"a":1}')
    async with listening(answering(packed)) as url, house() as w:
        assert (await w.client.request("GET", url)).json_object() == {"a": 1}


async def test_a_whole_answer_counts_although_the_connection_breaks_then() -> None:
    """What follows the last byte of the answer does not matter."""
    async with (
        listening(answering(OK + b"Content-Length: 2\r\n\r\n{}garbage after the end")) as url,
        house() as w,
    ):
        assert (await w.client.request("POST", url)).json_object() == {}


async def test_failing_to_close_does_not_take_the_answer_away() -> None:
    """A connection that can't be closed, or not in time, has delivered all the same."""

    class Stream(httpx.AsyncByteStream):
        async def __aiter__(self) -> AsyncIterator[bytes]:
            yield b"{}"

        async def aclose(self) -> None:
            await anyio.sleep(0.05)
            raise httpx.ReadError("reset")

    for deadline in (0.02, 5.0):
        transport = httpx.MockTransport(lambda _: httpx.Response(200, stream=Stream()))
        async with house(transport) as w:
            response = await w.client.request("GET", "https://pds.test/", deadline=deadline)
        assert response.json_object() == {}


async def test_a_slow_drip_meets_the_deadline() -> None:
    """A server that sends a byte now and then can't hold a worker for ever."""

    async def handler(stream: SocketStream) -> None:
        await read_request(stream)
        await stream.send(OK + b"Content-Length: 150\r\n\r\n")
        while True:
            await stream.send(b"x")
            await anyio.sleep(0.02)

    async with listening(handler) as url, house() as w:
        with pytest.raises(Unclear) as caught:
            await w.client.request("GET", url, deadline=0.3)
    assert caught.value.code == "deadline"


async def test_a_deadline_before_the_first_byte_is_not_sent() -> None:
    """A TLS handshake that hangs has carried nothing of the request."""

    async def handler(stream: SocketStream) -> None:
        await anyio.sleep_forever()

    async with listening(handler) as url, house() as w:
        with pytest.raises(NotSent) as caught:
            await w.client.request("POST", url.replace("http:", "https:"), deadline=0.2)
    assert caught.value.code == "deadline"


async def test_a_deadline_after_the_request_is_unclear() -> None:
    """A server that is silent may have acted."""

    async def handler(stream: SocketStream) -> None:
        await anyio.sleep_forever()

    async with listening(handler) as url, house() as w:
        with pytest.raises(Unclear) as caught:
            await w.client.request("POST", url, deadline=0.2)
    assert caught.value.code == "deadline"


async def test_a_deadline_on_a_transport_that_tells_nothing_is_unclear() -> None:
    """Only a transport that vouches for it makes "not sent"."""

    async def handler(request: httpx.Request) -> httpx.Response:
        await anyio.sleep_forever()
        raise AssertionError

    async with house(httpx.MockTransport(handler)) as w:
        with pytest.raises(Unclear):
            await w.client.request("POST", "https://pds.test/", deadline=0.05)


async def test_a_failed_handshake_is_not_sent() -> None:
    """A certificate or protocol that does not fit stops everything before the first byte."""

    async def handler(stream: SocketStream) -> None:
        await stream.receive()
        await stream.send(b"HTTP/1.1 400 Bad Request\r\n\r\n")

    async with listening(handler) as url, house() as w:
        with pytest.raises(NotSent) as caught:
            await w.client.request("POST", url.replace("http:", "https:"))
    assert caught.value.code == "tls"


async def test_a_refused_connection_is_not_sent() -> None:
    """Nobody listens: nothing happened."""
    async with listening(answering()) as url:
        pass
    async with house() as w:
        with pytest.raises(NotSent) as caught:
            await w.client.request("POST", url)
    assert caught.value.code == "connect"
    assert "refused" in str(caught.value)


async def test_an_unknown_name_is_not_sent() -> None:
    """A name in the reserved domain never resolves."""
    async with house() as w:
        with pytest.raises(NotSent) as caught:
            await w.client.request("GET", "https://host.invalid/")
    assert caught.value.code == "dns"


EXCEPTIONS: list[tuple[Exception, type[TransportError], str]] = [
    (httpx.ConnectError("x"), NotSent, "connect"),
    (httpx.ConnectTimeout("x"), NotSent, "connect_timeout"),
    (httpx.PoolTimeout("x"), NotSent, "pool"),
    (httpx.ProxyError("x"), NotSent, "connect"),
    (httpx.ReadTimeout("x"), Unclear, "read_timeout"),
    (httpx.WriteTimeout("x"), Unclear, "write_timeout"),
    (httpx.ReadError("x"), Unclear, "reset"),
    (httpx.WriteError("x"), Unclear, "reset"),
    (httpx.RemoteProtocolError("x"), Unclear, "protocol"),
    (httpx.LocalProtocolError("x"), Unclear, "protocol"),
    (anyio.BrokenResourceError(), Unclear, "reset"),
    (ConnectionResetError(104, "x"), Unclear, "reset"),
]


@pytest.mark.parametrize(("raised", "kind", "code"), EXCEPTIONS, ids=lambda v: repr(v)[:40])
async def test_every_exception_of_a_transport_is_one_of_two(
    raised: Exception, kind: type[TransportError], code: str
) -> None:
    """Foreign exceptions end here, each on the right side."""

    def handler(request: httpx.Request) -> httpx.Response:
        raise raised

    async with house(httpx.MockTransport(handler)) as w:
        with pytest.raises(kind) as caught:
            await w.client.request("POST", "https://pds.test/")
    assert type(caught.value) is kind
    assert caught.value.code == code


@pytest.mark.parametrize("value", ["DPoP SECRET\r\nX: y", "DPoP SECRET\x00", "DPoP SECRETé"])
async def test_a_header_that_cant_be_sent_is_not_quoted(value: str) -> None:
    """The library's own refusal would show the token."""
    async with house() as w:
        with pytest.raises(NotSent) as caught:
            await w.client.request("GET", "http://127.0.0.1:1/", headers={"Authorization": value})
    assert caught.value.code == "header"
    assert "SECRET" not in str(caught.value)


async def test_an_answer_shows_no_secret() -> None:
    """An answer may be in a traceback's or a log's repr."""
    answer = httpx.Response(200, headers={"Set-Cookie": "SECRET-1"}, content=b"SECRET-2")
    async with house(httpx.MockTransport(lambda _: answer)) as w:
        assert "SECRET" not in repr(await w.client.request("GET", "https://pds.test/"))


async def test_cancelling_the_caller_cancels_the_request() -> None:
    """A deadline of its own does not mean deaf to others."""

    async def handler(stream: SocketStream) -> None:
        await anyio.sleep_forever()

    async with listening(handler) as url, house() as w:
        with anyio.move_on_after(0.1) as scope:
            await w.client.request("GET", url)
    assert scope.cancelled_caught
