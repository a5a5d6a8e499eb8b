"""Decides how one request of a client is authorized, sent and repeated; does no I/O itself.

`AuthFlow.steps` is a generator: it yields one step after another (`Step`) and is sent each step's result.
`idiolectd.auth.session_auth` carries the steps out, with or without an event loop, so asyncio, trio and
threads share these decisions.

The order: load the session → check the host → (renew, if allowed and about to expire) → make the body
repeatable → sign → send → judge the answer. If the proof was refused for its nonce or its time, the request
is signed again. If the token was refused, the flow waits until the *record* holds another and repeats the
request. If the refusal may mean the token, the flow watches the record for a moment; if no other token
appears, the caller gets the refusal. Rules:

* No lock is taken, no record is written and no refresh token is sent here.
* A request is repeated only after its token or proof was refused: the PDS has done nothing then.
* A body that can be sent only once is sent only after the PDS has just accepted token and nonce.
"""

from collections.abc import Generator
from dataclasses import dataclass, field
from enum import Enum, auto
from typing import Any, TypeVar

import httpx

from idiolectd.auth.destination import check_destination
from idiolectd.auth.servers import Servers
from idiolectd.auth.signing import auth_headers
from idiolectd.auth.token_refusal import STATUSES, TokenRefusal, error_in, refusal_of
from idiolectd.clock import Clock
from idiolectd.errors import BodyUsedUp, LockBusy, NotSent, RecordError, RefreshFailed
from idiolectd.http import origin
from idiolectd.oauth import ProofRetry
from idiolectd.policy import is_needed
from idiolectd.session import OAuthSession
from idiolectd.state import RefreshState, TokenTimes
from idiolectd.url import GET_SESSION, xrpc_url

T = TypeVar("T")

# Bytes. Smaller bodies are read into memory, so that they can be sent again. The limit is above the largest
# image blob that Bluesky's servers accept (1 MB); videos are streamed.
_SMALL_BODY = 8 * 1024 * 1024

# Seconds between two reads of the record: a rotation is written some milliseconds after the server answered.
_FIRST_PAUSE, _LAST_PAUSE = 0.02, 0.25

# Seconds that the record is watched after a refusal that may mean the token: as long as a slow disk needs to
# write a rotation.
_MOMENT = 1.0

# How many tokens one request is tried with: the first, its successor, and two more in case that the session
# is refreshed again meanwhile. A session that rotates faster than that is broken.
_TOKENS = 4

# Seconds until an unreadable record is read again: the upstream CLI writes its file in place, so a read may
# find half of it.
_SECOND_LOOK = 1.0


@dataclass(frozen=True)
class Load:
    """Read the record. Its result is the session; raises `NoSessionError`, `RecordError` or `StoreError`."""


@dataclass(frozen=True)
class Send:
    """Send a request. Its result is the answer."""

    request: httpx.Request


@dataclass(frozen=True)
class ReadBody:
    """Read a request's body into memory."""

    request: httpx.Request


@dataclass(frozen=True)
class ReadBeginning:
    """Read the beginning of an answer's body, which is the result; the caller can still read all of it."""

    answer: httpx.Response


@dataclass(frozen=True)
class Pause:
    """Wait for `seconds`."""

    seconds: float


@dataclass(frozen=True)
class Renew:
    """Refresh the session under the claim, unless another request in this process does so already.

    Its result is whether this request refreshed it; raises what a refresh raises.

    Attributes:
        refused: the access token that the server refused; None: it is only about to expire.
    """

    refused: str | None = field(repr=False)


@dataclass(frozen=True)
class Explain:
    """Find out why no stored token is accepted. Its result is the `TokenRefused` to raise.

    Attributes:
        session: the session whose token was refused last.
        tokens: how many of its tokens were refused.
        waited: for how many seconds the record was watched.
    """

    session: OAuthSession
    tokens: int
    waited: float


Work = Load | ReadBody | ReadBeginning | Pause | Renew | Explain
Step = Send | Work
Steps = Generator[Step, Any, T]


@dataclass(frozen=True)
class AuthOptions:
    """What the program that uses `SessionAuth` allows.

    Attributes:
        also: origins besides the PDS's that may get the token.
        patience: how many seconds one request waits for a newer token, in all.
        refresh: whether this process may refresh.
    """

    also: frozenset[str]
    patience: float
    refresh: bool


class AuthFlow:
    """The flow of one request. Run `steps` only once.

    Args:
        request: the client's request; it is signed in place.
        options: what the client program allows.
        servers: the known nonces and clock differences.
        clock: the local clock.
    """

    def __init__(self, request: httpx.Request, options: AuthOptions, servers: Servers, clock: Clock) -> None:
        self._request = request
        self._options = options
        self._servers = servers
        self._clock = clock
        self._refused: set[str] = set()
        self._waited = 0.0
        self._may_renew = options.refresh

    def steps(self) -> Steps[None]:
        """Yields the request's steps, up to the answer that the caller gets.

        Raises:
            TokenWithheld: the URL is not the session's PDS; nothing was sent.
            TokenRefused: the PDS accepts no stored token.
            BodyUsedUp: the body was sent with a token or nonce that had just been replaced, and was refused.
            RefreshError, StoreError, SessionError: as the steps raise them.
        """
        session = yield from self._load()
        check_destination(session, str(self._request.url), self._options.also)
        if self._may_renew and self._is_ending(session):
            session = yield from self._renewed(session)
        match _body_of(self._request):
            case _RequestBody.REPEATABLE:
                yield from self._answered(self._request, session)
            case _RequestBody.SMALL:
                yield ReadBody(self._request)
                yield from self._answered(self._request, session)
            case _RequestBody.ONCE:
                yield from self._answered_at_once(session)

    # Sending ---------------------------------------------------------------------------------

    def _answered(self, request: httpx.Request, session: OAuthSession) -> Steps[OAuthSession]:
        """Sends the request until its token is accepted; returns the session whose token was accepted."""
        while True:
            refusal = yield from self._sent(request, session, repeat=True)
            if refusal not in (TokenRefusal.TOKEN, TokenRefusal.PERHAPS):
                return session
            certain = refusal is TokenRefusal.TOKEN
            newer = yield from self._newer(session, certain=certain)
            if newer is None and certain:
                raise (yield Explain(session, len(self._refused), self._waited))
            if newer is None:
                return session  # refused for another reason, or an unknown one: the caller gets the answer
            session = newer

    def _answered_at_once(self, session: OAuthSession) -> Steps[None]:
        """Sends a body that can be sent only once, right after a cheap request that tests the token."""
        # The test takes over the request's time-outs and nothing else.
        server = origin(str(self._request.url))
        question = httpx.Request("GET", xrpc_url(server, GET_SESSION), extensions=self._request.extensions)
        session = yield from self._answered(question, session)
        refusal = yield from self._sent(self._request, session, repeat=False)
        if refusal is TokenRefusal.PERHAPS and (yield from self._newer(session, certain=False)) is None:
            return
        if refusal is not None:
            what = "nonce" if refusal is TokenRefusal.NONCE else "token"
            raise BodyUsedUp(
                f"{server} refused the request for its {what}, and its body"
                " can't be sent a second time: send the request again (or give its content as bytes)"
            )

    def _sent(
        self, request: httpx.Request, session: OAuthSession, *, repeat: bool
    ) -> Steps[TokenRefusal | None]:
        """Signs and sends the request; again if the answer corrects the proof's nonce or time."""
        check_destination(session, str(request.url), self._options.also)
        server = origin(str(request.url))
        retry = ProofRetry(lambda: (self._servers.nonce(server), self._servers.skew(server)))
        while True:
            sent_at = self._clock.now()
            self._sign(request, session, retry.nonce, sent_at + self._servers.skew(server))
            answer: httpx.Response = yield Send(request)
            if not _is_from(answer, server):
                return None  # the client followed a redirect: this server was not sent the token
            self._servers.learn(server, answer, sent_at=sent_at, received_at=self._clock.now())
            if answer.status_code not in STATUSES:
                return None
            beginning: bytes = yield ReadBeginning(answer)
            error = error_in(answer, beginning)
            if repeat and session.kind == "dpop" and retry.is_called_for(answer.status_code, error):
                continue
            now = self._clock.now() + self._servers.skew(server)
            return refusal_of(answer, error, session, now=now)

    def _sign(self, request: httpx.Request, session: OAuthSession, nonce: str | None, now: float) -> None:
        request.headers.pop("DPoP", None)  # a login may have changed the kind of session
        request.headers.update(auth_headers(session, request.method, str(request.url), nonce=nonce, now=now))

    # The record ------------------------------------------------------------------------------

    def _load(self) -> Steps[OAuthSession]:
        session: OAuthSession
        try:
            session = yield Load()
        except RecordError:
            yield Pause(_SECOND_LOOK)
            session = yield Load()
        return session

    def _newer(self, refused: OAuthSession, *, certain: bool) -> Steps[OAuthSession | None]:
        """Waits until the record holds a token that was not refused yet; None: it does not in time.

        Args:
            refused: the session whose token was refused.
            certain: the token is the reason for certain; if not, the record is watched only for a moment.
        """
        self._refused.add(refused.access_jwt)
        if len(self._refused) == _TOKENS:
            return None
        pause = _FIRST_PAUSE
        until = self._options.patience if certain else min(self._options.patience, self._waited + _MOMENT)
        while True:
            session = yield from self._load()
            if session.access_jwt not in self._refused:
                return session
            if certain and self._may_renew and (yield Renew(session.access_jwt)):
                self._may_renew = False
                continue
            left = until - self._waited
            if left <= 0:
                return None
            yield Pause(min(pause, left))
            self._waited += min(pause, left)
            pause = min(pause * 1.5, _LAST_PAUSE)

    def _renewed(self, session: OAuthSession) -> Steps[OAuthSession]:
        """The session with new tokens if a refresh brings them; else this one, still valid for a while."""
        try:
            renewed = yield Renew(None)
        except (RefreshFailed, LockBusy):
            return session  # if the PDS refuses the token, another refresh is tried, and raises its reason
        return (yield from self._load()) if renewed else session

    def _is_ending(self, session: OAuthSession) -> bool:
        now = self._clock.now()
        times = TokenTimes.of(session, RefreshState(), now)
        return is_needed(issued_at=times.issued_at, expires_at=times.expires_at, now=now)


def _is_from(answer: httpx.Response, server: str) -> bool:
    try:
        return origin(str(answer.url)) == server
    except NotSent:  # httpx accepts URLs that `Url.parse` does not
        return False


class _RequestBody(Enum):
    """How often a request's body can be sent."""

    REPEATABLE = auto()
    SMALL = auto()  # once, and it fits into memory
    ONCE = auto()


def _body_of(request: httpx.Request) -> _RequestBody:
    if isinstance(request.stream, httpx.ByteStream):
        return _RequestBody.REPEATABLE
    length = request.headers.get("content-length", "")
    is_small = length.isascii() and length.isdigit() and int(length) <= _SMALL_BODY
    return _RequestBody.SMALL if is_small else _RequestBody.ONCE
