"""What servers' ``RateLimit`` headers say about how many more requests they take, for all who ask.

ATProto servers send ``RateLimit-Remaining`` and ``RateLimit-Reset`` (seconds since the epoch; the IETF's draft has
seconds from now). Which limit they speak of they do not say: of this address, or of the one account that was
asked about. An account's limit must not slow down the others. So the headers count only when several answers
in a row have counted down together to the same reset.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace

from idiolectd.foreign import number
from idiolectd.http.origin_state import ByOrigin

# So many answers in a row: a request that is repeated with a new nonce makes two.
_ANSWERS_OF_ALL = 4

# A smaller number is a duration, a greater one a time since the epoch.
_LONGEST_DURATION = 1e8

# Servers round the same reset differently, by so many seconds.
_SAME = 2.0


@dataclass(frozen=True)
class _Counter:
    """What the last answers said.

    Attributes:
        reset: when the server counts anew, by our clock.
        remaining: how many requests it takes until then.
        answers: how many answers in a row have counted down to this reset.
        is_of_all: it counts the requests of all accounts.
    """

    reset: float
    remaining: float
    answers: int = 1
    is_of_all: bool = False


class RateLimits:
    """The limits of all servers, as of their last answers."""

    def __init__(self) -> None:
        self._counters: ByOrigin[_Counter] = ByOrigin()

    def learn(self, origin: str, headers: Mapping[str, str], now: float) -> None:
        """Learns from an answer.

        Args:
            origin: who answered.
            headers: of the answer, found by their names in lower case.
            now: our clock, when the answer came.
        """
        remaining = number(headers.get("ratelimit-remaining", ""))
        reset = number(headers.get("ratelimit-reset", ""))
        if remaining is None or reset is None:
            return
        seen = _Counter(reset if reset > _LONGEST_DURATION else now + reset, max(0.0, remaining))
        known = self._counters.get(origin)
        if known is not None and abs(known.reset - seen.reset) <= _SAME:
            counted = known.answers + 1 if seen.remaining < known.remaining else 1
            is_of_all = known.is_of_all or counted >= _ANSWERS_OF_ALL
            seen = replace(seen, reset=known.reset, answers=counted, is_of_all=is_of_all)
        elif known is not None and now >= known.reset:
            seen = replace(seen, is_of_all=known.is_of_all)  # the same counter, begun anew
        self._counters.put(origin, seen)

    def allowed(self, origin: str, now: float) -> float:
        """Requests a second that a server takes until it counts anew; infinite: it has not said."""
        known = self._counters.get(origin)
        if known is None or not known.is_of_all or now >= known.reset:
            return math.inf
        return known.remaining / max(1.0, known.reset - now)
