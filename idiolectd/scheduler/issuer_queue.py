"""A lane: everything that is to be sent to one server, in the order and at the pace it can take.

Pure state, driven by the scheduler. Times here are monotonic seconds: a lane's pauses must not
depend on a wall clock that somebody sets.
"""

import heapq
from collections import OrderedDict
from dataclasses import dataclass

from idiolectd.ports import ScheduleEntry

# So many different sessions that ran into trouble, and none that did not, say that it is the server's:
# what one account meets (its own rate limit, a firewall that dislikes its token) is that account's.
_TRIP = 3

# While it is in trouble, one session tries after 1, 2, 4 ... at most 60 s: soon enough to notice the
# recovery within a small part of any token's life, seldom enough to be no burden on a server that is down.
_LONGEST_PAUSE = 60.0

# A server that asks for more gets less: its clock or its proxy may be wrong, and tokens end.
_LONGEST_WISH = 3600.0

# What was known of a server is forgotten when nobody had anything for it for so long.
_FORGOTTEN = 600.0

# A wait too short to be worth sleeping; sums of floats never meet exactly.
_NOW = 0.001


@dataclass(frozen=True, kw_only=True)
class IssuerLimits:
    """What one issuer is sent at most.

    Attributes:
        concurrency: refreshes at a time.
        rate: refreshes a second.
    """

    concurrency: int = 8
    rate: float = 50.0


class IssuerQueue:
    """The queue, the pace and the breaker of one server.

    Attributes:
        name: the server's origin; or a directory of DIDs.
        limits: what it is sent at most.
        workers: how many tasks serve it now; the board counts.
        guests: how many sessions of other lanes are being sent to its server now.
        paused_until: nothing starts before; in the past: it is open.
        troubled: the server is known to be in trouble; one worker at a time tries it.
    """

    def __init__(self, name: str, limits: IssuerLimits) -> None:
        self.name = name
        self.limits = limits
        self.workers = 0
        self.guests = 0
        self.paused_until = 0.0
        self.troubled = False
        self._pauses = 0
        self._next_start = 0.0
        # Until when the server wants to be left alone, as each of the last few sessions in trouble heard it.
        self._wishes: OrderedDict[str, float] = OrderedDict()
        self._queue: list[tuple[int, float, str, ScheduleEntry]] = []

    def __len__(self) -> int:
        return len(self._queue)

    @property
    def wanted_workers(self) -> int:
        """How many tasks should serve it."""
        return max(0, min(self._concurrency - self.guests, len(self._queue) + self.workers))

    def is_forgettable(self, now: float) -> bool:
        """Whether nothing is to be done and nothing of it is worth remembering."""
        if self._queue or self.workers or self.guests:
            return False
        return not self._wishes or now > max(self.paused_until, self._next_start) + _FORGOTTEN

    def push(self, due: ScheduleEntry, strikes: int) -> None:
        """Queues a session; the one whose token ends first goes first.

        Those that ran into trouble go behind those that did not: a session that always does would
        else be the one that is tried in every pause, and the others behind it never.
        """
        heapq.heappush(self._queue, (strikes, due.expires_at, due.did, due))

    def wait(self, now: float) -> float | None:
        """Seconds until the next session may start; None if none is queued."""
        return self._wait(now) if self._queue else None

    def pop(self, now: float) -> ScheduleEntry:
        """Takes the next session out; the caller starts it now."""
        self._start(now)
        return heapq.heappop(self._queue)[-1]

    def admit(self, now: float) -> float:
        """Lets a session of another lane send to this server; returns for how many seconds not yet.

        A server's own sessions come first: guests have half of its places at most.
        """
        wait = self._wait(now)
        if wait == 0.0 and (
            self.guests >= max(1, self.limits.concurrency // 2)
            or self.workers + self.guests >= self._concurrency
        ):
            wait = 1.0
        if wait == 0.0:
            self._start(now)
            self.guests += 1
        return wait

    def succeeded(self) -> bool:
        """The server answered; returns whether that ends a trouble."""
        was_troubled, self.troubled = self.troubled, False
        self._pauses, self.paused_until = 0, 0.0
        self._wishes.clear()
        return was_troubled

    def failed(self, did: str, now: float, *, luck: float, retry_after: float | None = None) -> bool:
        """The server is not well, or asked for a pause; returns whether that starts a trouble.

        Args:
            did: the session that found out.
            now: monotonic time.
            luck: uniform in [0, 1).
            retry_after: the seconds it asked for. The session itself obeys; all do if all heard it.
        """
        if self.troubled and now < self.paused_until:
            return False  # it had been sent before: nothing that was not known
        self._wishes[did] = now + min(retry_after or 0.0, _LONGEST_WISH)
        self._wishes.move_to_end(did)
        if len(self._wishes) > _TRIP:
            self._wishes.popitem(last=False)
        if len(self._wishes) < _TRIP:
            return False
        pause = min(_LONGEST_PAUSE, 2.0**self._pauses) * (0.5 + luck / 2)
        self._pauses = min(self._pauses + 1, 16)
        self.paused_until = max(now + pause, min(self._wishes.values()))
        was_troubled, self.troubled = self.troubled, True
        return not was_troubled

    @property
    def _concurrency(self) -> int:
        return 1 if self.troubled else self.limits.concurrency

    def _wait(self, now: float) -> float:
        wait = max(self.paused_until, self._next_start) - now
        return wait if wait > _NOW else 0.0

    def _start(self, now: float) -> None:
        self._next_start = max(self._next_start, now) + 1.0 / self.limits.rate
