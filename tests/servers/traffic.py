"""Every request that leaves the house, and the rule about sending a refresh token more than once.

Knows both protocols well enough to see which request carries which token, and judges with eyes of its
own: nothing of the package under test is asked.
"""

import json
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Collection, Iterable
from dataclasses import dataclass, field
from typing import Any, Literal
from urllib.parse import parse_qs

import httpx

REFRESH_PATHS = ("/oauth/token", "/xrpc/com.atproto.server.refreshSession")
_PROBE_PATH = "/xrpc/com.atproto.server.getSession"

# Between the note and the first byte no time passes here, but floats never meet exactly.
_ROUNDING = 0.01

What = Literal["refresh", "probe", "other"]


@dataclass
class Sent:
    """One request.

    Attributes:
        what: which kind.
        at: when it left, true time.
        host: where it went.
        path: as sent.
        token: the refresh or access token that it carried.
        status: of the answer's head; None: there was none.
        body: what of the answer's body has arrived.
        whole: the whole answer has.
        life: which of the processes sent it; counted by whoever restarts them.
        has_left: False: there was no connection to send it on.
    """

    what: What
    at: float
    host: str
    path: str
    token: str | None
    life: int = 0
    status: int | None = None
    body: bytes = b""
    whole: bool = False
    has_left: bool = True

    @property
    def new_refresh_token(self) -> str | None:
        """The refresh token that a whole answer brought."""
        if not self.whole or self.status != 200 or self.what != "refresh":
            return None
        found = self._answer.get("refresh_token") or self._answer.get("refreshJwt")
        return found if isinstance(found, str) else None

    @property
    def _answer(self) -> dict[str, Any]:
        try:
            answer = json.loads(self.body.decode("utf-8-sig"))
        except ValueError:
            return {}
        return answer if isinstance(answer, dict) else {}

    @property
    def is_unclear(self) -> bool:
        """Whether nobody can say if the server took the refresh token."""
        if not self.whole or self.status is None:
            return True
        if 200 <= self.status < 300:
            # An access token alone is an answer too (RFC 6749, section 6): the old one goes on.
            return self.new_refresh_token is None and not self._answer.get("access_token")
        return self.status >= 500 and self.status not in (500, 503)


@dataclass
class Watched(httpx.AsyncBaseTransport):
    """Passes requests on and keeps what was said.

    Attributes:
        inner: who carries them.
        now: true time.
        sent: all of them, in order.
        life: the process that sends now.
    """

    inner: httpx.AsyncBaseTransport
    now: Callable[[], float]
    sent: list[Sent] = field(default_factory=list)
    life: int = 0

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Serves one request."""
        what: What = "other"
        token = None
        if request.url.path in REFRESH_PATHS:
            what, token = "refresh", _refresh_token(request)
        elif request.url.path == _PROBE_PATH:
            what, token = "probe", request.headers.get("authorization", " ").split(" ")[-1]
        sent = Sent(what, self.now(), request.url.host, request.url.path, token, self.life)
        self.sent.append(sent)
        try:
            response = await self.inner.handle_async_request(request)
        except httpx.ConnectError:
            sent.has_left = False
            raise
        sent.status = response.status_code
        assert isinstance(response.stream, httpx.AsyncByteStream)
        response.stream = _Listening(response.stream, sent)
        return response

    def refreshes(self, since: float = 0.0) -> list[Sent]:
        """The requests that carried a refresh token."""
        return [sent for sent in self.sent if sent.what == "refresh" and sent.at >= since]

    def to(self, host: str) -> list[Sent]:
        """The requests to one host."""
        return [sent for sent in self.sent if sent.host == host]

    @property
    def arrived(self) -> dict[str, Sent]:
        """Every refresh token that came in a whole answer, with the request that brought it."""
        return {token: sent for sent in self.sent if (token := sent.new_refresh_token) is not None}


class _Listening(httpx.AsyncByteStream):
    """A body that is overheard."""

    # Nobody needs more of an endless one.
    _ENOUGH = 65_536

    def __init__(self, inner: httpx.AsyncByteStream, sent: Sent) -> None:
        self._inner, self._sent = inner, sent

    async def __aiter__(self) -> AsyncIterator[bytes]:
        parts = aiter(self._inner)
        try:
            async for part in parts:
                if len(self._sent.body) < self._ENOUGH:
                    self._sent.body += part
                yield part
        finally:  # whoever has heard enough closes this, and so that
            if isinstance(parts, AsyncGenerator):
                await parts.aclose()
        self._sent.whole = True

    async def aclose(self) -> None:
        await self._inner.aclose()


def broken_rules(
    sent: Iterable[Sent],
    *,
    settle: float,
    lost: Collection[str] = (),
    excused: Callable[[float, float], bool] = lambda _a, _b: False,
) -> list[str]:
    """What is wrong with the order in which OAuth refresh tokens were sent; empty: nothing.

    A token that brought new ones is never sent again. One that was refused may be: a refusal is no
    verdict, and consumes nothing. One without a clear
    answer may be sent again after the settling time, and only once the PDS was asked meanwhile.

    Args:
        sent: the traffic, in order.
        settle: seconds.
        lost: new tokens that arrived in a process which died of something else: unclear to the next one.
        excused: told the times of two sendings; True: the time between can't be held against us.
    """
    wrong: list[str] = []
    ended: dict[str, Sent] = {}
    unclear: dict[str, Sent] = {}
    asked_at = 0.0
    for one in sent:
        if one.what == "probe":
            asked_at = one.at
        if one.path != "/oauth/token" or one.token is None or not one.has_left:
            continue
        token, shown = one.token, one.token[:12]
        if token in ended:
            wrong.append(f"{shown} sent again at {one.at:.1f}, though it had ended at {ended[token].at:.1f}")
        if token in unclear:
            first = unclear.pop(token)
            if one.at - first.at < settle - _ROUNDING and not excused(first.at, one.at):
                wrong.append(f"{shown} sent again {one.at - first.at:.1f} s after an unclear answer")
            if asked_at < first.at:
                wrong.append(f"{shown} sent again without asking the PDS first")
        if one.is_unclear or one.new_refresh_token in lost:
            unclear[token] = one
        elif one.new_refresh_token not in (None, token):
            ended[token] = one
    return wrong


def _refresh_token(request: httpx.Request) -> str | None:
    if request.url.path == "/oauth/token":
        return parse_qs(request.content.decode()).get("refresh_token", [None])[0]
    return request.headers.get("authorization", "").removeprefix("Bearer ") or None
