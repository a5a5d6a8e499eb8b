"""A simulator on a loopback socket: h11 over anyio, one task per connection, keep-alive.

Does: carry faults out for real: closes, resets, half answers, slow ones.
Does not: speak TLS, HTTP/2, or to anybody outside this host.
"""

from __future__ import annotations

import contextlib
import socket
import struct
from typing import Literal
from urllib.parse import urlsplit

import anyio
import anyio.abc
import h11
from anyio.abc import SocketAttribute, TaskStatus
from anyio.streams.stapled import MultiListener

from tests.simulator.core import Simulator
from tests.simulator.faults import Fault
from tests.simulator.wire import Request, Response

IDLE_SECONDS = 75.0
_GONE = (anyio.BrokenResourceError, anyio.ClosedResourceError, anyio.EndOfStream, TimeoutError)


async def serve(
    sim: Simulator,
    *,
    host: str = "127.0.0.1",
    port: int = 0,
    role: Literal["both", "pds", "issuer"] = "both",
    task_status: TaskStatus[str] = anyio.TASK_STATUS_IGNORED,
) -> None:
    """Serve until cancelled; ``task_status`` gets the URL.

    A simulator made without a URL takes the listener's. To put the authorization server on an origin of its
    own, serve the same simulator twice, with the roles ``pds`` and ``issuer``.
    """
    if host not in ("127.0.0.1", "::1", "localhost"):
        raise ValueError(f"the simulator serves loopback only, not {host}")
    listener: MultiListener[anyio.abc.SocketStream] = await anyio.create_tcp_listener(
        local_host="127.0.0.1" if host == "localhost" else host,
        local_port=port,
        backlog=1024,
        reuse_port=False,
    )
    bound = listener.extra(SocketAttribute.local_port)
    url = f"http://[{host}]:{bound}" if ":" in host else f"http://{host}:{bound}"
    if role != "issuer" and sim.url_is_open:
        sim.rebase(pds_url=url)
    if role == "issuer" or (role == "both" and sim.issuer_is_open):
        sim.rebase(issuer=url)
    async with listener:
        task_status.started(url)
        await listener.serve(lambda stream: _connection(sim, stream, url))


async def _connection(sim: Simulator, stream: anyio.abc.SocketStream, url: str) -> None:
    connection = h11.Connection(h11.SERVER)
    try:
        while True:
            request = await _read(connection, stream, url)
            if request is None or not await _answer(sim, connection, stream, request):
                break
            if connection.our_state is not h11.DONE or connection.their_state is not h11.DONE:
                break
            connection.start_next_cycle()
    except (*_GONE, h11.LocalProtocolError):
        pass
    except h11.RemoteProtocolError:
        with contextlib.suppress(*_GONE):
            await stream.send(b"HTTP/1.1 400 Bad Request\r\nConnection: close\r\nContent-Length: 0\r\n\r\n")
    finally:
        with anyio.CancelScope(shield=True):
            await stream.aclose()


async def _read(connection: h11.Connection, stream: anyio.abc.SocketStream, url: str) -> Request | None:
    """The next whole request; None if the client is done."""
    head: h11.Request | None = None
    body = bytearray()
    while True:
        event = connection.next_event()
        if event is h11.NEED_DATA:
            with anyio.fail_after(IDLE_SECONDS):
                try:
                    data = await stream.receive(65536)
                except anyio.EndOfStream:
                    data = b""
            connection.receive_data(data)
        elif isinstance(event, h11.Request):
            head = event
        elif isinstance(event, h11.Data):
            body += event.data
        elif isinstance(event, h11.EndOfMessage) and head is not None:
            break
        else:
            return None
    headers = [(key.decode("latin-1"), value.decode("latin-1")) for key, value in head.headers]
    target = head.target.decode("latin-1")
    host = next((value for key, value in headers if key == "host"), None)
    base = f"http://{host}" if host else url
    try:
        urlsplit(base + target)
    except ValueError:
        return None
    return Request(
        head.method.decode(), base + target if target.startswith("/") else target, headers, bytes(body)
    )


async def _answer(
    sim: Simulator, connection: h11.Connection, stream: anyio.abc.SocketStream, request: Request
) -> bool:
    """Answer one request; False if the connection is to be closed."""
    fault = sim.faults.take(request)
    if fault is None:
        await _send(connection, stream, sim.handle(request))
        return True
    sim.state.counters.faults += 1
    await anyio.sleep(fault.delay)
    if fault.kind in ("drop_before", "connect_error"):
        return False
    if fault.kind == "reset":
        _make_reset(stream)
        return False
    response = fault.response if fault.kind in ("respond", "cut") else sim.handle(request)
    await anyio.sleep(fault.delay_after)
    return await _send_faulty(connection, stream, response, fault)


async def _send_faulty(
    connection: h11.Connection, stream: anyio.abc.SocketStream, response: Response, fault: Fault
) -> bool:
    match fault.kind:
        case "respond_after":
            await _send(connection, stream, fault.response)
        case "drop_after":
            return False
        case "reset_after":
            _make_reset(stream)
            return False
        case "truncate" | "cut":
            await stream.send(_head(connection, response))
            await stream.send(_data(connection, response.body[: fault.count]))
            return False
        case "drip":
            await stream.send(_head(connection, response))
            step = max(1, fault.count)
            for start in range(0, len(response.body), step):
                await anyio.sleep(fault.interval)
                await stream.send(_data(connection, response.body[start : start + step]))
            connection.send(h11.EndOfMessage())
        case _:
            await _send(connection, stream, response)
    return True


async def _send(connection: h11.Connection, stream: anyio.abc.SocketStream, response: Response) -> None:
    data = _head(connection, response) + _data(connection, response.body)
    await stream.send(data + (connection.send(h11.EndOfMessage()) or b""))


def _head(connection: h11.Connection, response: Response) -> bytes:
    headers = [
        (k, v) for k, v in response.headers if k.lower() not in ("content-length", "transfer-encoding")
    ]
    headers.append(("Content-Length", str(len(response.body))))
    encoded = [(key.encode("latin-1"), value.encode("latin-1")) for key, value in headers]
    return connection.send(h11.Response(status_code=response.status, headers=encoded)) or b""


def _data(connection: h11.Connection, data: bytes) -> bytes:
    return (connection.send(h11.Data(data)) or b"") if data else b""


def _make_reset(stream: anyio.abc.SocketStream) -> None:
    """Let the close that follows be an RST."""
    raw = stream.extra(SocketAttribute.raw_socket)
    raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
