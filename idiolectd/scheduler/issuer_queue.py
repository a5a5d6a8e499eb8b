"""The queue of one server: what is due there, in which order, at which pace, and whether the server is well.

A server is an issuer's origin, a PDS's origin, or a directory of DIDs. Pure: the caller brings the time, in
monotonic seconds, because a pause must not depend on a wall clock that somebody sets. Knows nothing of
sessions but their schedule entries.
"""

import heapq
import math
from collections import OrderedDict

from idiolectd.ports import ScheduleEntry
from idiolectd.scheduler.pace import IssuerLimits, Pace
from idiolectd.scheduler.places import Rank

# How many different sessions must fail in a row, and none succeed in between, before the circuit breaker
# trips. What one account meets (a rate limit of its own, a firewall that dislikes its token) is that
# account's trouble, not the server's.
_FAILURES_TO_TRIP = 3

# While the breaker is tripped, one session tries after 1, 2, 4 ... at most so many seconds: soon enough to
# notice the recovery within a small part of any token's life, seldom enough for a server that is down.
_LONGEST_BACKOFF = 60.0

# A longer Retry-After is cut to so many seconds: the server's clock or its proxy may be wrong, and tokens end.
_LONGEST_RETRY_AFTER = 3600.0

# A server's failures are forgotten when nobody had anything for it for so many seconds.
_FORGOTTEN_AFTER = 600.0

# Sums of floats never meet exactly: a shorter wait, in seconds, is none.
_NOW = 0.001


# A server that has never answered is given so many sessions at a time: enough that one whose answer does not
# come holds up no other.
_AT_FIRST = 2


class IssuerQueue:
    """The queue, the pace and the circuit breaker of one server.

    Attributes:
        name: the server's origin, or a directory of DIDs.
        pace: how fast it is asked.
        in_flight: how many of its sessions are being worked on; `IssuerQueues` counts them.
        admitted: how many sessions of other queues are being sent to this server now; see `admit`.
        paused_until: nothing starts before; a time in the past: no pause.
        is_tripped: the circuit breaker has tripped: one session at a time tries the server.
        has_answered: it has answered, be it with an error.
        asked_again_at: when the next session will be started, as far as that waits for time to pass.
    """

    def __init__(self, name: str, limits: IssuerLimits, *, has_answered: bool = False) -> None:
        self.name = name
        self.pace = Pace(limits)
        self.in_flight = 0
        self.admitted = 0
        self.paused_until = 0.0
        self.is_tripped = False
        self.has_answered = has_answered
        self.asked_again_at = math.inf
        self._backoffs = 0
        # The sessions that failed last, at most `_FAILURES_TO_TRIP`, with the end of the Retry-After that each heard.
        self._failures: OrderedDict[str, float] = OrderedDict()
        self._queue: list[tuple[int, float, str, ScheduleEntry]] = []

    def __len__(self) -> int:
        return len(self._queue)

    @property
    def first(self) -> Rank | None:
        """What orders its next session among those of all servers; None: none waits."""
        return self._queue[0][:3] if self._queue else None

    def has_turn(self, now: float) -> bool:
        """Whether a session waits, and one more may be in flight."""
        return bool(self._queue) and self.in_flight + self.admitted < self._concurrency(now)

    def is_forgettable(self, now: float) -> bool:
        """Whether nothing is to be done for the server and nothing is worth remembering of it."""
        if self._queue or self.in_flight or self.admitted:
            return False
        if not self._failures and not self.pace.is_bound(now):
            return True
        return now > max(self.paused_until, now + self.pace.wait(now)) + _FORGOTTEN_AFTER

    def push(self, entry: ScheduleEntry, failures: int) -> None:
        """Queues a session by the end of its access token, behind those with fewer `failures` in a row.

        Else a session that always fails would be the one that is tried after every pause, and the others
        behind it never.
        """
        heapq.heappush(self._queue, (failures, entry.expires_at, entry.did, entry))

    def wait(self, now: float) -> float:
        """Seconds until the next session may start."""
        wait = max(self.paused_until - now, self.pace.wait(now))
        return wait if wait > _NOW else 0.0

    def pop(self, now: float) -> ScheduleEntry:
        """Takes out the session whose token ends first; the caller starts it now."""
        self.pace.start(now, len(self._queue))
        return heapq.heappop(self._queue)[-1]

    def admit(self, now: float) -> float:
        """Lets a session of another queue send to this server; returns for how many seconds not yet.

        At most half of the server's places are given to such sessions: its own come first. With 0.0 the
        place is taken, and the caller gives it back by `admitted`.
        """
        wait = self.wait(now)
        concurrency = self._concurrency(now)
        if wait == 0.0 and (
            self.admitted >= max(1, concurrency // 2) or self.in_flight + self.admitted >= concurrency
        ):
            wait = 1.0
        if wait == 0.0:
            self.pace.start(now, len(self._queue))
            self.admitted += 1
        return wait

    def succeeded(self) -> bool:
        """Resets the breaker, because the server answered; returns whether it was tripped."""
        was_tripped, self.is_tripped = self.is_tripped, False
        self._backoffs, self.paused_until = 0, 0.0
        self._failures.clear()
        return was_tripped

    def failed(self, did: str, now: float, *, jitter: float, retry_after: float | None = None) -> bool:
        """Counts a failure of the server, or a Retry-After of it; returns whether that trips the breaker.

        Args:
            did: the session that met it.
            now: monotonic time.
            jitter: uniform in [0, 1).
            retry_after: the seconds that the server asked for. The session waits for so long by its own
                state; the whole queue does only as long as all of the last failures were asked to.
        """
        if self.is_tripped and now < self.paused_until:
            return False  # it was sent before the pause: this says nothing new
        self._failures[did] = now + min(retry_after or 0.0, _LONGEST_RETRY_AFTER)
        self._failures.move_to_end(did)
        if len(self._failures) > _FAILURES_TO_TRIP:
            self._failures.popitem(last=False)
        if len(self._failures) < _FAILURES_TO_TRIP:
            return False
        backoff = min(_LONGEST_BACKOFF, 2.0**self._backoffs) * (0.5 + jitter / 2)
        self._backoffs = min(self._backoffs + 1, 16)
        self.paused_until = max(now + backoff, min(self._failures.values()))
        was_tripped, self.is_tripped = self.is_tripped, True
        return not was_tripped

    def _concurrency(self, now: float) -> int:
        if self.is_tripped:
            return 1
        concurrency = self.pace.concurrency(now, len(self._queue))
        return concurrency if self.has_answered else min(concurrency, _AT_FIRST)
