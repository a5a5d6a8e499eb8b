"""Connections: a small pool per origin ("lane") below one httpx transport.

httpcore looks at every connection of a pool for every request, so one pool for all origins grows
slow with their number; a pool per origin does not. All lanes share one TLS context, which is what
is costly to build.

Does not limit how much is sent to an origin, and does not retry: that is decided above.
"""

import ssl
from collections import OrderedDict
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import anyio
import httpcore
import httpx

from idiolectd.finish import in_thread
from idiolectd.http.guard import GuardedBackend, NetworkPolicy
from idiolectd.http.name_lookup import NameLookups
from idiolectd.http.request_progress import RequestProgress
from idiolectd.http.trust import Trust
from idiolectd.url import is_loopback_host

# A server may close an idle connection at any moment. If it does so just when a refresh token is
# put on it, nobody knows whether the token was read: an unclear answer, and perhaps a lost session.
# Servers wait for seconds at least before they close, so a connection that idled for less than one
# is safe. That is enough for the repetition that a DPoP nonce asks for, which is the usual case.
KEEPALIVE_SECONDS = 1.0

_MAX_LANES = 256
_MAX_CONNECTIONS_PER_LANE = 16

# Set in a request's extensions by whoever wants to know; see `RequestProgress`.
EXCHANGE = "idiolectd.exchange"


@dataclass
class _Pool:
    pool: httpcore.AsyncConnectionPool
    context: ssl.SSLContext
    busy: int = 0
    rested_at: float = 0.0


class OriginPools(httpx.AsyncBaseTransport):
    """A connection pool per origin, all behind the guard.

    Raises what httpx's own transport raises, and `NotSent` where the guard refuses or a name does
    not resolve.

    Args:
        policy: the guard's rules, and the proxy.
        ssl_context: shared by all lanes; None: that of `trust`.
        trust: makes it; None: one that believes the system's authorities.
        names: looks up names, for all lanes; None: by the system's resolver.
        max_lanes: lanes beyond this are closed, the longest unused first, unless they are in use.
    """

    def __init__(
        self,
        policy: NetworkPolicy,
        *,
        ssl_context: ssl.SSLContext | None = None,
        trust: Trust | None = None,
        max_pools: int = _MAX_LANES,
        names: NameLookups | None = None,
    ) -> None:
        self._policy = policy
        self._names = names or NameLookups()
        self._fixed_context = ssl_context
        self._trust = trust or Trust() if ssl_context is None else None
        # Lanes whose context is not today's any more, until whoever is on them has left.
        self._retired: list[_Pool] = []
        self._max_lanes = max_pools
        self._pools: OrderedDict[tuple[str, str, int | None], _Pool] = OrderedDict()

    def __repr__(self) -> str:
        busy = sum(pool.busy for pool in self._pools.values())
        return f"<OriginPools origins={len(self._pools)} busy={busy}>"

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Sends one request on its origin's lane; the answer's body must be read or closed."""
        if self._trust is not None and self._trust.is_due:
            await in_thread(self._trust.context)
        pool = self._enter(request.url)
        try:
            await self._close_unused()
            with _httpx_exceptions():
                response = await pool.pool.handle_async_request(_to_httpcore(request))
        except BaseException:
            self._leave(pool)
            raise
        return httpx.Response(
            status_code=response.status,
            headers=response.headers,
            stream=_Body(self, pool, response),
            extensions=response.extensions,
        )

    async def look_up(self, host: str) -> None:
        """Looks up a host's name, if its requests will need that; a proxy looks up names itself.

        Raises:
            NotSent: as `NameLookups.addresses`.
        """
        if self._policy.proxy is None or is_loopback_host(host):
            await self._names.addresses(host)

    async def aclose(self) -> None:
        """Closes every lane, whatever is in flight on it."""
        pools = [*self._pools.values(), *self._retired]
        self._pools.clear()
        self._retired.clear()
        for pool in pools:
            await pool.pool.aclose()

    def _enter(self, url: httpx.URL) -> _Pool:
        host = url.raw_host.decode("ascii")  # `url.host` would decode what looks like an IDN, or raise
        key = (url.scheme, host, url.port)
        pool = self._pools.get(key)
        context = self._context()
        if pool is not None and pool.context is not context:
            self._retired.append(self._pools.pop(key))
            pool = None
        if pool is None:
            pool = self._pools[key] = _Pool(self._new_pool(host, context), context)
        self._pools.move_to_end(key)
        pool.busy += 1
        return pool

    def _context(self) -> ssl.SSLContext:
        if self._trust is not None:
            return self._trust.context()
        assert self._fixed_context is not None  # noqa: S101 - see the constructor
        return self._fixed_context

    def _leave(self, pool: _Pool) -> None:
        pool.busy -= 1
        pool.rested_at = anyio.current_time()

    async def _close_unused(self) -> None:
        """Closes lanes that hold only connections too old for use, and those above the limit."""
        stale = anyio.current_time() - KEEPALIVE_SECONDS
        surplus = len(self._pools) - self._max_lanes
        unused: list[_Pool] = []
        for key, pool in list(self._pools.items()):
            if pool.busy == 0 and (pool.rested_at < stale or len(unused) < surplus):
                unused.append(self._pools.pop(key))
        unused += [pool for pool in self._retired if pool.busy == 0]
        self._retired = [pool for pool in self._retired if pool.busy]
        with anyio.CancelScope(shield=True):  # closing does not wait for the peer
            for pool in unused:
                await pool.pool.aclose()

    def _new_pool(self, host: str, context: ssl.SSLContext) -> httpcore.AsyncConnectionPool:
        proxy = None if is_loopback_host(host) else _proxy(self._policy.proxy, context)
        return httpcore.AsyncConnectionPool(
            ssl_context=context,
            proxy=proxy,
            max_connections=_MAX_CONNECTIONS_PER_LANE,
            keepalive_expiry=KEEPALIVE_SECONDS,
            # What is dialled with a proxy is the proxy: the operator named it, wherever it is.
            network_backend=GuardedBackend(None if proxy else self._policy, self._names),
        )


class _Body(httpx.AsyncByteStream):
    """An answer's body; hands the lane back when it is closed."""

    def __init__(self, transport: OriginPools, pool: _Pool, response: httpcore.Response) -> None:
        self._transport = transport
        self._lane: _Pool | None = pool
        self._response = response

    async def __aiter__(self) -> AsyncIterator[bytes]:
        with _httpx_exceptions():
            async for part in self._response.aiter_stream():
                yield part

    async def aclose(self) -> None:
        pool, self._lane = self._lane, None
        if pool is None:
            return
        try:
            with _httpx_exceptions():
                await self._response.aclose()
        finally:
            self._transport._leave(pool)  # noqa: SLF001 -- the two are one thing in two classes


def _to_httpcore(request: httpx.Request) -> httpcore.Request:
    exchange = request.extensions.get(EXCHANGE)
    extensions: dict[str, Any] = dict(request.extensions)
    if isinstance(exchange, RequestProgress):
        exchange.possible = False

        async def trace(event: str, info: Mapping[str, Any]) -> None:
            # Opening a tunnel through a proxy is a request too, and not ours.
            if event.endswith("send_request_headers.started") and info["request"].method != b"CONNECT":
                exchange.begins()

        extensions["trace"] = trace
    return httpcore.Request(
        method=request.method,
        url=httpcore.URL(
            scheme=request.url.raw_scheme,
            host=request.url.raw_host,
            port=request.url.port,
            target=request.url.raw_path,
        ),
        headers=request.headers.raw,
        content=request.stream,
        extensions=extensions,
    )


def _proxy(url: str | None, ssl_context: ssl.SSLContext) -> httpcore.Proxy | None:
    if url is None:
        return None
    proxy = httpx.Proxy(url)
    return httpcore.Proxy(
        url=httpcore.URL(
            scheme=proxy.url.raw_scheme,
            host=proxy.url.raw_host,
            port=proxy.url.port,
            target=proxy.url.raw_path,
        ),
        auth=proxy.raw_auth,
        ssl_context=ssl_context if proxy.url.scheme == "https" else None,
    )


# Most specific first.
_EXCEPTIONS: Mapping[type[Exception], type[httpx.TransportError]] = {
    httpcore.ConnectTimeout: httpx.ConnectTimeout,
    httpcore.ReadTimeout: httpx.ReadTimeout,
    httpcore.WriteTimeout: httpx.WriteTimeout,
    httpcore.PoolTimeout: httpx.PoolTimeout,
    httpcore.ConnectError: httpx.ConnectError,
    httpcore.ReadError: httpx.ReadError,
    httpcore.WriteError: httpx.WriteError,
    httpcore.ProxyError: httpx.ProxyError,
    httpcore.LocalProtocolError: httpx.LocalProtocolError,
    httpcore.RemoteProtocolError: httpx.RemoteProtocolError,
}


@contextmanager
def _httpx_exceptions() -> Iterator[None]:
    try:
        yield
    except tuple(_EXCEPTIONS) as error:
        raise _EXCEPTIONS[type(error)](str(error)) from error
