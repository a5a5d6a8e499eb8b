"""One request, one whole answer, or an error that says whether anything was sent.

Works on a transport, not on an httpx client: so there are no redirects, no cookies, no environment
and no decoding that nobody asked for. Foreign exceptions end here; their texts don't travel on,
because they may quote a header, and headers hold tokens.
"""

import os
import re
import ssl
from collections.abc import Iterable, Mapping
from contextlib import suppress
from json import dumps
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self
from urllib.parse import quote_plus

import anyio
import anyio.lowlevel
import httpx

from idiolectd.clock import Clock
from idiolectd.errors import NotSent, Unclear
from idiolectd.finish import in_thread
from idiolectd.http.arrived import read_message, unpacked
from idiolectd.http.exchange import OpenAnswer, OverHttpx, Request, Transport
from idiolectd.http.guard import NetworkPolicy, check_url, origin
from idiolectd.http.origin_pools import OriginPools
from idiolectd.http.origin_state import Nonces, Skews
from idiolectd.http.plain import Headers
from idiolectd.http.rate_limits import RateLimits
from idiolectd.http.request_progress import RequestProgress
from idiolectd.http.response import CutOff, Response, http_date
from idiolectd.http.time_limits import WholeExchange
from idiolectd.outcome import Code
from idiolectd.url import Url

if TYPE_CHECKING:
    from idiolectd.events import EventSink

# An answer of the protocols spoken here has a few KiB; a DID document with many keys some dozen.
MAX_BODY = 256 * 1024

# What is kept of an answer as it came: such a body, a head, and what cuts a body into chunks.
_MAX_KEPT = MAX_BODY + 128 * 1024

# Seconds for everything together; then there is one last look (`RequestProgress`), five at most.
DEADLINE = 30.0

# Seconds. Each bounds one wait of the transport; a server that drips bytes is stopped by the deadline.
_PHASES = {"connect": 10.0, "write": 10.0, "read": 20.0, "pool": 10.0}

# A server may cut its answer into parts of one byte, of which thousands arrive at once; and reading such an
# answer a second time may take a second. Nobody else waits for either.
_PARTS_IN_A_ROW = 64
_READ_IN_PLACE = 16 * 1024

# What stands for itself in a form, as nearly every token does.
_UNRESERVED = re.compile(r"[A-Za-z0-9._~-]*", re.ASCII)

# They say how long their content is, also if there is none (RFC 9110, section 8.6).
_WITH_BODY = ("POST", "PUT", "PATCH")

_HEADERS = {"Accept": "application/json, */*;q=0.5", "Accept-Encoding": "identity", "User-Agent": "idiolectd"}


class HttpClient:
    """Sends requests, and remembers what servers' answers say about their clocks.

    Args:
        policy: where requests may go.
        clock: ours, to compare the servers' with.
        events: gets `ClockSkewed`.
        transport: how they get there; None: `OriginPools`. Closed with the client.

    Attributes:
        nonces: the newest DPoP nonce of each server, for whoever signs proofs to keep and find.
    """

    def __init__(
        self,
        *,
        policy: NetworkPolicy,
        clock: Clock,
        events: "EventSink",
        transport: httpx.AsyncBaseTransport | None = None,
    ) -> None:
        self._policy = policy
        self._clock = clock
        transport = transport if transport is not None else OriginPools(policy)
        self._transport = OverHttpx(transport)
        # What a refresh costs is decided here: httpx's objects are a third of a request. All else uses them.
        self._short_way: Transport = transport if isinstance(transport, OriginPools) else self._transport
        self._skews = Skews(events)
        self._rate_limits = RateLimits()
        self.nonces = Nonces()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc_value: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """Closes the transport."""
        await self._transport.aclose()

    def target(self, url: str | Url) -> Url:
        """A URL that a request may go to, as far as the URL itself tells. Whoever keeps it parses it once.

        Raises:
            NotSent: none may (code ``guard``).
        """
        return check_url(url, self._policy)

    def permits(self, url: str | Url) -> bool:
        """Whether a request may go to a URL, as far as the URL itself tells."""
        try:
            self.target(url)
        except NotSent:
            return False
        return True

    async def look_up(self, url: str | Url) -> None:
        """Looks up the name of a URL's host. For whoever has something to write down before a request.

        Raises:
            NotSent: nothing can be sent there now.
        """
        await self._transport.look_up(self.target(url).host)

    def skew(self, origin: str) -> float:
        """Seconds to add to our clock to get the server's; 0 if they agree or nothing is known."""
        return self._skews.of(origin)

    def allowed_rate(self, origin: str) -> float:
        """Requests a second that a server takes from us, as its answers say; infinite: they don't."""
        return self._rate_limits.allowed(origin, self._clock.now())

    def server_now(self, url: str | Url) -> float:
        """The time by the clock of the server behind a URL, as far as it is known."""
        return self._clock.now() + self._skews.of(origin(url))

    async def request(
        self,
        method: str,
        url: str | Url,
        *,
        headers: Mapping[str, str] | None = None,
        form: Mapping[str, str] | None = None,
        json: Mapping[str, Any] | None = None,
        deadline: float = DEADLINE,
    ) -> Response:
        """Sends one request, once, and reads the whole answer.

        Args:
            method: HTTP method.
            url: absolute; no secret belongs in it.
            headers: beyond the usual ones.
            form: the body, as ``application/x-www-form-urlencoded``: for OAuth's endpoints (RFC 6749, section 4).
            json: the body, as JSON. Neither: no body.
            deadline: seconds for everything together.

        Raises:
            NotSent: not one byte of the request left this machine.
            CutOff: the same, and a part of the answer is here.
            Unclear: there is no whole answer, and the server may have acted.
        """
        target = self.target(url)
        server = target.origin
        progress = RequestProgress(keep=_MAX_KEPT, looks=method == "POST")
        request = _request(method, target, headers or {}, form, json)
        transport = self._transport if form is None else self._short_way
        answered = await self._exchange(transport, request, progress, server, deadline)
        if isinstance(answered, Unclear):
            return await _recovered(progress, answered)
        if isinstance(answered, NotSent):
            raise answered
        return answered

    async def _exchange(
        self, transport: Transport, request: Request, progress: RequestProgress, server: str, deadline: float
    ) -> Response | NotSent | Unclear:
        sent_at = self._clock.now()
        response: Response | None = None
        with WholeExchange(_PHASES, deadline) as limits:
            try:
                answer = await transport.open(request, limits, progress)
                headers = _joined(answer.headers)
                answered_at = self._clock.now()
                self._skews.learn(server, headers, sent_at=sent_at, received_at=answered_at)
                self._rate_limits.learn(server, headers, answered_at)
                try:
                    response = await _read(answer, headers, progress, server)
                finally:
                    # A connection that breaks now, or a deadline that strikes, changes nothing:
                    # the answer is here, or the error is on its way.
                    with suppress(*_FOREIGN):
                        await answer.aclose()
            except _FOREIGN as error:
                return _translated(error, server, progress)
        if response is None and limits.too_late is not None:
            return _translated(limits.too_late, server, progress)
        if response is None:
            kind = Unclear if progress.possible else NotSent
            return kind("deadline", f"{server}: no whole answer within {deadline:g} s")
        return response


# What transports raise; OSError includes ssl.SSLError, which anyio lets through in mid-stream.
_FOREIGN: tuple[type[Exception], ...] = (
    httpx.HTTPError,
    httpx.StreamError,
    OSError,
    anyio.BrokenResourceError,
    anyio.ClosedResourceError,
    anyio.EndOfStream,
)

# The first match names what happened, and whether the transport vouches that nothing was sent.
_CODES: tuple[tuple[type[Exception], Code, bool], ...] = (
    (httpx.ConnectTimeout, Code.CONNECT_TIMEOUT, True),
    (httpx.ConnectError, Code.CONNECT, True),
    (httpx.PoolTimeout, Code.POOL, True),
    (httpx.UnsupportedProtocol, Code.GUARD, True),
    (httpx.ProxyError, Code.CONNECT, True),
    (httpx.ReadTimeout, Code.READ_TIMEOUT, False),
    (httpx.WriteTimeout, Code.WRITE_TIMEOUT, False),
    (httpx.ProtocolError, Code.PROTOCOL, False),
    (httpx.DecodingError, Code.PROTOCOL, False),
)

_TEXTS = {
    Code.CONNECT: "can't connect",
    Code.CONNECT_TIMEOUT: "no connection in time",
    Code.TLS: "TLS failed",
    Code.POOL: "all connections to it are busy",
    Code.GUARD: "not a URL that is used",
    Code.READ_TIMEOUT: "no answer in time",
    Code.WRITE_TIMEOUT: "it does not read the request",
    Code.RESET: "the connection broke",
    Code.PROTOCOL: "what came is no whole HTTP answer",
}


def _translated(error: Exception, server: str, progress: RequestProgress) -> NotSent | Unclear:
    code, unsent = Code.RESET, False
    for kind, name, vouched in _CODES:
        if isinstance(error, kind):
            code, unsent = name, vouched
            break
    detail = ""
    cause = _system_error(error)
    if isinstance(cause, ssl.SSLError):
        code = Code.TLS
        detail = getattr(cause, "verify_message", "") or cause.reason or ""
    elif cause is not None:
        detail = os.strerror(cause.errno) if cause.errno else ""
    made = NotSent if unsent or not progress.possible else Unclear
    return made(code, f"{server}: {_TEXTS[code]}" + (f" ({detail})" if detail else ""))


def _system_error(error: BaseException) -> OSError | None:
    """What the operating system or OpenSSL said, below the libraries' translations of it.

    A library that clears `__cause__` when it raises again leaves the context. Only of errors that have
    such a cause: the context of others is whatever the caller was busy with.
    """
    if not isinstance(error, httpx.NetworkError | OSError):
        return None
    below: BaseException | None = error
    found = None
    while below is not None:
        if isinstance(below, BaseExceptionGroup):  # several addresses, or happy eyeballs
            below = below.exceptions[0]
        if isinstance(below, OSError):
            found = below
            if below.errno is not None or isinstance(below, ssl.SSLError):
                break
        below = below.__cause__ or below.__context__
    return found


def _request(
    method: str,
    target: Url,
    headers: Mapping[str, str],
    form: Mapping[str, str] | None,
    json: Mapping[str, Any] | None,
) -> Request:
    """A request with all of its header fields.

    Raises:
        NotSent: it can't be sent. The libraries' own refusals would quote a value.
    """
    for name, value in headers.items():
        if not (value.isascii() and value.isprintable()):
            raise NotSent(Code.HEADER, f"{target.origin}: the value of {name} can't be sent in a header")
    fields = {"Host": target.authority, **_HEADERS, **headers}
    body = b""
    try:
        if form is not None:
            body = "&".join([f"{name}={_in_form(value)}" for name, value in form.items()]).encode()
            fields["Content-Type"] = "application/x-www-form-urlencoded"
        elif json is not None:
            body = dumps(json, ensure_ascii=False).encode()
            fields["Content-Type"] = "application/json"
    except UnicodeEncodeError:  # lone surrogates
        raise NotSent(
            Code.UNSENDABLE, f"{target.origin}: a value holds characters that can't be sent"
        ) from None
    if body or method in _WITH_BODY:
        fields["Content-Length"] = str(len(body))
    return Request(method, target, [(name.encode(), value.encode()) for name, value in fields.items()], body)


async def _read(
    answer: OpenAnswer, headers: Mapping[str, str], progress: RequestProgress, server: str
) -> Response:
    """The whole answer, or `Unclear` if it grows too large, packed or unpacked."""
    body, parts = bytearray(), 0
    while len(body) <= MAX_BODY and (part := await answer.read_part()):
        body += part
        parts += 1
        if not parts % _PARTS_IN_A_ROW:  # of what has arrived already, none needs a wait
            await anyio.lowlevel.checkpoint()
    progress.answered = True  # or more of it is not wanted
    response = _response(answer.status, headers, bytes(body))
    if response is None:
        raise _too_large(server)
    if progress.overrun and response.json_object() is None:  # its length may be less than what was sent
        await progress.last_look()
        response = (await _arrived(progress))[1] or response
    return response


async def _recovered(progress: RequestProgress, why: Unclear) -> Response:
    """The answer, if it had arrived whole when we looked away; else raises why there is none."""
    is_whole, response = await _arrived(progress)
    if response is None:
        raise why
    if not is_whole:
        raise CutOff(why.code, str(why), response)
    return response


async def _arrived(progress: RequestProgress) -> tuple[bool, Response | None]:
    """What came of an answer, if there is something to read, and whether its frame is whole."""
    raw = bytes(progress.arrived)
    message = read_message(raw) if len(raw) <= _READ_IN_PLACE else await in_thread(read_message, raw)
    if message is None:
        return False, None
    return message.is_whole, _response(message.status, _by_name(message.headers), message.body)


def _response(status: int, headers: Mapping[str, str], body: bytes) -> Response | None:
    """An answer without its content codings; None if it is too large then."""
    if len(body) <= MAX_BODY:
        body = unpacked(body, headers.get("content-encoding", ""), MAX_BODY)
    if len(body) > MAX_BODY:
        return None
    return Response(status, headers, body, date=http_date(headers.get("date", "")))


def _in_form(value: str) -> str:
    return value if _UNRESERVED.fullmatch(value) else quote_plus(value)


def _joined(headers: Headers) -> Mapping[str, str]:
    found = {name.decode("latin-1").lower(): _text(value) for name, value in headers}
    if len(found) == len(headers):
        return found
    return _by_name((name.decode("latin-1"), _text(value)) for name, value in headers)


def _text(value: bytes) -> str:
    try:
        return value.decode()
    except UnicodeDecodeError:
        return value.decode("latin-1")  # RFC 9110, section 5.5


def _by_name(headers: Iterable[tuple[str, str]]) -> Mapping[str, str]:
    """By name in lower case, values joined (RFC 9110, section 5.3)."""
    found: dict[str, list[str]] = {}
    for name, value in headers:
        found.setdefault(name.lower(), []).append(value)
    return {name: ", ".join(values) for name, values in found.items()}


def _too_large(server: str) -> Unclear:
    return Unclear(Code.TOO_LARGE, f"{server}: the answer is larger than {MAX_BODY} bytes")
