"""Simulators behind httpx, in the same process: no sockets, any event loop, any clock.

Does: turn faults into the exceptions that httpx raises for the real thing, honouring the request's time-outs.
Does not: simulate TLS, DNS or connection reuse.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping

import anyio
import anyio.lowlevel
import httpx

from tests.simulator.core import Simulator
from tests.simulator.faults import Fault
from tests.simulator.wire import Request, Response


class SimulatorTransport(httpx.AsyncBaseTransport):
    """Several origins behind one transport; an origin that is not there refuses the connection.

    ``latency`` is waited before and after the core; even 0 gives other tasks, and a cancellation, a chance there.
    """

    def __init__(self, origins: Mapping[str, Simulator] | Simulator, *, latency: float = 0.0) -> None:
        if isinstance(origins, Simulator):
            origins = {origins.pds_url: origins, origins.issuer: origins}
        self.origins = {_origin(httpx.URL(url)): sim for url, sim in origins.items()}
        self.latency = latency

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Serve one request."""
        body = await request.aread()
        timeouts: dict[str, float | None] = request.extensions.get("timeout", {})
        patience = timeouts.get("read")
        sim = self.origins.get(_origin(request.url))
        if sim is None:
            await anyio.lowlevel.checkpoint()
            raise httpx.ConnectError("connection refused: no such origin", request=request)
        headers = [
            (key.decode("latin-1").lower(), value.decode("latin-1")) for key, value in request.headers.raw
        ]
        plain = Request(request.method, str(request.url), headers, body)
        fault = sim.faults.take(plain)
        if fault is not None:
            sim.state.counters.faults += 1
            return await self._faulty(sim, plain, fault, patience, request)
        await _wait(sim, plain, self.latency, patience, request)
        response = sim.handle(plain)
        # From here on the server has acted: a cancellation or time-out now is a lost answer.
        await _wait(sim, None, self.latency, patience, request)
        return _complete(response)

    async def _faulty(
        self, sim: Simulator, plain: Request, fault: Fault, patience: float | None, request: httpx.Request
    ) -> httpx.Response:
        reaches_core = fault.kind not in ("respond", "cut", "drop_before", "reset", "connect_error")
        pending = plain if reaches_core else None
        await _wait(sim, pending, self.latency + fault.delay, patience, request)
        response = sim.handle(plain) if reaches_core else fault.response
        await _wait(sim, None, self.latency + fault.delay_after, patience, request)
        match fault.kind:
            case "respond" | "respond_after":
                return _complete(fault.response)
            case "connect_error":
                raise httpx.ConnectError("connection refused", request=request)
            case "drop_before" | "drop_after":
                raise httpx.RemoteProtocolError(
                    "Server disconnected without sending a response.", request=request
                )
            case "reset" | "reset_after":
                raise httpx.ReadError("connection reset by peer", request=request)
            case "truncate" | "cut":
                return _streamed(response, _Truncated(response.body, fault.count, request))
            case "drip":
                return _streamed(response, _Dripping(response.body, fault, patience, request))
            case "delay":
                return _complete(response)


class _Truncated(httpx.AsyncByteStream):
    def __init__(self, body: bytes, count: int, request: httpx.Request) -> None:
        self._body, self._request = body[:count], request

    async def __aiter__(self) -> AsyncIterator[bytes]:
        await anyio.lowlevel.checkpoint()
        if self._body:
            yield self._body
        raise httpx.RemoteProtocolError(
            "peer closed connection without sending complete message body", request=self._request
        )


class _Dripping(httpx.AsyncByteStream):
    def __init__(self, body: bytes, fault: Fault, patience: float | None, request: httpx.Request) -> None:
        self._body, self._fault, self._patience, self._request = body, fault, patience, request

    async def __aiter__(self) -> AsyncIterator[bytes]:
        step = max(1, self._fault.count)
        for start in range(0, len(self._body), step):
            # A read time-out is per read: a slow drip never trips it, only a total deadline does.
            await _wait(None, None, self._fault.interval, self._patience, self._request)
            yield self._body[start : start + step]


async def _wait(
    sim: Simulator | None,
    pending: Request | None,
    seconds: float,
    patience: float | None,
    request: httpx.Request,
) -> None:
    """Wait as a client does; if it gives up, the server still works off ``pending`` at its own time."""
    if seconds <= 0:
        await anyio.lowlevel.checkpoint()
        return
    started = anyio.current_time()
    done = False
    try:
        if patience is None or seconds <= patience:
            await anyio.sleep(seconds)
            done = True
        else:
            await anyio.sleep(patience)
            raise httpx.ReadTimeout("the read operation timed out", request=request)
    finally:
        if not done and sim is not None and pending is not None:
            sim.schedule(max(0.0, seconds - (anyio.current_time() - started)), pending)


def _origin(url: httpx.URL) -> tuple[str, str, int]:
    return url.scheme, url.host, url.port or {"http": 80, "https": 443}.get(url.scheme, 0)


def _complete(response: Response) -> httpx.Response:
    return httpx.Response(response.status, headers=response.headers, content=response.body)


def _streamed(response: Response, stream: httpx.AsyncByteStream) -> httpx.Response:
    headers = [*response.headers, ("Content-Length", str(len(response.body)))]
    return httpx.Response(response.status, headers=headers, stream=stream)
