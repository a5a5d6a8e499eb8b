"""A connected TCP socket as an anyio stream, for one reader and one writer.

anyio's own stream takes a checkpoint before each call and tries to read before it waits: here an answer is
never there yet, and a request fits into the socket's buffer.
"""

import socket
from collections.abc import Callable, Mapping
from typing import Any

import anyio
from anyio.abc import ByteStream, SocketAttribute


class TcpStream(ByteStream):
    """Reads and writes a socket. Raises what anyio's streams raise; their `__cause__` is the system's error.

    Args:
        sock: connected, and not blocking; closed with the stream.
    """

    def __init__(self, sock: socket.socket) -> None:
        self._socket = sock

    @property
    def extra_attributes(self) -> Mapping[Any, Callable[[], Any]]:
        """The socket."""
        return {SocketAttribute.raw_socket: lambda: self._socket}

    def send_at_once(self, data: bytes | memoryview) -> memoryview:
        """Sends what the system takes without a wait; returns the rest."""
        try:
            return memoryview(data)[self._socket.send(data) :]
        except BlockingIOError:
            return memoryview(data)
        except OSError as error:
            raise self._broken() from error

    async def send(self, item: bytes | memoryview) -> None:
        """Sends everything."""
        while item := self.send_at_once(item):
            await anyio.wait_writable(self._open())

    async def receive(self, max_bytes: int = 65536) -> bytes:
        """Waits for something to read, and reads that."""
        while True:
            await anyio.wait_readable(self._open())
            try:
                data = self._socket.recv(max_bytes)
            except BlockingIOError:
                continue
            except OSError as error:
                raise self._broken() from error
            if not data:
                raise anyio.EndOfStream
            return data

    async def send_eof(self) -> None:
        """Tells the other side that nothing more follows."""
        try:
            self._socket.shutdown(socket.SHUT_WR)
        except OSError as error:
            raise self._broken() from error

    async def aclose(self) -> None:
        """Closes the socket; whoever waits for it gets `anyio.ClosedResourceError`."""
        if self._socket.fileno() >= 0:
            anyio.notify_closing(self._socket)
            self._socket.close()

    def _open(self) -> socket.socket:
        if self._socket.fileno() < 0:
            raise anyio.ClosedResourceError
        return self._socket

    def _broken(self) -> Exception:
        return anyio.BrokenResourceError() if self._socket.fileno() >= 0 else anyio.ClosedResourceError()
