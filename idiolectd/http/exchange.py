"""What `HttpClient` needs of a transport: a request goes out, and an open answer comes back.

Every transport of httpx does so through `OverHttpx`, which makes httpx's requests and answers for it: as costly as
everything else that a request needs. `OriginPools` offers it itself too, for the requests that a refresh consists of.
"""

from collections.abc import AsyncGenerator
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Protocol

import httpx

from idiolectd.http.plain import Headers
from idiolectd.http.request_progress import PROGRESS, RequestProgress
from idiolectd.http.time_limits import WholeExchange
from idiolectd.url import Url


@dataclass(frozen=True)
class Request:
    """A request with all of its header fields, `Host` and `Content-Length` among them."""

    method: str
    url: Url
    headers: Headers = field(repr=False)
    body: bytes = field(repr=False)


class OpenAnswer(Protocol):
    """The head of an answer, and its body that is still to be read. Close it."""

    @property
    def status(self) -> int:
        """As sent."""
        ...

    @property
    def headers(self) -> Headers:
        """As sent; names in whatever case."""
        ...

    async def read_part(self) -> bytes:
        """The next part of the body; empty: it has ended."""
        ...

    async def aclose(self) -> None:
        """Ends the exchange."""
        ...


class Transport(Protocol):
    """Sends requests. Raises what httpx's transports raise, and `NotSent`."""

    async def open(self, request: Request, limits: WholeExchange, progress: RequestProgress) -> OpenAnswer:
        """Sends one request, and reads the head of its answer."""
        ...

    async def look_up(self, host: str) -> None:
        """Looks up a host's name, if its requests will need that; raises `NotSent` if there is none."""
        ...

    async def aclose(self) -> None:
        """Closes every connection."""
        ...


class OverHttpx:
    """A transport of httpx as `HttpClient` uses it; it looks up names beforehand if it can."""

    def __init__(self, transport: httpx.AsyncBaseTransport) -> None:
        self._transport = transport

    async def open(self, request: Request, limits: WholeExchange, progress: RequestProgress) -> OpenAnswer:
        """See `Transport.open`."""
        sent = httpx.Request(
            request.method, _httpx_url(str(request.url)), headers=list(request.headers), content=request.body
        )
        sent.extensions |= {"timeout": limits.seconds, PROGRESS: progress}
        return _HttpxAnswer(await self._transport.handle_async_request(sent))

    async def look_up(self, host: str) -> None:
        """See `Transport.look_up`."""
        look_up = getattr(self._transport, "look_up", None)
        if look_up is not None:
            await look_up(host)

    async def aclose(self) -> None:
        """See `Transport.aclose`."""
        await self._transport.aclose()


class _HttpxAnswer:
    def __init__(self, answer: httpx.Response) -> None:
        if not isinstance(answer.stream, httpx.AsyncByteStream):
            raise TypeError("the transport is not asynchronous")
        self.status = answer.status_code
        self.headers = answer.headers.raw
        self._answer = answer
        self._parts = aiter(answer.stream)

    async def read_part(self) -> bytes:
        async for part in self._parts:
            if part:
                return part
        return b""

    async def aclose(self) -> None:
        # A generator that is left in the middle would be closed when it is collected, and its connection then.
        if isinstance(self._parts, AsyncGenerator):
            await self._parts.aclose()
        await self._answer.aclose()


# A URL costs httpx as much as all the rest of a request.
_httpx_url = lru_cache(maxsize=1024)(httpx.URL)
