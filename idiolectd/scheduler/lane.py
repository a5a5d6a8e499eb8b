"""A lane: everything that is to be sent to one issuer, in the order and at the pace it can take.

Pure state, driven by the scheduler. Times here are monotonic seconds: a lane's pauses must not
depend on a wall clock that somebody sets.
"""

import heapq
from dataclasses import dataclass

from idiolectd.ports import Due

# So many failures in a row, of any sessions, say that the server itself is in trouble.
_TRIP = 3

# While it is, one session tries after 1, 2, 4 ... at most 60 s: soon enough to notice the recovery
# within a small part of any token's life, seldom enough to be no burden on a server that is down.
_LONGEST_PAUSE = 60.0

# A server that asks for more gets less: its clock or its proxy may be wrong, and tokens end.
_LONGEST_WISH = 3600.0


# A wait too short to be worth sleeping; sums of floats never meet exactly.
_NOW = 0.001


@dataclass(frozen=True, kw_only=True)
class LaneLimits:
    """What one issuer is sent at most.

    Attributes:
        concurrency: refreshes at a time.
        rate: refreshes a second.
    """

    concurrency: int = 8
    rate: float = 50.0


class Lane:
    """The queue, the pace and the breaker of one issuer.

    Attributes:
        name: the issuer, or the PDS's origin.
        workers: how many tasks serve it now; the scheduler counts.
        paused_until: nothing starts before; in the past: it is open.
        troubled: the server is known to be in trouble; one worker at a time tries it.
    """

    def __init__(self, name: str, limits: LaneLimits) -> None:
        self.name = name
        self.limits = limits
        self.workers = 0
        self.paused_until = 0.0
        self.troubled = False
        self._failures = 0
        self._next_start = 0.0
        self._strikes: dict[str, int] = {}
        self._queue: list[tuple[int, float, str, Due]] = []

    def __len__(self) -> int:
        return len(self._queue)

    @property
    def wanted_workers(self) -> int:
        """How many tasks should serve it."""
        return min(1 if self.troubled else self.limits.concurrency, len(self._queue) + self.workers)

    @property
    def is_idle(self) -> bool:
        """Whether it can be forgotten: nothing to do, nobody at work, no failure to remember."""
        return not (self._queue or self.workers or self._failures or self._strikes)

    def push(self, due: Due) -> None:
        """Queues a session; the one whose token ends first goes first.

        Those that ran into trouble go behind those that did not: a session that always does would
        else be the one that is tried in every pause, and the others behind it never.
        """
        heapq.heappush(self._queue, (self._strikes.get(due.did, 0), due.expires_at, due.did, due))

    def wait(self, now: float) -> float | None:
        """Seconds until the next session may start; None if none is queued."""
        if not self._queue:
            return None
        wait = max(self.paused_until, self._next_start) - now
        return wait if wait > _NOW else 0.0

    def pop(self, now: float) -> Due:
        """Takes the next session out; the caller starts it now."""
        self._next_start = max(self._next_start, now) + 1.0 / self.limits.rate
        return heapq.heappop(self._queue)[-1]

    def succeeded(self, did: str) -> bool:
        """The server answered this session; returns whether that ends a trouble."""
        self._strikes.pop(did, None)
        was_troubled, self.troubled = self.troubled, False
        self._failures, self.paused_until = 0, 0.0
        return was_troubled

    def failed(self, did: str, now: float, *, luck: float, retry_after: float | None = None) -> bool:
        """The server is not well, or asked for a pause; returns whether that starts a trouble.

        Args:
            did: the session that found out.
            now: monotonic time.
            luck: uniform in [0, 1).
            retry_after: the seconds it asked for.
        """
        self._strikes[did] = self._strikes.get(did, 0) + 1
        self._failures = min(self._failures + 1, _TRIP + 16)
        if retry_after is None and self._failures < _TRIP:
            return False
        pause = min(_LONGEST_PAUSE, 2.0 ** max(0, self._failures - _TRIP)) * (0.5 + luck / 2)
        wish = min(retry_after or 0.0, _LONGEST_WISH)
        self.paused_until = max(self.paused_until, now + max(pause, wish))
        was_troubled, self.troubled = self.troubled, True
        return not was_troubled
