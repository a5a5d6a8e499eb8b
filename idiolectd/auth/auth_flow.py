"""Decides how one request of a client is authorized, sent and repeated; does no I/O itself.

`AuthFlow.steps` is a generator: it yields one step after another (`idiolectd.auth.steps`) and is sent each
step's result. An adapter for each HTTP library carries the steps out, with or without an event loop, so they
all share these decisions.

The order: load the session → check the host → (renew, if allowed and about to expire) → make the body
repeatable → sign → send → judge the answer. If the proof was refused for its nonce or its time, the request
is signed again. If the token was refused, the flow waits until the *record* holds another and repeats the
request. If the refusal may mean the token, the flow watches the record for a moment; if no other token
appears, the caller gets the refusal. Rules:

* No lock is taken, no record is written and no refresh token is sent here.
* A request is repeated only after its token or proof was refused: the PDS has done nothing then.
* A body that can be sent only once is sent only after the PDS has just accepted token and nonce.
"""

from dataclasses import dataclass

from idiolectd.auth.destination import check_target, parse_target
from idiolectd.auth.servers import Servers
from idiolectd.auth.signing import Credentials
from idiolectd.auth.steps import (
    Answer,
    Explain,
    Load,
    Pause,
    ReadBeginning,
    ReadBody,
    Renew,
    RequestBody,
    Send,
    Steps,
    Tell,
)
from idiolectd.auth.token_refusal import STATUSES, TokenRefusal, error_in, refusal_of
from idiolectd.clock import Clock
from idiolectd.errors import BodyUsedUp, LockBusy, RecordError, RefreshFailed, UrlError
from idiolectd.oauth import ProofRetry
from idiolectd.session import OAuthSession
from idiolectd.store import Standing
from idiolectd.url import GET_SESSION, Url, xrpc_url

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
        method: the request's method, in upper case.
        url: the request's URL.
        body: how often its body can be sent.
        options: what the client program allows.
        servers: the known nonces and clock differences.
        clock: the local clock.
    """

    def __init__(
        self,
        method: str,
        url: str,
        body: RequestBody,
        *,
        options: AuthOptions,
        servers: Servers,
        clock: Clock,
    ) -> None:
        self._method = method
        self._url = url
        self._body = body
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
        credentials = yield from self._load()
        target = parse_target(credentials.session.did, self._url)
        self._check(credentials, target)
        if self._may_renew and self._is_ending(credentials.session):
            credentials = yield from self._renewed(credentials)
        if self._body is RequestBody.ONCE:
            yield from self._answered_at_once(target, credentials)
            return
        if self._body is RequestBody.SMALL:
            yield ReadBody()
        yield from self._answered(target, credentials)

    # Sending ---------------------------------------------------------------------------------

    def _answered(
        self, target: Url, credentials: Credentials, probe: str | None = None
    ) -> Steps[Credentials]:
        """Sends the request until its token is accepted; returns whose token was accepted."""
        while True:
            refusal = yield from self._sent(target, credentials, probe, repeat=True)
            if refusal not in (TokenRefusal.TOKEN, TokenRefusal.PERHAPS):
                return credentials
            certain = refusal is TokenRefusal.TOKEN
            newer = yield from self._newer(credentials.session, certain=certain)
            if newer is None and certain:
                raise (yield Explain(credentials.session, len(self._refused), self._waited))
            if newer is None:
                return (
                    credentials  # refused for another reason, or an unknown one: the caller gets the answer
                )
            credentials = newer

    def _answered_at_once(self, target: Url, credentials: Credentials) -> Steps[None]:
        """Sends a body that can be sent only once, right after a cheap request that tests the token."""
        probe = xrpc_url(target.origin, GET_SESSION)
        credentials = yield from self._answered(Url.parse(probe), credentials, probe)
        refusal = yield from self._sent(target, credentials, None, repeat=False)
        if refusal is TokenRefusal.PERHAPS:
            newer = yield from self._newer(credentials.session, certain=False)
            if newer is None:
                return
        if refusal is not None:
            what = "nonce" if refusal is TokenRefusal.NONCE else "token"
            raise BodyUsedUp(
                f"{target.origin} refused the request for its {what}, and its body"
                " can't be sent a second time: send the request again (or give its content as bytes)"
            )

    def _sent(
        self, target: Url, credentials: Credentials, probe: str | None, *, repeat: bool
    ) -> Steps[TokenRefusal | None]:
        """Signs and sends the request, or a probe; again if the answer corrects the proof's nonce or time."""
        self._check(credentials, target)
        method = self._method if probe is None else "GET"
        server, servers, clock = target.origin, self._servers, self._clock
        retry = ProofRetry(lambda: (servers.nonce(server), servers.skew(server)))
        while True:
            sent_at = clock.now()
            headers = credentials.headers(method, target, retry.nonce, sent_at + servers.skew(server))
            answer: Answer = yield Send(headers, probe)
            if not _is_from(answer, server):
                return None  # the client followed a redirect: this server was not sent the token
            servers.learn(server, answer.headers, sent_at=sent_at, received_at=clock.now())
            if answer.status_code not in STATUSES:
                return None
            beginning: bytes = yield ReadBeginning(answer)
            error = error_in(answer, beginning)
            if (
                repeat
                and credentials.session.kind == "dpop"
                and retry.is_called_for(answer.status_code, error)
            ):
                continue
            now = clock.now() + servers.skew(server)
            return refusal_of(answer, error, credentials.session, now=now)

    def _check(self, credentials: Credentials, target: Url) -> None:
        check_target(credentials.session.did, credentials.home, target, self._options.also)

    # The record ------------------------------------------------------------------------------

    def _load(self) -> Steps[Credentials]:
        found: Credentials
        try:
            found = yield Load()
        except RecordError:
            yield Pause(_SECOND_LOOK)
            found = yield Load()
        return found

    def _newer(self, refused: OAuthSession, *, certain: bool) -> Steps[Credentials | None]:
        """Waits until the record holds a token that was not refused yet; None: it does not in time.

        Args:
            refused: the session whose token was refused.
            certain: the token is the reason for certain; if not, the record is watched only for a moment.
        """
        self._refused.add(refused.access_jwt)
        if len(self._refused) == _TOKENS:
            return None
        pause, told = _FIRST_PAUSE, False
        until = self._options.patience if certain else min(self._options.patience, self._waited + _MOMENT)
        while True:
            found = yield from self._load()
            token = found.session.access_jwt
            if token not in self._refused:
                return found
            if certain and self._may_renew and (yield Renew(token)):
                self._may_renew = False
                continue
            left = until - self._waited
            standing = Standing.in_entry(found.session)
            if left <= 0 or (standing is not None and standing.rests):
                return None
            if certain and standing is not None and not told and self._waited >= _MOMENT:
                told = True
                yield Tell(found.session)
            yield Pause(min(pause, left))
            self._waited += min(pause, left)
            pause = min(pause * 1.5, _LAST_PAUSE)

    def _renewed(self, known: Credentials) -> Steps[Credentials]:
        """Those of a refresh if it brings any; else the known ones, still valid for a while."""
        try:
            renewed = yield Renew(None)
        except (RefreshFailed, LockBusy):
            return known  # if the PDS refuses the token, another refresh is tried, and raises its reason
        return (yield from self._load()) if renewed else known

    def _is_ending(self, session: OAuthSession) -> bool:
        # Imported here: most programs leave refreshing to the daemon.
        from idiolectd.policy import is_needed
        from idiolectd.state import RefreshState, TokenTimes

        now = self._clock.now()
        times = TokenTimes.of(session, RefreshState(), now)
        return is_needed(issued_at=times.issued_at, expires_at=times.expires_at, now=now)


def _is_from(answer: Answer, server: str) -> bool:
    try:
        return Url.parse(str(answer.url).partition("?")[0]).origin == server
    except UrlError:  # HTTP libraries accept URLs that `Url.parse` does not
        return False


def body_of(length: str | None) -> RequestBody:
    """How often a body can be sent that the HTTP library itself can't repeat.

    Args:
        length: the request's ``Content-Length``, if it has one.
    """
    is_small = length is not None and length.isascii() and length.isdigit() and int(length) <= _SMALL_BODY
    return RequestBody.SMALL if is_small else RequestBody.ONCE
