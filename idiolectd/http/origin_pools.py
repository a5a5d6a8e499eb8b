"""Which connection a request goes on: a few for each origin, kept for a second, below httpx's transport API.

Limits how many connections there are to an origin, and how many origins have idle ones. Does not limit how
much is sent, and does not retry: that is decided above. All connections share one TLS context, which is what
is costly to build.
"""

import ssl
from collections import OrderedDict
from collections.abc import AsyncIterator
from dataclasses import dataclass, field

import anyio
import httpx

from idiolectd.finish import in_thread
from idiolectd.http.connection import AnswerHead, Connection
from idiolectd.http.dialler import Dialler
from idiolectd.http.exchange import Request
from idiolectd.http.guard import NetworkPolicy
from idiolectd.http.name_lookup import NameLookups
from idiolectd.http.plain import Headers
from idiolectd.http.request_progress import PROGRESS, RequestProgress
from idiolectd.http.time_limits import EachWait, TimeLimits
from idiolectd.http.trust import Trust
from idiolectd.url import DEFAULT_PORTS

# A server may close an idle connection at any moment. If it does so just when a refresh token is
# put on it, nobody knows whether the token was read: an unclear answer, and perhaps a lost session.
# Servers close right behind their answer, which shows within milliseconds, or wait for seconds before they
# do. So a connection is used again that has rested for longer than the one and for less than the other.
KEEPALIVE_SECONDS = 1.0
REST_SECONDS = 0.02

_MAX_POOLS = 256
_MAX_IDLE = 256
_MAX_CONNECTIONS_PER_ORIGIN = 16

Origin = tuple[str, str, int]  # scheme, host, port


@dataclass(eq=False)
class _Pool:
    """The connections to one origin.

    Attributes:
        origin: where they lead.
        idle: connections that wait for a request; the first has rested longest.
        requests: how many are under way or wait for a connection.
        free: how many connections may be used beside those that are.
    """

    origin: Origin
    idle: list[Connection] = field(default_factory=list)
    requests: int = 0
    free: anyio.Semaphore = field(
        default_factory=lambda: anyio.Semaphore(_MAX_CONNECTIONS_PER_ORIGIN, fast_acquire=True)
    )


class OriginPools(httpx.AsyncBaseTransport):
    """A small pool of connections for each origin, all behind the guard.

    Raises what httpx's own transport raises, and `NotSent` where the guard refuses or a name does
    not resolve. The request's body and the answer's head are in memory as a whole; the answer's body
    must be read or closed.

    Args:
        policy: the guard's rules, and the proxy.
        ssl_context: shared by all connections; None: that of `trust`.
        trust: makes it; None: one that believes the system's authorities.
        names: looks up names; None: by the system's resolver.
        max_pools: beyond this number of origins idle connections are closed, the longest unused first.
    """

    def __init__(
        self,
        policy: NetworkPolicy,
        *,
        ssl_context: ssl.SSLContext | None = None,
        trust: Trust | None = None,
        max_pools: int = _MAX_POOLS,
        names: NameLookups | None = None,
    ) -> None:
        self._dialler = Dialler(policy, names)
        if ssl_context is None:
            trust = trust or Trust()
            ssl_context = trust.context()
        self._trust, self._context = trust, ssl_context
        self._max_pools = max_pools
        self._pools: dict[Origin, _Pool] = {}
        # All idle connections, and where they belong; the longest unused is the first.
        self._idle: OrderedDict[Connection, _Pool] = OrderedDict()
        self._busy: set[Connection] = set()

    def __repr__(self) -> str:
        busy = sum(pool.requests for pool in self._pools.values())
        return f"<OriginPools origins={len(self._pools)} busy={busy}>"

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """As `open`, for clients of httpx."""
        progress = request.extensions.get(PROGRESS)
        if not isinstance(progress, RequestProgress):
            progress = RequestProgress()
        answer = await self._open(
            _origin(request.url),
            request.method.encode("ascii"),
            request.url.raw_path,
            request.headers.raw,
            await request.aread(),
            EachWait(request.extensions.get("timeout", {})),
            progress,
        )
        return httpx.Response(answer.status, headers=answer.headers, stream=answer)

    async def open(self, request: Request, limits: TimeLimits, progress: RequestProgress) -> "Answer":
        """Sends one request to its origin, and reads the head of the answer."""
        url = request.url
        return await self._open(
            (url.scheme, url.host, url.dialled_port),
            request.method.encode("ascii"),
            url.target.encode("ascii"),
            request.headers,
            request.body,
            limits,
            progress,
        )

    async def _open(
        self,
        origin: Origin,
        method: bytes,
        target: bytes,
        headers: Headers,
        body: bytes,
        limits: TimeLimits,
        progress: RequestProgress,
    ) -> "Answer":
        progress.possible = False
        if self._trust is not None:
            if self._trust.is_due:
                await in_thread(self._trust.context)
            self._context = self._trust.context()
        await self._close_unused()
        pool = await self._enter(origin, limits)
        connection: Connection | None = None
        try:
            connection = await self._connection(pool, limits)
            self._busy.add(connection)
            head = await connection.ask(method, target, headers, body, limits=limits, progress=progress)
        except BaseException:
            await self._leave(pool, connection)
            raise
        return Answer(self, pool, connection, limits, head)

    async def look_up(self, host: str) -> None:
        """Looks up a host's name, if its requests will need that. See `Dialler.look_up`."""
        await self._dialler.look_up(host)

    async def aclose(self) -> None:
        """Closes every connection, whatever is in flight on it."""
        for connection in [*self._idle, *self._busy]:
            await connection.cut()
        self._idle.clear()
        self._pools = {pool.origin: pool for pool in self._pools.values() if pool.requests}
        for pool in self._pools.values():
            pool.idle.clear()

    async def _enter(self, origin: Origin, limits: TimeLimits) -> _Pool:
        """Waits until there may be one more connection to an origin."""
        pool = self._pools.get(origin)
        if pool is None:
            pool = self._pools[origin] = _Pool(origin)
        pool.requests += 1
        try:
            pool.free.acquire_nowait()
        except anyio.WouldBlock:
            try:
                with limits.waiting("pool"):
                    await pool.free.acquire()
            except BaseException:
                pool.requests -= 1
                self._drop_if_empty(pool)
                raise
        return pool

    async def _connection(self, pool: _Pool, limits: TimeLimits) -> Connection:
        """The connection of a pool that has rested longest, if it can be trusted with a request; else a new one."""
        while pool.idle and anyio.current_time() - pool.idle[0].rested_at >= REST_SECONDS:
            connection = pool.idle.pop(0)
            del self._idle[connection]
            if self._is_good(connection) and not connection.is_disturbed:
                return connection
            await connection.aclose()
        if len(pool.idle) >= _MAX_CONNECTIONS_PER_ORIGIN:  # a crowd, faster than connections come to rest
            connection = pool.idle.pop(0)
            del self._idle[connection]
            await connection.aclose()
        return await self._dialler.connect(*pool.origin, self._context, limits)

    async def _leave(self, pool: _Pool, connection: Connection | None) -> None:
        """Ends one request's use of a pool."""
        try:
            if connection is not None:
                self._busy.discard(connection)
                if connection.rest() and self._is_good(connection):
                    pool.idle.append(connection)
                    self._idle[connection] = pool
                else:
                    await connection.aclose()
        finally:
            pool.requests -= 1
            pool.free.release()
            self._drop_if_empty(pool)

    def _is_good(self, connection: Connection) -> bool:
        """Whether a connection has not idled for long, and its server was verified as a new one's would be."""
        is_young = anyio.current_time() - connection.rested_at <= KEEPALIVE_SECONDS
        return is_young and connection.context is self._context

    async def _close_unused(self) -> None:
        """Closes idle connections that nobody would use, and of origins beyond the limit; and the oldest if they are many."""
        while self._idle:
            connection, pool = next(iter(self._idle.items()))
            is_fine = len(self._pools) <= self._max_pools and len(self._idle) <= _MAX_IDLE
            if is_fine and self._is_good(connection):
                break
            del self._idle[connection]
            pool.idle.remove(connection)
            self._drop_if_empty(pool)
            await connection.aclose()

    def _drop_if_empty(self, pool: _Pool) -> None:
        if not pool.requests and not pool.idle:
            self._pools.pop(pool.origin, None)


class Answer(httpx.AsyncByteStream):
    """An open answer; ends its request's use of the pool when it is closed. See `exchange.OpenAnswer`."""

    def __init__(
        self, pools: OriginPools, pool: _Pool, connection: Connection, limits: TimeLimits, head: AnswerHead
    ) -> None:
        self.status, self.headers = head.status, head.headers
        self._pools = pools
        self._pool = pool
        self._connection: Connection | None = connection
        self._limits = limits

    async def __aiter__(self) -> AsyncIterator[bytes]:
        while part := await self.read_part():
            yield part

    async def read_part(self) -> bytes:
        """The next part of the body; empty: it has ended, or was closed."""
        return b"" if self._connection is None else await self._connection.read_part(self._limits)

    async def aclose(self) -> None:
        """Ends the exchange."""
        connection, self._connection = self._connection, None
        if connection is not None:
            await self._pools._leave(self._pool, connection)  # noqa: SLF001 -- the two are one thing in two classes


def _origin(url: httpx.URL) -> Origin:
    if url.scheme not in DEFAULT_PORTS:
        raise httpx.UnsupportedProtocol("neither https nor http")
    host = url.raw_host.decode("ascii")  # `url.host` would decode what looks like an IDN, or raise
    return url.scheme, host, url.port or DEFAULT_PORTS[url.scheme]
