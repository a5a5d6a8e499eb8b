"""One request on the wire: whether anything of it was sent, and the bytes that came back.

httpcore closes a connection before it tells what was wrong with it, and what its parser held is gone
then. For whoever must not lose an answer the bytes are kept here as well, below the parser, and
before a connection is closed in the middle of an answer there is one last look at what has arrived:
a process that was frozen for longer than its deadline wakes with the answer in its socket.

Knows bytes only; `idiolectd.http.arrived` makes an answer of them.
"""

import ssl
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from typing import Any

import anyio
import httpcore

# Seconds without anything new, and in all. What has arrived is read in no time, unless the machine is
# as busy as one is that has just woken; a server that goes on sending must not hold us for ever.
_QUIET, _LAST_LOOK = 1.0, 5.0

_READ_BYTES = 65536

# What reading a broken connection raises; OSError includes ssl.SSLError.
_BROKEN: tuple[type[Exception], ...] = (
    httpcore.NetworkError,
    httpcore.TimeoutException,
    OSError,
    anyio.BrokenResourceError,
    anyio.ClosedResourceError,
)

_current: ContextVar["RequestProgress | None"] = ContextVar("idiolectd.http.request_progress", default=None)


class RequestProgress:
    """How far one request has come.

    Args:
        keep: how many bytes of the answer are kept at most.
        looks: whether there is a last look. Not for a request that can simply be sent again.

    Attributes:
        possible: False as soon as the transport vouches that nothing was sent yet, True again when
            the first byte may go out. A transport that says nothing is taken to have sent.
        arrived: the raw bytes of the answer.
        answered: the answer is whole: nothing more is wanted of the connection.
        overrun: more came than the answer's frame holds. The next answer on the same connection
            would be read from what is left over.
    """

    def __init__(self, *, keep: int = 0, looks: bool = False) -> None:
        self.possible = True
        self.arrived = bytearray()
        self.answered = False
        self.overrun = False
        self._keep = keep
        self._looks = looks
        self._stream: httpcore.AsyncNetworkStream | None = None

    @contextmanager
    def under_way(self) -> Iterator[None]:
        """While this lasts, the streams that the running task writes to belong to this exchange."""
        token = _current.set(self)
        try:
            yield
        finally:
            _current.reset(token)

    def begins(self) -> None:
        """The first byte of the request may go out now; what came before answered something else."""
        self.possible = True
        self.arrived.clear()

    def goes_over(self, stream: httpcore.AsyncNetworkStream) -> None:
        """The stream on which the request goes and the answer comes."""
        self._stream = stream

    def take(self, data: bytes) -> None:
        """Keeps a part of the answer; an empty one is its end."""
        self.arrived += data[: max(0, self._keep - len(self.arrived))]
        if not data:
            self._stream = None

    async def last_look(self) -> None:
        """Takes what has arrived on a connection that is given up, until nothing more comes."""
        if not (self._looks and self.possible):
            return
        with suppress(*_BROKEN), anyio.move_on_after(_LAST_LOOK, shield=True):
            while self._stream is not None and len(self.arrived) < self._keep:
                self.take(await self._stream.read(_READ_BYTES, _QUIET))


class ProgressStream(httpcore.AsyncNetworkStream):
    """A connection that tells its exchange what arrives, and is not closed before the last look.

    It is closed, too, if the TLS handshake on it is cancelled: httpcore forgets it then.
    """

    def __init__(self, stream: httpcore.AsyncNetworkStream) -> None:
        self._stream = stream
        self._exchange = RequestProgress()

    async def read(
        self,
        max_bytes: int,
        timeout: float | None = None,  # noqa: ASYNC109 -- httpcore's signature
    ) -> bytes:
        """See `httpcore.AsyncNetworkStream`."""
        data = await self._stream.read(max_bytes, timeout)
        self._exchange.take(data)
        return data

    async def write(
        self,
        buffer: bytes,
        timeout: float | None = None,  # noqa: ASYNC109 -- httpcore's signature
    ) -> None:
        """See `httpcore.AsyncNetworkStream`."""
        self._exchange = _current.get() or self._exchange
        self._exchange.goes_over(self._stream)
        await self._stream.write(buffer, timeout)

    async def aclose(self) -> None:
        """See `httpcore.AsyncNetworkStream`."""
        try:
            if not self._exchange.answered:
                await self._exchange.last_look()
        finally:
            await self._stream.aclose()

    async def start_tls(
        self,
        ssl_context: ssl.SSLContext,
        server_hostname: str | None = None,
        timeout: float | None = None,  # noqa: ASYNC109 -- httpcore's signature
    ) -> httpcore.AsyncNetworkStream:
        """See `httpcore.AsyncNetworkStream`."""
        try:
            return ProgressStream(await self._stream.start_tls(ssl_context, server_hostname, timeout))
        except BaseException:
            with anyio.CancelScope(shield=True):
                await self._stream.aclose()
            raise

    def get_extra_info(self, info: str) -> Any:
        """See `httpcore.AsyncNetworkStream`."""
        if info == "is_readable" and self._exchange.overrun:
            return True  # to httpcore: not to be used again
        return self._stream.get_extra_info(info)


class ProgressBackend(httpcore.AnyIOBackend):
    """httpcore's anyio backend with streams of that kind; checks no address."""

    async def connect_tcp(self, *args: Any, **kwargs: Any) -> httpcore.AsyncNetworkStream:
        """See `httpcore.AsyncNetworkBackend`."""
        return ProgressStream(await super().connect_tcp(*args, **kwargs))
