"""How far one request has come: whether anything of it was sent, and the bytes that came back.

A parser that finds an answer broken keeps nothing of it. For whoever must not lose an answer the bytes
are kept here as well, as they arrive, and before a connection is closed in the middle of an answer
there is one last look at what has arrived: a process that was frozen for longer than its deadline wakes
with the answer in its socket.

Knows bytes only; `idiolectd.http.arrived` makes an answer of them.
"""

from contextlib import suppress

import anyio
from anyio.abc import ByteReceiveStream

# Seconds without anything new, and in all. What has arrived is read in no time, unless the machine is
# as busy as one is that has just woken; a server that goes on sending must not hold us for ever.
_QUIET, _LAST_LOOK = 1.0, 5.0

# In a request's httpx extensions: its `RequestProgress`.
PROGRESS = "idiolectd.progress"

# What receiving on a connection that broke, ended or says no more raises; OSError includes
# ssl.SSLError and TimeoutError.
_BROKEN: tuple[type[Exception], ...] = (
    OSError,
    anyio.BrokenResourceError,
    anyio.ClosedResourceError,
    anyio.EndOfStream,
)


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
        overrun: more came than the answer's frame holds.
    """

    def __init__(self, *, keep: int = 0, looks: bool = False) -> None:
        self.possible = True
        self.arrived = bytearray()
        self.answered = False
        self.overrun = False
        self._keep = keep
        self._looks = looks
        self._stream: ByteReceiveStream | None = None

    def begins(self, stream: ByteReceiveStream) -> None:
        """The first byte of the request may go out now, and its answer comes on that stream."""
        self.possible = True
        self._stream = stream

    def take(self, data: bytes) -> None:
        """Keeps a part of the answer."""
        self.arrived += data[: max(0, self._keep - len(self.arrived))]

    async def last_look(self) -> None:
        """Takes what has arrived on a connection that is given up, until nothing more comes."""
        if not (self._looks and self.possible) or self._stream is None:
            return
        with suppress(*_BROKEN), anyio.move_on_after(_LAST_LOOK, shield=True):
            while len(self.arrived) < self._keep:
                with anyio.fail_after(_QUIET):
                    self.take(await self._stream.receive())
