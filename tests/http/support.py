"""What the tests of the rooms above HTTP share: a clock, a client, and servers that misbehave."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field

import anyio
import httpx
from anyio.abc import SocketAttribute, SocketStream

from idiolectd.events import Event
from idiolectd.http import HttpClient, NetworkPolicy
from tests.clock import VirtualClock

LOOPBACK = NetworkPolicy(allow_loopback_http=True)


@dataclass
class House:
    """A client on a transport, with what it reported."""

    client: HttpClient
    clock: VirtualClock
    events: list[Event] = field(default_factory=list)


@asynccontextmanager
async def house(
    transport: httpx.AsyncBaseTransport | None = None,
    *,
    policy: NetworkPolicy = LOOPBACK,
    clock: VirtualClock | None = None,
) -> AsyncIterator[House]:
    events: list[Event] = []
    clock = clock or VirtualClock()
    async with HttpClient(policy=policy, clock=clock, events=events.append, transport=transport) as client:
        yield House(client, clock, events)


Handler = Callable[[SocketStream], Awaitable[None]]


@asynccontextmanager
async def listening(handler: Handler) -> AsyncIterator[str]:
    """A TCP server on loopback; yields its http URL."""
    async with (
        await anyio.create_tcp_listener(local_host="127.0.0.1") as listener,
        anyio.create_task_group() as tasks,
    ):

        async def serve(stream: SocketStream) -> None:
            async with stream:
                with suppress(anyio.BrokenResourceError, anyio.EndOfStream):
                    await handler(stream)

        tasks.start_soon(listener.serve, serve)
        yield f"http://127.0.0.1:{listener.extra(SocketAttribute.local_port)}"
        tasks.cancel_scope.cancel()


async def read_request(stream: SocketStream) -> bytes:
    """The head of a request, and what of its body came along."""
    head = b""
    while b"\r\n\r\n" not in head:
        head += await stream.receive()
    return head


def answering(*parts: bytes) -> Handler:
    """A handler that reads a request's head, sends the parts and closes."""

    async def handler(stream: SocketStream) -> None:
        await read_request(stream)
        for part in parts:
            await stream.send(part)

    return handler


def keep_alive(connections: list[SocketStream]) -> Handler:
    """A handler that answers every request on a connection, and keeps the connections it got."""

    async def handler(stream: SocketStream) -> None:
        connections.append(stream)
        while True:
            await read_request(stream)
            await stream.send(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")

    return handler
