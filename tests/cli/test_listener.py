"""The web server that one redirect comes back to."""

from collections.abc import Callable

import anyio
import pytest
from anyio.abc import SocketStream

from idiolectd.cli.browser.listener import Listener, Redirect, open_listener
from idiolectd.cli.browser.pages import failure, success
from idiolectd.cli.exits import CommandFailed
from idiolectd.errors import LoginError

pytestmark = pytest.mark.anyio

OURS = "state=right&code=secret-code"


def is_ours(query: str) -> bool:
    return query.startswith("state=right")


async def ask(port: int, target: str, *, method: str = "GET", host: str | None = None) -> bytes:
    """One request's whole answer."""
    async with await anyio.connect_tcp("127.0.0.1", port) as stream:
        await stream.send(
            f"{method} {target} HTTP/1.1\r\nHost: {host or f'127.0.0.1:{port}'}\r\n\r\n".encode()
        )
        return await rest(stream)


async def rest(stream: SocketStream) -> bytes:
    answer = b""
    try:
        while True:
            answer += await stream.receive()
    except (anyio.EndOfStream, anyio.BrokenResourceError):
        return answer


def status(answer: bytes) -> int:
    return int(answer.split(b" ", 2)[1])


class Browser:
    """One request beside the test, and its answer."""

    def __init__(self, tasks: anyio.abc.TaskGroup, port: int, target: str) -> None:
        self.answer: bytes | None = None
        self._got = anyio.Event()
        tasks.start_soon(self._ask, port, target)

    async def _ask(self, port: int, target: str) -> None:
        self.answer = await ask(port, target)
        self._got.set()

    async def answered(self) -> bytes:
        await self._got.wait()
        assert self.answer is not None
        return self.answer


class Waiting:
    """A listener that waits for OURS, with what it was told of others."""

    def __init__(self, listener: Listener, tasks: anyio.abc.TaskGroup) -> None:
        self.port = listener.port
        self.strangers = 0
        self.redirect: Redirect | None = None
        self._listener = listener
        self._arrived = anyio.Event()
        tasks.start_soon(self._wait)

    async def _wait(self) -> None:
        self.redirect = await self._listener.wait_redirect(is_ours, self._count)
        self._arrived.set()

    def _count(self) -> None:
        self.strangers += 1

    async def arrived(self) -> Redirect:
        await self._arrived.wait()
        assert self.redirect is not None
        return self.redirect


async def in_time(work: Callable[[Waiting, anyio.abc.TaskGroup], object]) -> Waiting:
    """Runs `work` beside a waiting listener."""
    with anyio.fail_after(15):
        async with open_listener() as listener, anyio.create_task_group() as tasks:
            waiting = Waiting(listener, tasks)
            result = work(waiting, tasks)
            await result  # type: ignore[misc]
            tasks.cancel_scope.cancel()
    return waiting


async def test_the_browser_gets_its_page_at_the_end() -> None:
    """The redirect that counts ends the wait, and its browser is answered when the login is through."""

    async def work(waiting: Waiting, tasks: anyio.abc.TaskGroup) -> None:
        browser = Browser(tasks, waiting.port, f"/callback?{OURS}")
        redirect = await waiting.arrived()
        assert redirect.query == OURS
        assert browser.answer is None
        await redirect.answer(success("alice.test", "2026-12-05"))
        head, _, body = (await browser.answered()).partition(b"\r\n\r\n")
        assert status(head) == 200
        assert b"alice.test" in body
        for line in (
            b"content-security-policy: default-src 'none'; style-src 'unsafe-inline'",
            b"referrer-policy: no-referrer",
            b"cache-control: no-store",
            b"x-content-type-options: nosniff",
            b"connection: close",
            b"content-type: text/html; charset=utf-8",
        ):
            assert line in head.lower()
        assert "secret-code" not in repr(redirect)

    await in_time(work)


async def test_strangers_end_nothing() -> None:
    """A redirect of another login is told so, is counted, and the wait goes on."""

    async def work(waiting: Waiting, tasks: anyio.abc.TaskGroup) -> None:
        for target in ("/callback?state=wrong&code=x", "/callback", "/callback?"):
            answer = await ask(waiting.port, target)
            assert status(answer) == 400
            assert b"Not the login that is waiting here" in answer
        assert (waiting.strangers, waiting.redirect) == (3, None)
        tasks.start_soon(ask, waiting.port, f"/callback?{OURS}")
        await (await waiting.arrived()).answer(success("alice.test", None))

    await in_time(work)


async def test_nothing_else_is_served() -> None:
    """Other paths, methods, hosts and what is no HTTP are refused; none of them counts."""

    async def work(waiting: Waiting, tasks: anyio.abc.TaskGroup) -> None:
        port, target = waiting.port, f"/callback?{OURS}"
        assert status(await ask(port, "/favicon.ico")) == 404
        assert status(await ask(port, f"/callback/?{OURS}")) == 404
        assert status(await ask(port, f"/?{OURS}")) == 404
        for host in (f"localhost:{port}", f"evil.example:{port}", "127.0.0.1", f"127.0.0.1:{port + 1}"):
            assert status(await ask(port, target, host=host)) == 404
        answer = await ask(port, target, method="POST")
        assert (status(answer), b"\r\nallow: get\r\n" in answer.lower()) == (405, True)
        assert status(await ask(port, target, method="HEAD")) == 405
        async with await anyio.connect_tcp("127.0.0.1", port) as stream:
            await stream.send(b"\x16\x03\x01 no HTTP\r\n\r\n")
            assert status(await rest(stream)) == 400
        assert status(await ask(port, f"{target}&filler={'x' * 40_000}")) == 431
        assert (waiting.strangers, waiting.redirect) == (0, None)

    await in_time(work)


async def test_the_first_one_counts() -> None:
    """Of several with the right state the first counts; the same once more gets the same page."""

    async def work(waiting: Waiting, tasks: anyio.abc.TaskGroup) -> None:
        Browser(tasks, waiting.port, f"/callback?{OURS}")
        redirect = await waiting.arrived()
        assert status(await ask(waiting.port, "/callback?state=right&code=other")) == 400
        assert (redirect.query, waiting.strangers) == (OURS, 1)
        again = Browser(tasks, waiting.port, f"/callback?{OURS}")
        while "2 connections" not in repr(redirect):
            await anyio.sleep(0.01)
        await redirect.answer(failure("the server refused the code", "Log in again."))
        assert b"the server refused the code" in await again.answered()

    await in_time(work)


async def test_an_absent_browser_holds_nothing_up() -> None:
    """A browser that went away, or never sends its request, delays no answer and no end."""

    async def work(waiting: Waiting, tasks: anyio.abc.TaskGroup) -> None:
        async with await anyio.connect_tcp("127.0.0.1", waiting.port):
            async with await anyio.connect_tcp("127.0.0.1", waiting.port) as gone:
                await gone.send(
                    f"GET /callback?{OURS} HTTP/1.1\r\nHost: 127.0.0.1:{waiting.port}\r\n\r\n".encode()
                )
                redirect = await waiting.arrived()
            await redirect.answer(success("alice.test", None))

    with anyio.fail_after(5):
        await in_time(work)


async def test_idle_connections_keep_no_browser_out() -> None:
    """However many connections say nothing: a new one is served, and those that idle longest have to go."""

    async def work(waiting: Waiting, tasks: anyio.abc.TaskGroup) -> None:
        idle = [await anyio.connect_tcp("127.0.0.1", waiting.port) for _ in range(40)]
        browser = Browser(tasks, waiting.port, f"/callback?{OURS}")
        redirect = await waiting.arrived()
        assert [await rest(stream) for stream in idle[:8]] == [b""] * 8
        more = [await anyio.connect_tcp("127.0.0.1", waiting.port) for _ in range(40)]
        assert status(await ask(waiting.port, "/nothing")) == 404
        await redirect.answer(success("alice.test", None))
        assert status(await browser.answered()) == 200
        for stream in (*idle, *more):
            await stream.aclose()

    await in_time(work)


@pytest.mark.slow
async def test_nobody_keeps_a_connection() -> None:
    """Who says nothing, or too slowly, is cut off after some seconds."""

    async def work(waiting: Waiting, tasks: anyio.abc.TaskGroup) -> None:
        async with (
            await anyio.connect_tcp("127.0.0.1", waiting.port) as silent,
            await anyio.connect_tcp("127.0.0.1", waiting.port) as slow,
        ):
            await slow.send(b"GET / HTTP/1.1\r\n")
            assert (await rest(silent), await rest(slow)) == (b"", b"")

    await in_time(work)


async def test_a_taken_port() -> None:
    """A port that somebody else has is an error that names it and the option."""
    async with open_listener() as listener:
        with pytest.raises(CommandFailed, match=rf"port {listener.port} .*--port") as raised:
            async with open_listener(listener.port):
                raise AssertionError("two listen on one port")
        assert raised.value.code == 1


async def test_a_port_is_free_afterwards() -> None:
    """A chosen port can be used again at once, also if a connection was cut off by the end."""
    async with open_listener() as listener:
        port = listener.port
    for _ in range(3):
        async with open_listener(port) as listener, anyio.create_task_group() as tasks:
            waiting = Waiting(listener, tasks)
            async with await anyio.connect_tcp("127.0.0.1", port):
                assert status(await ask(port, "/")) == 404
            tasks.cancel_scope.cancel()
        assert waiting.redirect is None


async def test_only_loopback_is_bound() -> None:
    """Nobody on the network can connect: another address of this very host is refused."""
    async with open_listener() as listener:
        with pytest.raises(OSError, match="connect"):
            await anyio.connect_tcp("127.0.0.2", listener.port)


async def test_errors_leave_as_they_are() -> None:
    """What goes wrong while the listener is open is not wrapped into a group."""
    with pytest.raises(LoginError, match="declined"):
        async with open_listener():
            raise LoginError("access_denied", "declined")
