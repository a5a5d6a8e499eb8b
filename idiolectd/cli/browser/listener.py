"""A web server on 127.0.0.1 that receives one redirect (RFC 8252, section 7.3).

It listens on 127.0.0.1 only, and answers only ``GET /callback`` with the host ``127.0.0.1:PORT`` of the
redirect_uri: so another site whose name was made to resolve to 127.0.0.1 gets nothing (DNS rebinding).
``localhost`` is not used, because on IPv6 another program may listen there. Any program on this machine can
send a request: the caller's `is_ours` decides which redirect counts, and all others get an error page and
end nothing. The browser waits for its page until the caller knows how the login went.

The query is not parsed here. The code stays in the browser's history: when the page is shown it has been
used, and it is worthless without the DPoP key and the PKCE verifier of this login.
"""

import os
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from functools import partial

import anyio
import h11
from anyio.abc import Listener as StreamListener
from anyio.abc import SocketAttribute, SocketStream, TaskGroup

from idiolectd.cli.browser.pages import HEADERS, Page, not_found, stranger
from idiolectd.cli.exits import CommandFailed, ExitCode
from idiolectd.oauth import CALLBACK_PATH, LOOPBACK_HOST

# Bytes. A redirect has some hundred, a browser's headers a few thousand. h11 checks the size only while the
# head is incomplete, so it is fed small pieces.
_MAX_HEAD = 16 * 1024
_PIECE = 4096

# A browser opens a handful of connections and leaves some unused. Above this number the oldest idle
# connection is closed, so that many of them can't keep the browser out.
_MAX_IDLE = 32
_IDLE = 10.0  # seconds for a request to arrive, and for the response to be sent

# Seconds that the end of a login waits until the browser has received its page.
_LINGER = 2.0

_BROKEN = (anyio.BrokenResourceError, anyio.ClosedResourceError, anyio.EndOfStream, OSError)


class Redirect:
    """The redirect of this login. `repr` does not show the code.

    Attributes:
        query: the raw query of its URL.
    """

    def __init__(self, query: str) -> None:
        self.query = query
        self._page: Page | None = None
        self._answered = anyio.Event()
        self._browsers = 0
        self._served = anyio.Event()

    def __repr__(self) -> str:
        return f"<Redirect {'answered' if self._page else 'waits'}, {self._browsers} connections>"

    async def answer(self, page: Page) -> None:
        """Sends the page to the waiting browser. Returns when it is sent, after 2 s at the latest."""
        self._page = page
        self._answered.set()
        if self._browsers:
            with anyio.move_on_after(_LINGER):
                await self._served.wait()

    async def serve(self, send: Callable[[Page], Awaitable[None]]) -> None:
        """Waits for the page and sends it to one connection."""
        self._browsers += 1
        try:
            await self._answered.wait()
            if self._page is not None:
                await send(self._page)
        finally:
            self._browsers -= 1
            if not self._browsers:
                self._served.set()


class Listener:
    """A bound port; `open_listener` makes it.

    Attributes:
        port: the port for the redirect_uri.
    """

    def __init__(self, streams: StreamListener[SocketStream], tasks: TaskGroup) -> None:
        self.port: int = streams.extra(SocketAttribute.local_port)  # noqa: S610 - anyio's, not Django's
        self._streams = streams
        self._tasks = tasks
        self._connections = 0
        # The connections that have not sent their request yet, the oldest first.
        self._idle: list[anyio.CancelScope] = []
        self._is_ours: Callable[[str], bool] | None = None
        self._on_stranger: Callable[[], None] | None = None
        self._redirect: Redirect | None = None
        self._arrived = anyio.Event()

    def __repr__(self) -> str:
        return f"<Listener {LOOPBACK_HOST}:{self.port}, {self._connections} connections, {self._redirect}>"

    async def wait_redirect(
        self, is_ours: Callable[[str], bool], on_stranger: Callable[[], None]
    ) -> Redirect:
        """Waits for the first redirect of this login. Call it once.

        Requests are answered from this call on, until the listener is closed.

        Args:
            is_ours: returns whether a raw query belongs to this login.
            on_stranger: called for each redirect that does not.
        """
        self._is_ours, self._on_stranger = is_ours, on_stranger
        self._tasks.start_soon(self._streams.serve, self._serve, self._tasks)
        await self._arrived.wait()
        assert self._redirect is not None  # noqa: S101 - set before the event
        return self._redirect

    async def _serve(self, stream: SocketStream) -> None:
        self._connections += 1
        try:
            async with stream:
                with suppress(*_BROKEN):
                    await self._talk(stream)
        finally:
            self._connections -= 1

    async def _talk(self, stream: SocketStream) -> None:
        """Receives one request and sends one response."""
        http = h11.Connection(h11.SERVER, max_incomplete_event_size=_MAX_HEAD)
        request: h11.Request | None = None
        try:
            with anyio.move_on_after(_IDLE) as idle, self._counted(idle):
                request = await _receive(http, stream)
        except h11.RemoteProtocolError as error:
            await _send(http, stream, Page(error.error_status_hint, not_found().html))
        if request is not None:
            match self._judge(request):
                case Redirect() as redirect:
                    await redirect.serve(partial(_send, http, stream))
                case Page() as page:
                    await _send(http, stream, page)

    @contextmanager
    def _counted(self, idle: anyio.CancelScope) -> Iterator[None]:
        """Counts an idle connection; closes the one that has been idle for longest if there are too many."""
        self._idle.append(idle)
        if len(self._idle) > _MAX_IDLE:
            self._idle.pop(0).cancel()
        try:
            yield
        finally:
            if idle in self._idle:
                self._idle.remove(idle)

    def _judge(self, request: h11.Request) -> Redirect | Page:
        path, _, query = request.target.decode("ascii").partition("?")
        if (
            path != CALLBACK_PATH
            or dict(request.headers).get(b"host") != f"{LOOPBACK_HOST}:{self.port}".encode()
        ):
            return not_found()
        if request.method != b"GET":
            return Page(405, "")
        if self._redirect is None and self._is_ours is not None and self._is_ours(query):
            self._redirect = Redirect(query)
            self._arrived.set()
        # The same query again: the person has reloaded the page while it waits.
        if self._redirect is not None and self._redirect.query == query:
            return self._redirect
        if self._on_stranger is not None:
            self._on_stranger()
        return stranger()


@asynccontextmanager
async def open_listener(port: int = 0) -> AsyncIterator[Listener]:
    """Binds a port of 127.0.0.1; at the end, closes it and the open connections.

    Args:
        port: the port; 0: any free port.

    Raises:
        CommandFailed: the port can't be bound.
    """
    try:
        streams = await anyio.create_tcp_listener(local_host=LOOPBACK_HOST, local_port=port)
    except OSError as error:
        reason = os.strerror(error.errno) if error.errno else "it can't be used"
        raise CommandFailed(
            ExitCode.FAILED,
            f"can't wait for the browser on port {port} of {LOOPBACK_HOST}: {reason}; name another with --port,"
            " or leave --port out",
        ) from None
    failed: Exception | None = None
    async with streams, anyio.create_task_group() as tasks:
        try:
            yield Listener(streams, tasks)
        except Exception as error:  # noqa: BLE001 - raised below, not in an exception group
            failed = error
        tasks.cancel_scope.cancel()
    if failed is not None:
        raise failed


async def _receive(http: h11.Connection, stream: SocketStream) -> h11.Request | None:
    """Receives the head of a request; None: the connection ended without one."""
    while True:
        event = http.next_event()
        match event:
            case h11.NEED_DATA:
                try:
                    http.receive_data(await stream.receive(_PIECE))
                except anyio.EndOfStream:
                    return None
            case h11.Request():
                return event
            case _:
                return None


async def _send(http: h11.Connection, stream: SocketStream, page: Page) -> None:
    body = page.html.encode()
    headers = [*HEADERS, ("Allow", "GET"), ("Content-Length", str(len(body))), ("Connection", "close")]
    head = http.send(h11.Response(status_code=page.status, headers=headers)) or b""
    with anyio.move_on_after(_IDLE):
        await stream.send(head + body)
