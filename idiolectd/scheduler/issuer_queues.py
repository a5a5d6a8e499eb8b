"""One queue per server: what is due waits there for its turn, and goes out at the pace the server can take.

A server is an issuer's origin, a PDS's origin, or a directory of DIDs. Its `IssuerQueue` orders the due
sessions by the end of their access tokens and holds what limits their sending: a number of refreshes at a
time, a rate, the server's own Retry-After, and a circuit breaker. `IssuerQueues` has all of them, and runs
worker tasks for those that have something to do.

Knows nothing of sessions: what is done with an entry whose turn has come is given. Times are monotonic
seconds here: a pause must not depend on a wall clock that somebody sets.
"""

import heapq
import math
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import anyio
from anyio.abc import TaskGroup

from idiolectd.ports import NO_SERVER, ScheduleEntry
from idiolectd.refresh import Admission
from idiolectd.scheduler.due_queue import LONGEST_SLEEP

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

# A queue holds what its server can take within so many seconds; what else is due stays in the store's
# index. All queues together hold `_MOST_QUEUED`; beyond that each has room for `_ALWAYS_ROOM`, so that a
# crowd at one server keeps nobody else out.
_QUEUE_SECONDS = 200.0
_MOST_QUEUED = 100_000
_ALWAYS_ROOM = 100


@dataclass(frozen=True, kw_only=True)
class IssuerLimits:
    """What one server is sent at most.

    Attributes:
        concurrency: refreshes at a time.
        rate: refreshes a second.
    """

    concurrency: int = 8
    rate: float = 50.0


# Looking at a record asks no server: only the store limits it.
_NO_SERVER_LIMITS = IssuerLimits(concurrency=8, rate=math.inf)


class IssuerQueue:
    """The queue, the pace and the circuit breaker of one server. Pure: the caller brings the time.

    Attributes:
        name: the server's origin, or a directory of DIDs.
        limits: what it is sent at most.
        workers: how many tasks serve the queue now; `IssuerQueues` counts them.
        admitted: how many sessions of other queues are being sent to this server now; see `admit`.
        paused_until: nothing starts before; a time in the past: no pause.
        is_tripped: the circuit breaker has tripped: one worker at a time tries the server.
    """

    def __init__(self, name: str, limits: IssuerLimits) -> None:
        self.name = name
        self.limits = limits
        self.workers = 0
        self.admitted = 0
        self.paused_until = 0.0
        self.is_tripped = False
        self._backoffs = 0
        self._next_start = 0.0
        # The sessions that failed last, at most `_FAILURES_TO_TRIP`, with the end of the Retry-After that each heard.
        self._failures: OrderedDict[str, float] = OrderedDict()
        self._queue: list[tuple[int, float, str, ScheduleEntry]] = []

    def __len__(self) -> int:
        return len(self._queue)

    @property
    def wanted_workers(self) -> int:
        """How many tasks should serve the queue."""
        return max(0, min(self._concurrency - self.admitted, len(self._queue) + self.workers))

    def is_forgettable(self, now: float) -> bool:
        """Whether nothing is to be done for the server and nothing is worth remembering of it."""
        if self._queue or self.workers or self.admitted:
            return False
        return not self._failures or now > max(self.paused_until, self._next_start) + _FORGOTTEN_AFTER

    def push(self, entry: ScheduleEntry, failures: int) -> None:
        """Queues a session by the end of its access token, behind those with fewer `failures` in a row.

        Else a session that always fails would be the one that is tried after every pause, and the others
        behind it never.
        """
        heapq.heappush(self._queue, (failures, entry.expires_at, entry.did, entry))

    def wait(self, now: float) -> float | None:
        """Seconds until the next session may start; None if none is queued."""
        return self._wait(now) if self._queue else None

    def pop(self, now: float) -> ScheduleEntry:
        """Takes out the session whose token ends first; the caller starts it now."""
        self._start(now)
        return heapq.heappop(self._queue)[-1]

    def admit(self, now: float) -> float:
        """Lets a session of another queue send to this server; returns for how many seconds not yet.

        At most half of the server's places are given to such sessions: its own come first. With 0.0 the
        place is taken, and the caller gives it back by `admitted`.
        """
        wait = self._wait(now)
        if wait == 0.0 and (
            self.admitted >= max(1, self.limits.concurrency // 2)
            or self.workers + self.admitted >= self._concurrency
        ):
            wait = 1.0
        if wait == 0.0:
            self._start(now)
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

    @property
    def _concurrency(self) -> int:
        return 1 if self.is_tripped else self.limits.concurrency

    def _wait(self, now: float) -> float:
        wait = max(self.paused_until, self._next_start) - now
        return wait if wait > _NOW else 0.0

    def _start(self, now: float) -> None:
        self._next_start = max(self._next_start, now) + 1.0 / self.limits.rate


Work = Callable[[ScheduleEntry, IssuerQueue], Awaitable[None]]


class IssuerQueues:
    """The queues of all servers, and the worker tasks that serve them.

    A queue's workers exist only while it has something to do.

    Args:
        limits: what one server is sent at most.
        failures: how many times in a row a session's server failed on it.
        work: what is done with an entry whose turn has come.

    Attributes:
        in_flight: the sessions that are being worked on.
        tasks: where the workers run; set before anything is added.
    """

    tasks: TaskGroup

    def __init__(self, limits: IssuerLimits, failures: Callable[[str], int], work: Work) -> None:
        self.in_flight: set[str] = set()
        self._limits = limits
        self._failures_of = failures
        self._work = work
        self._queues: dict[str, IssuerQueue] = {}
        self._queued: set[str] = set()
        self._overflowed: set[str] = set()

    def __contains__(self, did: object) -> bool:
        """Whether a session waits for its turn or is being worked on."""
        return did in self._queued or did in self.in_flight

    @property
    def queued(self) -> int:
        """How many sessions wait for their turn."""
        return len(self._queued)

    @property
    def tripped(self) -> list[str]:
        """The servers whose circuit breaker has tripped, sorted."""
        return sorted(name for name, queue in self._queues.items() if queue.is_tripped)

    def __len__(self) -> int:
        return len(self._queues)

    def set_limits(self, limits: IssuerLimits) -> None:
        """Takes over other limits, also for the sessions that wait already."""
        self._limits = limits
        for queue in self._queues.values():
            queue.limits = self._limits_of(queue.name)

    def queue(self, name: str) -> IssuerQueue:
        """The queue of a server; a new one if there was none."""
        return self._queues.setdefault(name, IssuerQueue(name, self._limits_of(name)))

    # Queueing --------------------------------------------------------------------------------

    def add(self, entry: ScheduleEntry, *, even_if_full: bool = False) -> bool:
        """Queues an entry, unless its session waits or is being worked on already.

        Args:
            entry: what is due.
            even_if_full: because no index may have this entry.

        Returns:
            False if its queue is full: the entry has to wait in the store's index.
        """
        if entry.did in self:
            return True
        queue = self.queue(entry.server)
        if not (even_if_full or self._has_room(queue)):
            self._overflowed.add(queue.name)
            return False
        self._queued.add(entry.did)
        queue.push(entry, self._failures_of(entry.did))
        self._start_workers(queue)
        return True

    def take_has_room_again(self) -> bool:
        """Whether a queue that was full has become half empty since this was last asked."""
        roomy = {name for name in self._overflowed if len(self.queue(name)) < self._room() / 2}
        self._overflowed -= roomy
        return bool(roomy)

    def sweep(self, now: float) -> None:
        """Forgets the servers that nobody has had anything for."""
        for queue in [queue for queue in self._queues.values() if queue.is_forgettable(now)]:
            del self._queues[queue.name]

    def _has_room(self, queue: IssuerQueue) -> bool:
        return len(queue) < (self._room() if len(self._queued) < _MOST_QUEUED else _ALWAYS_ROOM)

    def _room(self) -> float:
        return max(_ALWAYS_ROOM, _QUEUE_SECONDS * self._limits.rate)

    def _limits_of(self, name: str) -> IssuerLimits:
        return _NO_SERVER_LIMITS if name == NO_SERVER else self._limits

    # Serving ---------------------------------------------------------------------------------

    @contextmanager
    def admission(self, home: IssuerQueue) -> Iterator[Admission]:
        """Lets one session of `home` send to another server too, within that server's limits.

        An issuer may name any host's token endpoint, and a session may not yet know its issuer. The block
        gets the function to ask right before the token is sent; its end gives the places back.
        """
        entered: list[IssuerQueue] = []

        def admit(server: str) -> float:
            if server == home.name:
                return 0.0
            queue = self.queue(server)
            wait = queue.admit(anyio.current_time())
            if wait == 0.0:
                entered.append(queue)
            return wait

        try:
            yield admit
        finally:
            for queue in entered:
                queue.admitted -= 1
                self._start_workers(queue)

    def _start_workers(self, queue: IssuerQueue) -> None:
        for _ in range(queue.wanted_workers - queue.workers):
            queue.workers += 1
            self.tasks.start_soon(self._serve, queue, name=f"queue of {queue.name}")

    async def _serve(self, queue: IssuerQueue) -> None:
        """Works off a queue; ends when it is empty, or has more workers than its server can take."""
        while queue.workers <= queue.wanted_workers:
            wait = queue.wait(anyio.current_time())
            if wait is None:
                break
            if wait > 0:  # in pieces: what ends a pause early is noticed at the latest then
                await anyio.sleep(min(wait, LONGEST_SLEEP))
                continue
            entry = queue.pop(anyio.current_time())
            self._queued.discard(entry.did)
            self.in_flight.add(entry.did)
            try:
                await self._work(entry, queue)
            finally:
                self.in_flight.discard(entry.did)
            self._start_workers(queue)
        queue.workers -= 1
        if queue.is_forgettable(anyio.current_time()):
            self._queues.pop(queue.name, None)
