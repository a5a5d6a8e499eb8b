"""Ways for a server, or whatever stands before it, to misbehave: one small function each.

An `Act` gets the request and a way to let the real server answer it, and answers as it likes. Whether
it lets the server act first is what decides if a session can be lost at all.
"""

import json
import zlib
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from email.utils import formatdate
from typing import Any

import anyio
import anyio.lowlevel
import httpx

from idiolectd.session import Kind
from tests.servers.traffic import REFRESH_PATHS

Serve = Callable[[], Awaitable[httpx.Response]]
Act = Callable[[httpx.Request, Serve, float], Awaitable[httpx.Response]]
Where = Callable[[httpx.Request], bool]

ELSEWHERE = "https://elsewhere.test"

_HTML = b"<!doctype html><title>Sign in to this network</title>"
_JSON = {"content-type": "application/json"}


class Misbehaving(httpx.AsyncBaseTransport):
    """Lets an `Act` have its way wherever it applies; none: the servers are well.

    Args:
        inner: the servers.
        now: true time.
    """

    def __init__(self, inner: httpx.AsyncBaseTransport, now: Callable[[], float]) -> None:
        self._inner, self._now = inner, now
        self.act: Act | None = None
        self.where: Where = at_refresh

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Serves one request."""

        async def serve() -> httpx.Response:
            return await self._inner.handle_async_request(request)

        if self.act is None or not self.where(request):
            return await serve()
        await anyio.lowlevel.checkpoint()
        return await self.act(request, serve, self._now())


# Where -------------------------------------------------------------------------------------------


def at_refresh(request: httpx.Request) -> bool:
    """The token endpoint and refreshSession."""
    return request.url.path in REFRESH_PATHS


def at_issuer_metadata(request: httpx.Request) -> bool:
    """The authorization server's metadata."""
    return request.url.path == "/.well-known/oauth-authorization-server"


def at_pds_metadata(request: httpx.Request) -> bool:
    """The PDS's metadata."""
    return request.url.path == "/.well-known/oauth-protected-resource"


def anywhere(_request: httpx.Request) -> bool:
    """Every request."""
    return True


# What: the server does not act -------------------------------------------------------------------


def says(status: int, body: bytes | Mapping[str, Any] = b"", **headers: str) -> Act:
    """A fixed answer; `_` in the names of headers stands for `-`."""

    async def act(_request: httpx.Request, _serve: Serve, _now: float) -> httpx.Response:
        return _answer(status, body, {name.replace("_", "-"): value for name, value in headers.items()})

    return act


def page(status: int) -> Act:
    """A captive portal's page."""
    return says(status, _HTML, content_type="text/html")


def limited(how: str, seconds: float) -> Act:
    """429, with the wish in one of the forms that are in use."""

    async def act(_request: httpx.Request, _serve: Serve, now: float) -> httpx.Response:
        wish = {
            "seconds": {"retry-after": f"{seconds:.0f}"},
            "date": {"retry-after": formatdate(now + seconds, usegmt=True)},
            "reset": {"ratelimit-reset": f"{int(now + seconds) + 1}", "ratelimit-remaining": "0"},
        }[how]
        body = {"error": "RateLimitExceeded", "message": "Rate Limit Exceeded"}
        return _answer(429, body, wish | {"date": formatdate(now, usegmt=True)})

    return act


def redirects(status: int) -> Act:
    """Says that it is all somewhere else now."""

    async def act(request: httpx.Request, _serve: Serve, _now: float) -> httpx.Response:
        return _answer(status, b"", {"location": f"{ELSEWHERE}{request.url.path}"})

    return act


def wants_nonces() -> Act:
    """Asks for a nonce every time, with another one each time, and never takes any."""
    serial = 0

    async def act(_request: httpx.Request, _serve: Serve, _now: float) -> httpx.Response:
        nonlocal serial
        serial += 1
        body = {"error": "use_dpop_nonce", "error_description": "Authorization server requires nonce"}
        return _answer(400, body, {"dpop-nonce": f"nonce-{serial}"})

    return act


def breaks(error: type[httpx.TransportError]) -> Act:
    """The connection fails before the server has acted."""

    async def act(request: httpx.Request, _serve: Serve, _now: float) -> httpx.Response:
        raise error("broken", request=request)

    return act


# What: the server acts, and its answer is bent ---------------------------------------------------


def bends(**changes: Any) -> Act:
    """The true answer with other members; None removes one. In OAuth's names."""

    async def act(request: httpx.Request, serve: Serve, _now: float) -> httpx.Response:
        response = await serve()
        if response.status_code != 200:
            return response
        body = json.loads(await response.aread())
        names = {"access_token": "accessJwt", "refresh_token": "refreshJwt", "sub": "did"}
        is_legacy = request.url.path.startswith("/xrpc/")
        for name, value in changes.items():
            member = names.get(name, name) if is_legacy else name
            body.pop(member, None)
            if value is not None:
                body[member] = value
        return _answer(200, body, _kept(response))

    return act


def instead(make: Callable[[bytes], bytes], *, status: int = 200, **headers: str) -> Act:
    """The true answer's body made into another."""

    async def act(_request: httpx.Request, serve: Serve, _now: float) -> httpx.Response:
        response = await serve()
        if response.status_code != 200:
            return response
        bent = {name.replace("_", "-"): value for name, value in headers.items()}
        return _answer(status, make(await response.aread()), _kept(response) | bent)

    return act


def swallowed(after: Act) -> Act:
    """The server acts, and what arrives is another act's answer."""

    async def act(request: httpx.Request, serve: Serve, now: float) -> httpx.Response:
        response = await serve()
        # What was refused (for its nonce, say) did not act.
        return response if response.status_code != 200 else await after(request, serve, now)

    return act


def streams(head: bytes, part: bytes, *, pause: float = 0.0, status: int = 200) -> Act:
    """An answer without end: `head`, then `part` for ever."""

    async def act(_request: httpx.Request, _serve: Serve, _now: float) -> httpx.Response:
        return httpx.Response(status, headers=_JSON, stream=_Endless(head, part, pause))

    return act


def bomb(size: int) -> bytes:
    """A few KiB that unpack to so many bytes."""
    packer = zlib.compressobj(9, zlib.DEFLATED, zlib.MAX_WBITS | 16)
    return packer.compress(b" " * size) + packer.flush()


def kinds_of(where: Where) -> tuple[Kind, ...]:
    """Which sessions ever ask there: only OAuth looks for metadata."""
    return ("dpop",) if where in (at_issuer_metadata, at_pds_metadata) else ("dpop", "bearer")


class _Endless(httpx.AsyncByteStream):
    def __init__(self, head: bytes, part: bytes, pause: float) -> None:
        self._head, self._part, self._pause = head, part, pause

    async def __aiter__(self) -> AsyncIterator[bytes]:
        yield self._head
        while True:
            await anyio.sleep(self._pause)
            yield self._part


def _answer(status: int, body: bytes | Mapping[str, Any], headers: Mapping[str, str]) -> httpx.Response:
    if isinstance(body, bytes):
        return httpx.Response(status, headers=headers, content=body)
    return httpx.Response(status, headers=_JSON | dict(headers), content=json.dumps(body).encode())


def _kept(response: httpx.Response) -> dict[str, str]:
    """The headers that a bent answer keeps: the nonce, and the server's clock."""
    return {name: response.headers[name] for name in ("dpop-nonce", "date") if name in response.headers}
