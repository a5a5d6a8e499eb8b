"""One HTTP/1.1 connection (RFC 9112): a request goes out, its answer comes back, and then perhaps the next.

The framing is h11's, the stream anyio's. Whatever goes wrong is raised as the exception that httpx has for it.

1. A request goes out in one write, head and body together: a server reads it with one look, and between two
   writes there is nothing that could happen. So a request has a body that fits into memory.
2. A server may answer before it has read everything, and stop reading. So what it says is read even if
   writing failed.
3. A connection is used again only if both sides are done and keep it open, and nothing came beyond the answer:
   the next answer would begin with that.
4. What arrives is kept in the request's `RequestProgress`, too; and a connection that is closed in the middle
   of an answer is looked at a last time.

Does not connect, retry, follow, unpack, or upgrade to another protocol.
"""

import select
import ssl
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import anyio
import anyio.lowlevel
import h11
import httpx
from anyio.abc import ByteStream, SocketAttribute

from idiolectd.http.request_progress import RequestProgress

# As in httpx: "connect", "write", "read" (each of them one wait) and "pool"; in seconds.
Timeouts = Mapping[str, float | None]
Headers = Sequence[tuple[bytes, bytes]]

# What a stream that broke raises; of these anyio lets ssl.SSLError through in mid-stream.
_BROKEN = (anyio.BrokenResourceError, anyio.ClosedResourceError, ssl.SSLError)

_READ_BYTES = 65_536
_LONGEST_HEAD = 100 * 1024

# Thousands of interim answers (1xx) may arrive at once. Nobody else waits for all of them.
_INTERIM_IN_A_ROW = 64


@dataclass(frozen=True)
class AnswerHead:
    """Status line and header fields of an answer."""

    status: int
    headers: Headers = field(repr=False)


class Connection:
    """A stream to a server (or proxy), and what is under way on it.

    Args:
        stream: connected; closed with this.
        context: verified the server, if it is TLS; else the one that would have.

    Attributes:
        rested_at: when the last answer was read; of the event loop's clock.
    """

    def __init__(self, stream: ByteStream, context: ssl.SSLContext) -> None:
        self.stream = stream
        self.context = context
        self.rested_at = 0.0
        self._socket = stream.extra(SocketAttribute.raw_socket)  # noqa: S610 -- this is no Django
        self._parser = h11.Connection(h11.CLIENT, max_incomplete_event_size=_LONGEST_HEAD)
        self._progress = RequestProgress()
        self._is_broken = False

    async def ask(
        self,
        method: bytes,
        target: bytes,
        headers: Headers,
        body: bytes,
        *,
        timeouts: Timeouts,
        progress: RequestProgress,
    ) -> AnswerHead:
        """Sends a request and reads the head of its answer.

        Args:
            method: HTTP method.
            target: as RFC 9112, section 3.2, has it for the method.
            headers: all of them, `Host` and `Content-Length` among them.
            body: the content.
            timeouts: "write" and "read" count.
            progress: learns what happens.
        """
        try:
            request = self._parser.send(h11.Request(method=method, target=target, headers=list(headers)))
            if body:
                request += self._parser.send(h11.Data(data=body))
            request += self._parser.send(h11.EndOfMessage())
        except h11.LocalProtocolError as error:
            raise httpx.LocalProtocolError("not a request that can be sent") from error
        self._progress = progress
        progress.begins(self.stream)
        await self._write(request, timeouts.get("write"))
        interim = 0
        while not isinstance(event := await self._next_event(timeouts.get("read")), h11.Response):
            interim += 1
            if not interim % _INTERIM_IN_A_ROW:
                await anyio.lowlevel.checkpoint()
        return AnswerHead(event.status_code, event.headers.raw_items())

    async def read_part(self, timeouts: Timeouts) -> bytes:
        """The next part of the answer's body, of which "read" counts; empty: it has ended."""
        event = await self._next_event(timeouts.get("read"))
        if isinstance(event, h11.Data):
            return bytes(event.data)
        self._progress.answered = True
        self._progress.overrun = bool(self._parser.trailing_data[0])
        return b""

    def rest(self) -> bool:
        """Gets ready for another request; False: there can be none, and the connection is to be closed."""
        is_done = self._parser.our_state is h11.DONE and self._parser.their_state is h11.DONE
        if not is_done or self._is_broken or self._progress.overrun:
            return False
        self._parser.start_next_cycle()
        self._progress = RequestProgress()  # with the answer's bytes, which may hold tokens
        self.rested_at = anyio.current_time()
        return True

    @property
    def is_disturbed(self) -> bool:
        """Whether there is something to read, although nothing was asked: most likely the end."""
        descriptor = self._socket.fileno()
        if descriptor < 0:
            return True
        poll = select.poll()
        poll.register(descriptor, select.POLLIN)
        return bool(poll.poll(0))

    async def aclose(self) -> None:
        """Closes the stream, after a last look if an answer is not whole; can't be cancelled."""
        try:
            if not self._progress.answered:
                await self._progress.last_look()
        finally:
            await self.cut()

    async def cut(self) -> None:
        """Closes the stream at once; whoever waits for an answer is told that it broke."""
        self._is_broken = True
        with anyio.CancelScope(shield=True):
            await self.stream.aclose()

    async def _write(self, data: bytes, timeout: float | None) -> None:  # noqa: ASYNC109 -- as httpx counts
        try:
            with anyio.fail_after(timeout):
                await self.stream.send(data)
        except TimeoutError as error:
            raise httpx.WriteTimeout("") from error
        except _BROKEN:
            self._is_broken = True  # see the module, 2

    async def _next_event(self, timeout: float | None) -> object:  # noqa: ASYNC109 -- as httpx counts
        while True:
            try:
                event = self._parser.next_event()
            except h11.RemoteProtocolError as error:
                raise httpx.RemoteProtocolError(str(error)) from error
            if event is not h11.NEED_DATA:
                return event
            data = await self._read(timeout)
            if not data and self._parser.their_state is h11.SEND_RESPONSE:
                raise httpx.RemoteProtocolError("the server closed the connection without an answer")
            self._parser.receive_data(data)

    async def _read(self, timeout: float | None) -> bytes:  # noqa: ASYNC109 -- as httpx counts
        try:
            with anyio.fail_after(timeout):
                data = await self.stream.receive(_READ_BYTES)
        except anyio.EndOfStream:
            return b""
        except TimeoutError as error:
            raise httpx.ReadTimeout("") from error
        except _BROKEN as error:
            raise httpx.ReadError("") from error
        self._progress.take(data)
        return data
