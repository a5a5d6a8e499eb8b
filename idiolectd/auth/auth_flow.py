"""One request of a client, up to its answer: every decision, and none of the work.

A generator that asks for one step after the other (`Step`) and is given what the step brought. So
there is one of it for asyncio, trio and threads, and no twin: `idiolectd.auth.session_auth` does what
is asked, in whichever way its caller can.

The way: load → check the host → (renew, if allowed and about to end) → make the body repeatable →
sign → send → judge. Refused for its nonce or its time: signed anew. Refused for its token: wait until the
*record* holds another, and repeat. Refused in words that may mean its token: look for a moment whether
the record holds another, else the refusal is the caller's. Rules:

* No lock is taken and no record written here, and no refresh token leaves.
* A request is repeated only after a refusal for its token or its proof: nothing was done then.
* A body that can be sent only once is sent only after the PDS has just taken token and nonce.
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
from idiolectd.http import GET_SESSION, origin
from idiolectd.oauth.proof_retry import ProofRetry
from idiolectd.policy import is_needed
from idiolectd.session import OAuthSession
from idiolectd.state import RefreshState, TokenTimes
from idiolectd.url import xrpc_url

T = TypeVar("T")

# Up to here a body is read into memory, so that it can be sent again. Above the largest blob that
# Bluesky's servers take for an image (1 MB); a video may as well be streamed.
_SMALL_BODY = 8 * 1024 * 1024

# Between looks at the record: a rotation is written some milliseconds after the server made it.
_FIRST_PAUSE, _LAST_PAUSE = 0.02, 0.25

# How long a refusal that may mean the token is kept from the caller: as long as a rotation takes to be
# written, on a slow disk.
_MOMENT = 1.0

# How many tokens one request is tried with: its first, the next one, and two more if the session was
# refreshed again just then. Whoever rotates faster than that is broken.
_TOKENS = 4

# The upstream CLI writes its file in place: what can't be read may be half-written.
_SECOND_LOOK = 1.0


@dataclass(frozen=True)
class Load:
    """Read the record. Brings the session; raises `NoSessionError`, `RecordError` or `StoreError`."""


@dataclass(frozen=True)
class Send:
    """Send a request. Brings the answer."""

    request: httpx.Request


@dataclass(frozen=True)
class ReadBody:
    """Read a request's body into memory."""

    request: httpx.Request


@dataclass(frozen=True)
class ReadBeginning:
    """Read what an answer says first. Brings it; the caller can still read all of it."""

    answer: httpx.Response


@dataclass(frozen=True)
class Pause:
    """Wait so many seconds."""

    seconds: float


@dataclass(frozen=True)
class Renew:
    """Refresh the session under the claim, if nobody else in this process is at it.

    Brings whether it was done here; raises what a refresh raises.

    Attributes:
        refused: the access token that the server does not take; None: it is only about to end.
    """

    refused: str | None = field(repr=False)


@dataclass(frozen=True)
class Explain:
    """Find out why no token is taken. Brings the `TokenRefused` to raise.

    Attributes:
        session: the one that was refused last.
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
        also: origins that get its token beside the PDS's.
        patience: how many seconds one request waits for a newer token, in all.
        refresh: whether this process may refresh.
    """

    also: frozenset[str]
    patience: float
    refresh: bool


class AuthFlow:
    """One request. `steps` runs once.

    Args:
        request: the client's. It is signed in place.
        options: what is allowed.
        servers: what is known of nonces and clocks.
        clock: ours.
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
        """All that has to be done, up to the answer that is the caller's.

        Raises:
            TokenWithheld: the URL is not the session's PDS; nothing was sent.
            TokenRefused: no stored token is taken.
            BodyUsedUp: the body went with a token or nonce that was changed just then.
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
        """Sends until the token is taken; returns the session whose it was."""
        while True:
            refusal = yield from self._sent(request, session, repeat=True)
            if refusal not in (TokenRefusal.TOKEN, TokenRefusal.PERHAPS):
                return session
            certain = refusal is TokenRefusal.TOKEN
            newer = yield from self._newer(session, certain=certain)
            if newer is None and certain:
                raise (yield Explain(session, len(self._refused), self._waited))
            if newer is None:
                return session  # for another reason, or none that could be told: the caller's to see
            session = newer

    def _answered_at_once(self, session: OAuthSession) -> Steps[None]:
        """Sends what can be sent only once, right after a question that costs nothing to repeat."""
        # Its time-outs are the request's own: nothing else of it belongs to the question.
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
        """Signs and sends; again if the answer brought the nonce or the time that was wrong."""
        check_destination(session, str(request.url), self._options.also)
        server = origin(str(request.url))
        retry = ProofRetry(lambda: (self._servers.nonce(server), self._servers.skew(server)))
        while True:
            sent_at = self._clock.now()
            self._sign(request, session, retry.nonce, sent_at + self._servers.skew(server))
            answer: httpx.Response = yield Send(request)
            if not _is_from(answer, server):
                return None  # the client followed a redirect: who answered knows nothing of the token
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
            refused: whose token was.
            certain: it was for the token; else the record is watched for a moment only.
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
        """A session with new tokens if they can be had; else this one, which still lives a little."""
        try:
            renewed = yield Renew(None)
        except (RefreshFailed, LockBusy):
            return session  # if the token is refused, it is tried again, and then the reason is told
        return (yield from self._load()) if renewed else session

    def _is_ending(self, session: OAuthSession) -> bool:
        now = self._clock.now()
        times = TokenTimes.of(session, RefreshState(), now)
        return is_needed(issued_at=times.issued_at, expires_at=times.expires_at, now=now)


def _is_from(answer: httpx.Response, server: str) -> bool:
    try:
        return origin(str(answer.url)) == server
    except NotSent:  # httpx takes URLs that are none here
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
