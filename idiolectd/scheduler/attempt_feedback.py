"""Learns from each attempt: about its session, and about the server that it asked.

`SessionMemory` keeps what the process has to know of a session between two attempts and no durable state
says. `AttemptFeedback` fills it from the attempts, and tells the server's queue how the server is.

Schedules nothing: when a session is tried again, its durable state says.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

import anyio

from idiolectd import events, policy
from idiolectd.clock import Clock
from idiolectd.events import EventSink
from idiolectd.log import redacted_traceback
from idiolectd.outcome import Ambiguous, Current, Refreshed, Retry, Suspended
from idiolectd.refresh import AttemptResult
from idiolectd.scheduler.issuer_queue import IssuerQueue
from idiolectd.scheduler.issuer_queues import IssuerQueues
from idiolectd.session import OAuthSession
from idiolectd.state import shown


@dataclass
class RememberedSession:
    """What is remembered of one session.

    Attributes:
        token: the hash of the refresh token that it is about.
        not_before: monotonic time before which nothing is sent: a request may be in flight whose answer
            was lost, or our own code failed on the session.
        crashes: exceptions in a row.
        server_failures: failures of its server in a row that it met.
        suspended: a person must change something.
        forced: a person may have: it is tried once whatever its state says.
    """

    token: str
    not_before: float = -math.inf
    crashes: int = 0
    server_failures: int = 0
    suspended: bool = False
    forced: bool = False


_NOTHING = RememberedSession("")


class SessionMemory:
    """What is remembered of sessions, as far as there is something to remember.

    It belongs to the refresh token that is stored, and goes with it: a new login inherits no waits of the
    session before, and nothing is kept of a session that was logged out.
    """

    def __init__(self) -> None:
        self._remembered: dict[str, RememberedSession] = {}

    def __len__(self) -> int:
        return len(self._remembered)

    def of(self, did: str) -> RememberedSession:
        """What is remembered of a session, to be read only."""
        return self._remembered.get(did, _NOTHING)

    def of_token(self, did: str, token: str) -> RememberedSession:
        """What is remembered of a session with this token, to be changed; another token's is forgotten."""
        found = self._remembered.get(did)
        if found is None or found.token != token:
            found = self._remembered[did] = RememberedSession(token)
        return found

    def keep_only(self, did: str, token: str | None) -> None:
        """Forgets what is remembered of another token than the one that is stored now.

        Args:
            did: whose.
            token: its hash; None: nothing is stored, or nothing that will be tried again.
        """
        found = self._remembered.get(did)
        if found is not None and found.token != token:
            del self._remembered[did]

    def server_answered(self, did: str) -> None:
        """Ends the count of the server's failures on a session."""
        if did in self._remembered:
            self._remembered[did].server_failures = 0

    def forget(self, did: str) -> None:
        """Forgets a session: it is refreshed, or gone."""
        self._remembered.pop(did, None)

    def force_suspended(self) -> list[str]:
        """Has the suspended sessions tried once whatever their state says; returns whose they are."""
        suspended = [did for did, found in self._remembered.items() if found.suspended]
        for did in suspended:
            self._remembered[did].forced = True
        return suspended


class AttemptFeedback:
    """Learns from attempts.

    Args:
        memory: what is remembered of sessions.
        queues: the queues of the servers.
        clock: wall-clock time.
        emit: told when a server's trouble begins and ends, and of our own bugs.
        jitter: a source of numbers, uniform in [0, 1).
        allowed_rate: requests a second that a server says it takes; see `idiolectd.http.rate_limits`.
    """

    def __init__(
        self,
        memory: SessionMemory,
        queues: IssuerQueues,
        clock: Clock,
        emit: EventSink,
        jitter: Callable[[], float],
        allowed_rate: Callable[[str], float],
    ) -> None:
        self._allowed_rate = allowed_rate
        self._memory = memory
        self._issuer_queues = queues
        self._clock = clock
        self._emit = emit
        self._jitter = jitter

    def about_session(self, did: str, attempt: AttemptResult) -> None:
        """Remembers what matters for the session's next attempt; after a success, nothing does."""
        outcome = attempt.outcome
        if attempt.token is None or attempt.due is None or isinstance(outcome, Refreshed | Current):
            self._memory.forget(did)
            return
        known = self._memory.of_token(did, attempt.token)
        known.crashes, known.not_before = 0, -math.inf
        known.suspended = isinstance(outcome, Suspended)
        known.forced = known.forced and attempt.asked is None and isinstance(outcome, Retry)
        if isinstance(outcome, Ambiguous):
            # By a clock that nobody sets: until then the lost request may be in flight.
            known.not_before = anyio.current_time() + attempt.due.at - self._clock.now()

    def about_server(self, did: str, attempt: AttemptResult, queue: IssuerQueue) -> bool:
        """Tells the server's queue whether the server failed; an attempt that asked no server tells nothing.

        Returns whether a server was asked, and answered well.

        Args:
            did: whose attempt.
            attempt: how it ended.
            queue: the queue that it was started from.
        """
        if attempt.asked is None:
            return False
        if attempt.asked != queue.name:
            self._server_succeeded(queue)  # it was asked first, and let the session through to its issuer
        asked = self._issuer_queues.queue(attempt.asked)
        asked.pace.allowed = self._allowed_rate(asked.name)
        match attempt.outcome:
            case Retry(code, _, retry_after, issuer_wide) as retry if issuer_wide or retry_after:
                if retry.rate_limited:
                    asked.pace.refused(did, anyio.current_time())
                self._server_failed(did, attempt, asked, code, retry_after)
                return False
            case Ambiguous(code):
                self._server_failed(did, attempt, asked, code, None)
                return False
            case _:
                self._memory.server_answered(did)
                self._server_succeeded(asked)
                return True

    def about_crash(self, did: str, session: OAuthSession | None, error: Exception) -> float:
        """Reports that our own code failed on a session; returns for how many seconds to leave it alone.

        Args:
            did: whose session.
            session: its record; None: that can't be read.
            error: what was raised.
        """
        known = self._memory.of_token(did, session.refresh_token_hash if session is not None else "")
        known.crashes += 1
        pause = policy.retry_delay(attempts=known.crashes + 2, left=0.0, luck=self._jitter())
        known.not_before = anyio.current_time() + pause
        self._emit(
            events.SessionCrashed(
                **events.about_did(did, session),
                error=type(error).__name__,
                traceback=redacted_traceback(error),
                next_attempt_at=shown(self._clock.now() + pause),
            )
        )
        return pause

    def _server_succeeded(self, queue: IssuerQueue) -> None:
        if queue.succeeded():
            self._emit(events.IssuerResumed(issuer=queue.name))

    def _server_failed(
        self, did: str, attempt: AttemptResult, queue: IssuerQueue, code: str, retry_after: float | None
    ) -> None:
        if attempt.token is not None:
            self._memory.of_token(did, attempt.token).server_failures += 1
        now = anyio.current_time()
        if queue.failed(did, now, jitter=self._jitter(), retry_after=retry_after):
            self._emit(
                events.IssuerPaused(
                    issuer=queue.name,
                    code=code,
                    until=shown(self._clock.now() + queue.paused_until - now) or "",
                    waiting=len(queue),
                )
            )
