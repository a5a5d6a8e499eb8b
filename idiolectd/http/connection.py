"""One HTTP/1.1 connection (RFC 9112): a request goes out, its answer comes back, and then perhaps the next.

A plain answer is read by `plain`, any other by h11. Whatever goes wrong is raised as the exception that httpx
has for it.

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
from dataclasses import dataclass, field

import anyio
import anyio.lowlevel
import h11
import httpx
from anyio.abc import ByteStream, SocketAttribute

from idiolectd.http.plain import Headers, NotPlain, PlainAnswer, read_answer, request_bytes
from idiolectd.http.request_progress import RequestProgress
from idiolectd.http.tcp_stream import TcpStream
from idiolectd.http.time_limits import TimeLimits

# What a stream that broke raises; of these anyio lets ssl.SSLError through in mid-stream.
_BROKEN = (anyio.BrokenResourceError, anyio.ClosedResourceError, ssl.SSLError)

_READ_BYTES = 65_536
_LONGEST_HEAD = 100 * 1024

# A body that comes in more parts is h11's: `plain` begins anew with each.
_PLAIN_PARTS = 4

# Whether their answers have a body does not follow from the answers alone.
_FRAMED_OTHERWISE = (b"HEAD", b"CONNECT")

# Thousands of interim answers (1xx) may arrive at once. Nobody else waits for all of them.
_INTERIM_IN_A_ROW = 64


@dataclass(frozen=True)
class AnswerHead:
    """Status line and header fields of an answer; names in whatever case."""

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
        self._plain: PlainAnswer | None = None
        self._parser: h11.Connection | None = None  # reads an answer that is not plain
        self._body = b""
        self._progress = RequestProgress()
        self._is_broken = False

    async def ask(
        self,
        method: bytes,
        target: bytes,
        headers: Headers,
        body: bytes,
        *,
        limits: TimeLimits,
        progress: RequestProgress,
    ) -> AnswerHead:
        """Sends a request and reads the head of its answer.

        Args:
            method: HTTP method.
            target: as RFC 9112, section 3.2, has it for the method.
            headers: all of them, `Host` and `Content-Length` among them.
            body: the content.
            limits: bound its waits.
            progress: learns what happens.
        """
        request, arrived = request_bytes(method, target, headers, body), b""
        self._progress = progress
        progress.begins(self.stream)
        await self._write(request, limits)
        if method not in _FRAMED_OTHERWISE:
            arrived = await self._read_plain(limits)
            if self._plain is not None:
                progress.answered = True
                self._body = self._plain.body
                return AnswerHead(self._plain.status, self._plain.headers)
        parser = self._parser = _parser_for(method, arrived)
        interim = 0
        while not isinstance(event := await self._next_event(parser, limits), h11.Response):
            interim += 1
            if not interim % _INTERIM_IN_A_ROW:
                await anyio.lowlevel.checkpoint()
        return AnswerHead(event.status_code, event.headers.raw_items())

    async def read_part(self, limits: TimeLimits) -> bytes:
        """The next part of the answer's body; empty: it has ended."""
        if self._parser is None:
            body, self._body = self._body, b""
            return body
        event = await self._next_event(self._parser, limits)
        if isinstance(event, h11.Data):
            return bytes(event.data)
        self._progress.answered = True
        self._progress.overrun = bool(self._parser.trailing_data[0])
        return b""

    def rest(self) -> bool:
        """Gets ready for another request; False: there can be none, and the connection is to be closed."""
        is_done = self._plain is not None
        if self._parser is not None:
            is_done = self._parser.our_state is h11.DONE and self._parser.their_state is h11.DONE
        if not is_done or self._is_broken or self._progress.overrun:
            return False
        # Let go of the answer, which may hold tokens.
        self._plain, self._parser, self._body, self._progress = None, None, b"", RequestProgress()
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

    async def _write(self, data: bytes, limits: TimeLimits) -> None:
        try:
            rest = self.stream.send_at_once(data) if isinstance(self.stream, TcpStream) else data
            if rest:
                with limits.waiting("write"):
                    await self.stream.send(bytes(rest))
        except _BROKEN:
            self._is_broken = True  # see the module, 2

    async def _read_plain(self, limits: TimeLimits) -> bytes:
        """Reads an answer if it is plain; returns what has been read."""
        arrived = b""
        for _ in range(_PLAIN_PARTS):
            part = await self._read(limits)
            arrived += part
            try:
                self._plain = read_answer(arrived) if part else None
            except NotPlain:
                break
            if self._plain is not None or not part:
                break
        return arrived

    async def _next_event(self, parser: h11.Connection, limits: TimeLimits) -> object:
        while True:
            try:
                event = parser.next_event()
            except h11.RemoteProtocolError as error:
                raise httpx.RemoteProtocolError(str(error)) from error
            if event is not h11.NEED_DATA:
                return event
            data = await self._read(limits)
            if not data and parser.their_state is h11.SEND_RESPONSE:
                raise httpx.RemoteProtocolError("the server closed the connection without an answer")
            parser.receive_data(data)

    async def _read(self, limits: TimeLimits) -> bytes:
        try:
            with limits.waiting("read"):
                data = await self.stream.receive(_READ_BYTES)
        except anyio.EndOfStream:
            return b""
        except _BROKEN as error:
            raise httpx.ReadError("") from error
        self._progress.take(data)
        return data


def _parser_for(method: bytes, arrived: bytes) -> h11.Connection:
    """A parser of the answer to a request of that method, of which so much has arrived."""
    parser = h11.Connection(h11.CLIENT, max_incomplete_event_size=_LONGEST_HEAD)
    parser.send(h11.Request(method=method, target="/", headers=[("Host", "answered")]))
    parser.send(h11.EndOfMessage())
    if arrived:  # else it would be told that nothing more comes
        parser.receive_data(arrived)
    return parser
