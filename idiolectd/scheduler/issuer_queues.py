"""The lanes of all servers, and the tasks that serve them.

Knows queues and workers, and nothing of sessions: what to do with a line is given. A lane's workers
exist only while it has something to do.
"""

import math
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager

import anyio
from anyio.abc import TaskGroup

from idiolectd.ports import NO_SERVER, ScheduleEntry
from idiolectd.refresh import Admission
from idiolectd.scheduler.due_queue import LONGEST_SLEEP
from idiolectd.scheduler.issuer_queue import IssuerLimits, IssuerQueue

Work = Callable[[ScheduleEntry, IssuerQueue], Awaitable[None]]

# A lane holds what its server can take in some minutes; what else is due stays in the store's index.
# All lanes together hold so much; then each has room for a few more, so that a crowd of one server
# keeps nobody out.
_LANE_SECONDS = 200.0
_MOST_QUEUED = 100_000
_ALWAYS_ROOM = 100

# Looking at records is no server's work: only the store limits it.
_LOOKS = IssuerLimits(concurrency=8, rate=math.inf)


class IssuerQueues:
    """All lanes.

    Args:
        limits: what one issuer is sent at most.
        strikes: how many troubles in a row a session ran into; many go behind few.
        work: what is done with a line whose turn has come.

    Attributes:
        in_flight: the sessions that are being worked on.
        tasks: where the workers run; set before anything is added.
    """

    tasks: TaskGroup

    def __init__(self, limits: IssuerLimits, strikes: Callable[[str], int], work: Work) -> None:
        self.in_flight: set[str] = set()
        self._limits = limits
        self._strikes = strikes
        self._work = work
        self._queues: dict[str, IssuerQueue] = {}
        self._queued: set[str] = set()
        self._left_out: set[str] = set()

    def __contains__(self, did: object) -> bool:
        """Whether a session waits or is being worked on."""
        return did in self._queued or did in self.in_flight

    @property
    def queued(self) -> int:
        """How many sessions wait for their turn."""
        return len(self._queued)

    @property
    def troubled(self) -> list[str]:
        """The servers that are known to be in trouble."""
        return sorted(name for name, queue in self._queues.items() if queue.troubled)

    def __len__(self) -> int:
        return len(self._queues)

    def set_limits(self, limits: IssuerLimits) -> None:
        """Takes over other limits, for the sessions that wait already too."""
        self._limits = limits
        for queue in self._queues.values():
            queue.limits = self._limits_of(queue.name)

    def queue(self, name: str) -> IssuerQueue:
        """The lane of a server."""
        return self._queues.setdefault(name, IssuerQueue(name, self._limits_of(name)))

    # Queueing --------------------------------------------------------------------------------

    def add(self, due: ScheduleEntry, *, must: bool = False) -> bool:
        """Queues a line, unless its session waits or is being worked on already.

        Args:
            due: the line.
            must: however full its lane is: no index may know of this line.

        Returns:
            False if its lane is full: the line has to wait in the store's index.
        """
        if due.did in self:
            return True
        queue = self.queue(due.server)
        if not (must or self._has_room(queue)):
            self._left_out.add(queue.name)
            return False
        self._queued.add(due.did)
        queue.push(due, self._strikes(due.did))
        self._staff(queue)
        return True

    def take_wants_more(self) -> bool:
        """Whether a lane that had no room for all has become half empty, since it was last asked."""
        hungry = {name for name in self._left_out if len(self.queue(name)) < self._room() / 2}
        self._left_out -= hungry
        return bool(hungry)

    def sweep(self, now: float) -> None:
        """Forgets the servers that nobody has had anything for."""
        for queue in [queue for queue in self._queues.values() if queue.is_forgettable(now)]:
            del self._queues[queue.name]

    def _has_room(self, queue: IssuerQueue) -> bool:
        return len(queue) < (self._room() if len(self._queued) < _MOST_QUEUED else _ALWAYS_ROOM)

    def _room(self) -> float:
        return max(_ALWAYS_ROOM, _LANE_SECONDS * self._limits.rate)

    def _limits_of(self, name: str) -> IssuerLimits:
        return _LOOKS if name == NO_SERVER else self._limits

    # Serving ---------------------------------------------------------------------------------

    @contextmanager
    def visiting(self, home: IssuerQueue) -> Iterator[Admission]:
        """Lets one session of a lane send to another lane's server too, within that lane's limits.

        An issuer may name any host's token endpoint, and a session may not yet know its issuer.
        """
        visited: list[IssuerQueue] = []

        def admit(server: str) -> float:
            if server == home.name:
                return 0.0
            queue = self.queue(server)
            wait = queue.admit(anyio.current_time())
            if wait == 0.0:
                visited.append(queue)
            return wait

        try:
            yield admit
        finally:
            for queue in visited:
                queue.guests -= 1
                self._staff(queue)

    def _staff(self, queue: IssuerQueue) -> None:
        for _ in range(queue.wanted_workers - queue.workers):
            queue.workers += 1
            self.tasks.start_soon(self._serve, queue, name=f"lane {queue.name}")

    async def _serve(self, queue: IssuerQueue) -> None:
        """One worker of a lane."""
        while queue.workers <= queue.wanted_workers:
            wait = queue.wait(anyio.current_time())
            if wait is None:
                break
            if wait > 0:  # in pieces: what ends a pause early is noticed at the latest then
                await anyio.sleep(min(wait, LONGEST_SLEEP))
                continue
            due = queue.pop(anyio.current_time())
            self._queued.discard(due.did)
            self.in_flight.add(due.did)
            try:
                await self._work(due, queue)
            finally:
                self.in_flight.discard(due.did)
            self._staff(queue)
        queue.workers -= 1
        if queue.is_forgettable(anyio.current_time()):
            self._queues.pop(queue.name, None)
