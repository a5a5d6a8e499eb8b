"""Connections: one small pool per origin."""

import anyio
import httpx
import pytest
from anyio.abc import SocketStream

from idiolectd.errors import NotSent, Unclear
from idiolectd.http import HttpClient, OriginPools
from tests.clock import VirtualClock
from tests.http.support import LOOPBACK, keep_alive, listening, read_request

pytestmark = pytest.mark.anyio


def client(transport: OriginPools) -> HttpClient:
    return HttpClient(policy=LOOPBACK, clock=VirtualClock(), events=lambda _: None, transport=transport)


async def test_a_connection_is_used_again_soon_and_not_later() -> None:
    """The repetition for a nonce finds the connection; a token an hour later must not."""
    connections: list[SocketStream] = []
    async with listening(keep_alive(connections)) as url, client(OriginPools(LOOPBACK)) as http:
        await http.request("GET", url)
        await anyio.sleep(0.05)
        await http.request("GET", url)
        assert len(connections) == 1
        await anyio.sleep(1.2)
        await http.request("GET", url)
    assert len(connections) == 2


async def test_a_server_that_closes_behind_its_answer_takes_no_request_along() -> None:
    """Its end arrives a moment after the answer: until then the connection is not trusted with a token."""
    asked = 0

    async def answer_and_close(stream: SocketStream) -> None:
        nonlocal asked
        async with stream:
            await stream.receive()
            asked += 1
            await stream.send(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}")
            await anyio.sleep(0.005)

    async with listening(answer_and_close) as url, client(OriginPools(LOOPBACK)) as http:
        for _ in range(5):
            await http.request("POST", url, form={"grant_type": "refresh_token"})
    assert asked == 5


async def test_connections_that_rest_are_closed() -> None:
    """A server that was talked to once costs nothing a second later."""
    transport = OriginPools(LOOPBACK)
    async with (
        listening(keep_alive([])) as first,
        listening(keep_alive([])) as second,
        client(transport) as http,
    ):
        await http.request("GET", first)
        await anyio.sleep(1.2)
        await http.request("GET", second)
        assert repr(transport) == "<OriginPools origins=1 busy=0>"


async def test_the_longest_unused_connection_goes_first_and_never_one_in_use() -> None:
    """A limit on origins does not tear a request's connection away."""
    transport = OriginPools(LOOPBACK, max_pools=1)
    release = anyio.Event()

    async def slow(stream: SocketStream) -> None:
        await read_request(stream)
        await release.wait()
        await stream.send(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}")

    statuses: list[int] = []
    async with (
        listening(slow) as busy,
        listening(keep_alive([])) as second,
        listening(keep_alive([])) as third,
        client(transport) as http,
        anyio.create_task_group() as tasks,
    ):

        async def ask() -> None:
            statuses.append((await http.request("GET", busy)).status)

        tasks.start_soon(ask)
        await anyio.wait_all_tasks_blocked()
        await http.request("GET", second)
        assert repr(transport) == "<OriginPools origins=2 busy=1>"
        await http.request("GET", third)
        assert repr(transport) == "<OriginPools origins=2 busy=1>"
        release.set()
    assert statuses == [200]


@pytest.mark.usefixtures("without_rest")
async def test_requests_beyond_the_connections_of_an_origin_wait() -> None:
    """A crowd on one server is served in turn, and nothing is busy after it."""
    transport = OriginPools(LOOPBACK)
    connections: list[SocketStream] = []
    async with listening(keep_alive(connections)) as url, client(transport) as http:
        async with anyio.create_task_group() as tasks:
            for _ in range(50):
                tasks.start_soon(http.request, "GET", url)
        assert 1 <= len(connections) <= 16
        assert repr(transport) == "<OriginPools origins=1 busy=0>"


async def test_a_failed_request_leaves_its_pool() -> None:
    """On every path, else there would be no place in it for others."""
    transport = OriginPools(LOOPBACK)
    async with client(transport) as http:
        with pytest.raises(Exception, match="can't connect"):
            await http.request("GET", "http://127.0.0.1:1/")
        with anyio.move_on_after(0):
            await http.request("GET", "http://127.0.0.1:1/")
    transport = OriginPools(LOOPBACK)
    request = httpx.Request("GET", "http://127.0.0.1:1/")
    with pytest.raises(httpx.ConnectError):
        await transport.handle_async_request(request)
    assert repr(transport) == "<OriginPools origins=0 busy=0>"
    await transport.aclose()


async def test_who_finds_no_connection_free_gives_up_in_time() -> None:
    """Nothing was sent; and a place is free again for each of those who waited, cancelled or not."""
    release = anyio.Event()

    async def slow(stream: SocketStream) -> None:
        await read_request(stream)
        await release.wait()
        await stream.send(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}")

    transport = OriginPools(LOOPBACK)
    async with listening(slow) as url, client(transport) as http:
        async with anyio.create_task_group() as tasks:
            for _ in range(16):
                tasks.start_soon(http.request, "GET", url)
            await anyio.wait_all_tasks_blocked()
            in_a_hurry = httpx.Request("GET", url, extensions={"timeout": {"pool": 0.05}})
            with pytest.raises(httpx.PoolTimeout):
                await transport.handle_async_request(in_a_hurry)
            with pytest.raises(NotSent):
                await http.request("POST", url, deadline=0.05)
            assert repr(transport) == "<OriginPools origins=1 busy=16>"
            release.set()
        async with anyio.create_task_group() as tasks:
            for _ in range(16):
                tasks.start_soon(http.request, "GET", url)
    assert repr(transport) == "<OriginPools origins=0 busy=0>"


async def test_closing_tells_who_waits_for_an_answer() -> None:
    """Whatever is in flight ends, and is unclear."""

    async def mute(stream: SocketStream) -> None:
        await anyio.sleep_forever()

    transport = OriginPools(LOOPBACK)
    codes: list[str] = []
    async with listening(mute) as url, client(transport) as http, anyio.create_task_group() as tasks:

        async def ask() -> None:
            with pytest.raises(Unclear) as caught:
                await http.request("POST", url)
            codes.append(caught.value.code)

        tasks.start_soon(ask)
        await anyio.wait_all_tasks_blocked()
        await transport.aclose()
    assert codes == ["reset"]
