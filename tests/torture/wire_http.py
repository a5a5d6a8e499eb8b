"""Whole HTTP/1.1 messages from a stream and their raw bytes: what `wire` passes on.

Does not: change a byte, follow upgrades, or read messages of unbounded length in time.
"""

from dataclasses import dataclass, field
from urllib.parse import parse_qs, urlsplit

import anyio
import anyio.abc
import h11

# Nobody pauses that long in a message of these tests.
_IDLE_SECONDS = 60.0


@dataclass(frozen=True)
class Asked:
    """A request on its way; `raw` is all of it, as it came."""

    method: str
    path: str
    headers: dict[str, str] = field(repr=False)
    body: bytes = field(repr=False)
    raw: bytes = field(repr=False)
    head: h11.Request = field(repr=False)

    @property
    def refresh_token(self) -> str | None:
        """The refresh token it would use up, if it is a refresh of either kind."""
        if self.method != "POST":
            return None
        if self.path.endswith("/oauth/token"):
            return parse_qs(self.body.decode(errors="replace")).get("refresh_token", [None])[0]
        if self.path.endswith("com.atproto.server.refreshSession"):
            return self.headers.get("authorization", "").partition(" ")[2] or None
        return None


@dataclass(frozen=True)
class Served:
    """A request, and what the server answered.

    Attributes:
        asked: the request.
        status: of the answer; 0: the server was never asked.
        answer: the whole raw answer.
        body: of the answer.
    """

    asked: Asked
    status: int = 0
    answer: bytes = field(default=b"", repr=False)
    body: bytes = field(default=b"", repr=False)

    @property
    def fields(self) -> bytes:
        """The header lines of the answer, without those that speak of its length."""
        lines = self.answer.partition(b"\r\n\r\n")[0].split(b"\r\n")[1:]
        framing = (b"content-length", b"transfer-encoding")
        kept = [line for line in lines if line.partition(b":")[0].lower() not in framing]
        return b"".join(line + b"\r\n" for line in kept)


async def read_request(stream: anyio.abc.SocketStream, rest: bytes) -> tuple[Asked, bytes] | None:
    """The next whole request and what came after it; None if the client is done."""
    parser, raw = h11.Connection(h11.SERVER), bytearray()
    head: h11.Request | None = None
    body = bytearray()
    while True:
        event = parser.next_event()
        if event is h11.NEED_DATA:
            data = rest or await _receive(stream)
            rest = b""
            raw += data
            parser.receive_data(data)
        elif isinstance(event, h11.Request):
            head = event
        elif isinstance(event, h11.Data):
            body += event.data
        elif isinstance(event, h11.EndOfMessage) and head is not None:
            break
        else:
            return None
    after = parser.trailing_data[0]
    headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in head.headers}
    path = urlsplit(head.target.decode("latin-1")).path
    whole = bytes(raw[: len(raw) - len(after)])
    return Asked(head.method.decode(), path, headers, bytes(body), whole, head), after


async def ask(port: int, asked: Asked) -> tuple[Served, bool]:
    """The server's whole answer, and whether it would keep the connection.

    On a connection of its own: one that sat idle may be closed just now, and that would be a mishap
    that nobody planned.
    """
    parser, raw = h11.Connection(h11.CLIENT), bytearray()
    # Only so that the parser knows what is being answered; what is sent is what arrived.
    for part in (asked.head, h11.Data(asked.body), h11.EndOfMessage()):
        parser.send(part)
    status, body = 0, bytearray()
    async with await anyio.connect_tcp("127.0.0.1", port) as server:
        await server.send(asked.raw)
        while True:
            event = parser.next_event()
            if event is h11.NEED_DATA:
                data = await _receive(server)
                raw += data
                parser.receive_data(data)
            elif isinstance(event, h11.Response):
                status = event.status_code
            elif isinstance(event, h11.Data):
                body += event.data
            elif isinstance(event, h11.EndOfMessage):
                return Served(asked, status, bytes(raw), bytes(body)), parser.their_state is h11.DONE
            elif isinstance(event, h11.ConnectionClosed):
                raise anyio.EndOfStream


async def _receive(stream: anyio.abc.SocketStream) -> bytes:
    with anyio.fail_after(_IDLE_SECONDS):
        try:
            return await stream.receive(65536)
        except anyio.EndOfStream:
            return b""
