"""What an attempt teaches: of its session, which is remembered, and of the server that it asked.

Plans nothing: when a session is tried again, its durable state says.
"""

import math
from collections.abc import Callable

import anyio

from idiolectd import events, policy
from idiolectd.clock import Clock
from idiolectd.events import EventSink
from idiolectd.log import redacted_traceback
from idiolectd.outcome import Ambiguous, Current, Refreshed, Retry, Suspended
from idiolectd.refresh import AttemptResult
from idiolectd.scheduler.issuer_queue import IssuerQueue
from idiolectd.scheduler.issuer_queues import IssuerQueues
from idiolectd.scheduler.session_memory import SessionMemory
from idiolectd.state import shown


class AttemptFeedback:
    """Learns from attempts.

    Args:
        memory: of sessions.
        board: has the lanes of servers.
        clock: wall-clock time.
        emit: told when a server's trouble begins and ends, and of our own bugs.
        luck: a source of numbers in [0, 1).
    """

    def __init__(
        self,
        memory: SessionMemory,
        board: IssuerQueues,
        clock: Clock,
        emit: EventSink,
        luck: Callable[[], float],
    ) -> None:
        self._memory = memory
        self._issuer_queues = board
        self._clock = clock
        self._emit = emit
        self._luck = luck

    def of_session(self, did: str, attempt: AttemptResult) -> None:
        """What has to be remembered of a session until its next attempt; mostly nothing."""
        outcome = attempt.outcome
        if attempt.token is None or attempt.due is None or isinstance(outcome, Refreshed | Current):
            self._memory.forget(did)
            return
        known = self._memory.about(did, attempt.token)
        known.crashes, known.not_before = 0, -math.inf
        known.suspended = isinstance(outcome, Suspended)
        known.forced = known.forced and attempt.asked is None and isinstance(outcome, Retry)
        if isinstance(outcome, Ambiguous):
            # By a clock that nobody sets: until then the lost request may be in flight.
            known.not_before = anyio.current_time() + attempt.due.at - self._clock.now()

    def of_server(self, did: str, attempt: AttemptResult, queue: IssuerQueue) -> None:
        """What an outcome says of the server that was asked; what stands in a state says nothing.

        Args:
            did: whose attempt.
            attempt: how it ended.
            queue: the queue that it was made from.
        """
        if attempt.asked is None:
            return
        if attempt.asked != queue.name:
            self._is_well(queue)  # it was asked first, and let the session through to its issuer
        asked = self._issuer_queues.queue(attempt.asked)
        match attempt.outcome:
            case Retry(code, _, retry_after, issuer_wide) if issuer_wide or retry_after:
                self._is_troubled(did, attempt, asked, code, retry_after)
            case Ambiguous(code):
                self._is_troubled(did, attempt, asked, code, None)
            case _:
                self._memory.calm(did)
                self._is_well(asked)

    def of_crash(self, did: str, token: str, error: Exception) -> float:
        """Our own code failed on a session; returns for how many seconds it is left alone.

        Args:
            did: whose session.
            token: the hash of its stored refresh token; empty: that can't be read.
            error: what it raised.
        """
        known = self._memory.about(did, token)
        known.crashes += 1
        pause = policy.retry_delay(attempts=known.crashes + 2, left=0.0, luck=self._luck())
        known.not_before = anyio.current_time() + pause
        self._emit(
            events.SessionCrashed(
                did=did,
                error=type(error).__name__,
                traceback=redacted_traceback(error),
                next_attempt_at=shown(self._clock.now() + pause),
            )
        )
        return pause

    def _is_well(self, queue: IssuerQueue) -> None:
        if queue.succeeded():
            self._emit(events.IssuerResumed(issuer=queue.name))

    def _is_troubled(
        self, did: str, attempt: AttemptResult, queue: IssuerQueue, code: str, retry_after: float | None
    ) -> None:
        if attempt.token is not None:
            self._memory.about(did, attempt.token).strikes += 1
        now = anyio.current_time()
        if queue.failed(did, now, luck=self._luck(), retry_after=retry_after):
            self._emit(
                events.IssuerPaused(
                    issuer=queue.name,
                    code=code,
                    until=shown(self._clock.now() + queue.paused_until - now) or "",
                    waiting=len(queue),
                )
            )
