"""A TCP proxy on loopback that loses, delays, cuts and resets what passes between client and server.

It reads requests and answers whole before it passes them on, so that a mishap strikes where it was
meant to: before the server has seen the request, or after it has answered. What it swallowed it
keeps: that is the proof of what the server did.

Does not: speak TLS, or stream.
"""

import socket
import struct
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from typing import Literal, get_args

import anyio
import anyio.abc
import anyio.from_thread
import h11
from anyio.abc import SocketAttribute

from tests.simulator.frames import Frame
from tests.torture.wire_http import Asked, Served, ask, read_request

Kind = Literal[
    "drop_request",  # the server never sees it; the connection is closed
    "reset_request",  # the same, by RST
    "drop_answer",  # the server has answered; nothing of it arrives; the connection is closed
    "reset_answer",  # the same, by RST
    "cut_answer",  # the first `count` bytes of the answer arrive, then the connection is closed
    "cut_by_reset",  # the same, by RST
    "reframe",  # another frame around the whole body arrives, then the connection is closed
    "delay",  # nothing but the waits
]

# What happens before the server is asked.
BEFORE = ("drop_request", "reset_request")

_BY_RESET = ("reset_request", "reset_answer", "cut_by_reset")

_GONE = (anyio.BrokenResourceError, anyio.ClosedResourceError, anyio.EndOfStream, TimeoutError, OSError)


def refreshes(asked: Asked) -> bool:
    """Matches every request that carries a refresh token."""
    return asked.refresh_token is not None


@dataclass(eq=False)
class Mishap:
    """What goes wrong, with which requests, how often.

    Attributes:
        kind: see `Kind`.
        match: which requests.
        status: only if the server answered so; None: whatever it answered. The others of the matching
            requests pass unharmed, and are not counted.
        times: how often; None: always.
        count: bytes of the raw answer (head included) that arrive.
        frame: what makes the answer anew.
        before: seconds waited before the server gets the request; only without a `status`.
        after: seconds waited after it has answered.
    """

    kind: Kind
    match: Callable[[Asked], bool] = refreshes
    status: int | None = None
    times: int | None = 1
    count: int = 0
    frame: Frame | None = None
    before: float = 0.0
    after: float = 0.0

    def __post_init__(self) -> None:
        if self.kind not in get_args(Kind):
            raise ValueError(f"unknown kind of mishap: {self.kind}")
        if self.status is not None and (self.kind in BEFORE or self.before):
            raise ValueError("before the server is asked there is no answer to choose by")


@dataclass(frozen=True)
class Struck:
    """A mishap that happened.

    Attributes:
        mishap: which.
        served: what would have happened without it.
        arrived: how many bytes of the answer were passed on.
    """

    mishap: Mishap
    served: Served
    arrived: int = 0


class Wire:
    """A proxy in front of one server. Made by `open_wire` or `running_wire`; may be used from any thread.

    Attributes:
        port: where it listens.
        url: the same, as a URL.
        upstream: the server's port; to be set before the first request arrives.
    """

    def __init__(self, port: int, upstream: int) -> None:
        self.port = port
        self.url = f"http://127.0.0.1:{port}"
        self.upstream = upstream
        self._lock = threading.Lock()
        self._mishaps: list[Mishap] = []
        self._struck: list[Struck] = []
        self._served: list[Served] = []

    def add(self, mishap: Mishap) -> Mishap:
        """From now on; of several that match, the oldest strikes."""
        with self._lock:
            self._mishaps.append(mishap)
        return mishap

    @property
    def struck(self) -> list[Struck]:
        """All mishaps that happened, oldest first."""
        with self._lock:
            return list(self._struck)

    @property
    def served(self) -> list[Served]:
        """Every request that reached the server, struck or not, oldest first."""
        with self._lock:
            return list(self._served)

    async def serve_one(self, stream: anyio.abc.SocketStream) -> None:
        """Serves one connection to its end."""
        try:
            rest = b""
            while (read := await read_request(stream, rest)) is not None:
                asked, rest = read
                if not await self._serve(stream, asked):
                    break
        except (*_GONE, h11.ProtocolError):
            pass
        finally:
            with anyio.CancelScope(shield=True):
                await stream.aclose()

    async def _serve(self, stream: anyio.abc.SocketStream, asked: Asked) -> bool:
        """Passes one request on, and its answer back; False if the connection is to be closed."""
        mishap = self._take(asked, None)
        if mishap is not None:
            await anyio.sleep(mishap.before)
            if mishap.kind in BEFORE:
                self._strike(stream, Struck(mishap, Served(asked)))
                return False
        served, stays = await ask(self.upstream, asked)
        with self._lock:
            self._served.append(served)
        mishap = mishap or self._take(asked, served.status)
        if mishap is None:
            await stream.send(served.answer)
            return stays
        await anyio.sleep(mishap.after)
        lengths = {"delay": len(served.answer), "cut_answer": mishap.count, "cut_by_reset": mishap.count}
        arrives = served.answer[: lengths.get(mishap.kind, 0)]
        if mishap.frame is not None:
            arrives = mishap.frame(served.fields, served.body)
        # Noted first: whoever sees the client fail may look at once.
        self._strike(stream, Struck(mishap, served, len(arrives)))
        if arrives:
            await stream.send(arrives)
        return stays and mishap.kind == "delay"

    def _strike(self, stream: anyio.abc.SocketStream, struck: Struck) -> None:
        with self._lock:
            self._struck.append(struck)
        if struck.mishap.kind in _BY_RESET:  # the close that follows will be an RST
            raw: socket.socket = stream.extra(SocketAttribute.raw_socket)
            raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))

    def _take(self, asked: Asked, status: int | None) -> Mishap | None:
        """The mishap for a request, before (status None) or after the server has answered."""
        with self._lock:
            for mishap in self._mishaps:
                if mishap.status != status or not mishap.match(asked):
                    continue
                if mishap.times is not None:
                    mishap.times -= 1
                    if mishap.times <= 0:
                        self._mishaps.remove(mishap)
                return mishap
        return None


@asynccontextmanager
async def open_wire(upstream: int = 0) -> AsyncIterator[Wire]:
    """A proxy; ends with the block, and with it every connection."""
    async with (
        await anyio.create_tcp_listener(local_host="127.0.0.1", backlog=256) as listener,
        anyio.create_task_group() as tg,
    ):
        wire = Wire(listener.extra(SocketAttribute.local_port), upstream)
        tg.start_soon(listener.serve, wire.serve_one)
        yield wire
        tg.cancel_scope.cancel()


@contextmanager
def running_wire(upstream: int = 0) -> Iterator[Wire]:
    """The same in a thread of its own, for programs that are not async."""
    with (
        anyio.from_thread.start_blocking_portal("trio") as portal,
        portal.wrap_async_context_manager(open_wire(upstream)) as wire,
    ):
        yield wire
