"""How fast one server is asked: as its sessions need, within what it allows.

Without a configured rate it is `USUAL_RATE` a second, or more if what is due in the next minutes, or waits
already, needs more. The server's own ``RateLimit`` headers bound either, and so does each refusal with 429: it
halves what was sent, and the bound doubles every minute without another one.

How many sessions there are is not asked: the schedule says what they need, whatever their tokens' lives.

Pure: the caller brings the time, in monotonic seconds.
"""

import math
from collections import deque
from dataclasses import dataclass

# Refreshes a second, and at a time, that a server is sent when nothing is configured and no more are needed. A
# household of accounts needs one in some minutes; a small PDS takes as many with one processor.
USUAL_RATE = 50.0
USUAL_CONCURRENCY = 8

# At a higher rate there are more at a time, in proportion, up to so many.
_MOST_CONCURRENCY = 64

# What waits is to be through within so many seconds.
_DRAIN = 20.0

# The rate that the schedule needs, and this part more: the draws of due times are not even.
_MARGIN = 1.25

# A bound that a refusal set doubles in so many seconds, and is at least so many refreshes a second: below it,
# Retry-After and the circuit breaker are what helps.
_DOUBLING = 60.0
_LOWEST_BOUND = 1.0
_MOST_DOUBLINGS = 30.0

# Whatever a server says, one refresh in so many seconds is sent: it tells whether that still holds.
_LOWEST_RATE = 1 / 20

# How many of the last starts tell the rate that was sent.
_MEASURED = 64

# So many seconds of a rate may go out at once, if nothing was sent before.
_BURST = 0.1


@dataclass(frozen=True, kw_only=True)
class IssuerLimits:
    """What one server is sent at most.

    Attributes:
        concurrency: refreshes at a time; None: as many as the rate needs.
        rate: refreshes a second; None: as many as its sessions need.
    """

    concurrency: int | None = None
    rate: float | None = None


class Pace:
    """The rate of one server.

    Args:
        limits: as configured.

    Attributes:
        limits: the same; may be replaced.
        planned: refreshes a second that the schedule needs in the next minutes.
        allowed: refreshes a second that the server's headers allow; infinite: they say nothing.
    """

    def __init__(self, limits: IssuerLimits) -> None:
        self.limits = limits
        self.planned = 0.0
        self.allowed = math.inf
        self._next_start = -math.inf
        self._starts: deque[float] = deque(maxlen=_MEASURED)
        self._bound, self._bound_at = math.inf, 0.0
        self._refused = ""

    def most(self, now: float) -> float:
        """Refreshes a second that may be sent, however many are needed."""
        configured = math.inf if self.limits.rate is None else self.limits.rate
        return max(_LOWEST_RATE, min(configured, self.allowed, self._bounded(now)))

    def limited_by(self, now: float) -> str:
        """What `most` follows from."""
        if self._bounded(now) <= self.most(now):
            return "status_429"
        return "ratelimit_headers" if self.allowed <= self.most(now) else "refresh.rate"

    def rate(self, now: float, waiting: int) -> float:
        """Refreshes a second that are sent.

        Args:
            now: when.
            waiting: how many sessions wait for their turn.
        """
        wanted = max(USUAL_RATE, self._needed(waiting)) if self.limits.rate is None else self.limits.rate
        return min(wanted, self.most(now))

    def concurrency(self, now: float, waiting: int) -> int:
        """How many refreshes may be in flight."""
        if self.limits.concurrency is not None:
            return self.limits.concurrency
        needed = USUAL_CONCURRENCY * min(self._needed(waiting), self.most(now)) / USUAL_RATE
        return int(min(_MOST_CONCURRENCY, max(USUAL_CONCURRENCY, needed)))

    def is_bound(self, now: float) -> bool:
        """Whether a refusal still bounds the rate below the usual one."""
        return self._bounded(now) < USUAL_RATE

    def wait(self, now: float) -> float:
        """Seconds until the next refresh may start."""
        return self._next_start - now

    def start(self, now: float, waiting: int) -> None:
        """One starts now."""
        self._starts.append(now)
        rate = self.rate(now, waiting)
        burst = int(rate * _BURST)
        self._next_start = max(self._next_start, now - burst / rate) + 1.0 / rate

    def refused(self, did: str, now: float) -> None:
        """Halves the rate that was sent: the server wants to be asked less often (429).

        Args:
            did: who heard it. The limit of one account is no limit of the server: an account that hears it
                again and again does not count twice.
            now: when.
        """
        if did == self._refused:
            return
        self._refused = did
        sent = (len(self._starts) - 1) / max(1.0, now - self._starts[0]) if self._starts else 0.0
        self._bound, self._bound_at = max(_LOWEST_BOUND, min(sent, self.most(now)) / 2), now

    def _needed(self, waiting: int) -> float:
        return max(self.planned * _MARGIN, waiting / _DRAIN)

    def _bounded(self, now: float) -> float:
        return self._bound * math.exp2(min((now - self._bound_at) / _DOUBLING, _MOST_DOUBLINGS))
