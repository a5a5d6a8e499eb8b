"""One queue per server: what is due waits there for its turn, and goes out at the pace the server can take.

`IssuerQueue` orders the sessions of one server and says when the next one may start; `Places` says how many may
be in flight at all servers together. `IssuerQueues` has them all, and runs a task for each session in flight,
which goes on to the next one whose turn it is.

Knows nothing of sessions: what is done with an entry whose turn has come is given. Times are monotonic
seconds here.
"""

import heapq
import math
from collections.abc import Awaitable, Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from itertools import count

import anyio
from anyio.abc import TaskGroup

from idiolectd.ports import NO_SERVER, ScheduleEntry
from idiolectd.refresh import Admission
from idiolectd.scheduler.due_queue import LONGEST_SLEEP
from idiolectd.scheduler.issuer_queue import IssuerQueue
from idiolectd.scheduler.pace import IssuerLimits, Pace
from idiolectd.scheduler.places import Place, Places

# A queue holds what its server can take within so many seconds; what else is due stays in the store's
# index. All queues together hold `_MOST_QUEUED`; beyond that each has room for `_ALWAYS_ROOM`, so that a
# crowd at one server keeps nobody else out.
_QUEUE_SECONDS = 200.0
_MOST_QUEUED = 100_000
_ALWAYS_ROOM = 100

# Looking at a record asks no server: only the store limits it.
_NO_SERVER_LIMITS = IssuerLimits(concurrency=8, rate=1e6)

# An alarm that waits for a server's pace rings no sooner than after so many seconds: then several start at once.
_TOGETHER = 0.05

# Works on a session whose turn has come; returns whether its server was asked and has answered.
Work = Callable[[ScheduleEntry, IssuerQueue], Awaitable[bool]]

_Turn = tuple[IssuerQueue, ScheduleEntry, Place | None]


class IssuerQueues:
    """The queues of all servers, and the tasks that serve them.

    A task exists only while a session is in flight, and one more while some server's pace lets nobody start.

    Args:
        limits: what one server is sent at most.
        places: how many sessions may be in flight at all servers together.
        failures: how many times in a row a session's server failed on it.
        work: what is done with an entry whose turn has come.

    Attributes:
        in_flight: the sessions that are being worked on.
        tasks: where the work runs; set before anything is added.
    """

    tasks: TaskGroup

    def __init__(self, limits: IssuerLimits, places: int, failures: Callable[[str], int], work: Work) -> None:
        self.in_flight: set[str] = set()
        self._limits = limits
        self._places: Places[IssuerQueue] = Places(places)
        self._failures_of = failures
        self._work = work
        self._queues: dict[str, IssuerQueue] = {}
        self._queued: set[str] = set()
        self._overflowed: set[str] = set()
        self._needs: Mapping[str, float] = {}
        # What is called when, and whether a task waits for it; set when the first of them has changed.
        self._alarms: list[tuple[float, int, Callable[[], None]]] = []
        self._alarm_numbers = count()
        self._room_at = -math.inf
        self._is_waiting = False
        self._earlier_alarm = anyio.Event()

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

    def set_limits(self, limits: IssuerLimits, places: int) -> None:
        """Takes over other limits, also for the sessions that wait already."""
        self._limits, self._places.total = limits, places
        for queue in list(self._queues.values()):
            queue.pace.limits = self._limits_of(queue.name)
            self._start(queue)

    def plan(self, needs: Mapping[str, float]) -> None:
        """Takes over how many sessions of each server have to be refreshed per second in the next minutes."""
        self._needs = needs
        for queue in self._queues.values():
            queue.pace.planned = self._needs.get(queue.name, 0.0)

    def pace(self, name: str) -> Pace:
        """How fast a server is asked; as it would be, if nothing is known of it."""
        queue = self._queues.get(name)
        if queue is not None:
            return queue.pace
        pace = Pace(self._limits_of(name))
        pace.planned = self._needs.get(name, 0.0)
        return pace

    def queue(self, name: str) -> IssuerQueue:
        """The queue of a server; a new one if there was none."""
        queue = self._queues.get(name)
        if queue is None:
            has_answered = name == NO_SERVER or self._places.is_proven(name)
            queue = self._queues[name] = IssuerQueue(name, self._limits_of(name), has_answered=has_answered)
            queue.pace.planned = self._needs.get(name, 0.0)
        return queue

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
        self._start(queue)
        return True

    def take_has_room_again(self) -> bool:
        """Whether a queue that was full has become half empty since this was last asked."""
        roomy = {
            name
            for name in self._overflowed
            if (queue := self._queues.get(name)) is None or len(queue) < self._room(queue) / 2
        }
        self._overflowed -= roomy
        return bool(roomy)

    def sweep(self, now: float) -> None:
        """Forgets the servers that nobody has had anything for."""
        for queue in [queue for queue in self._queues.values() if queue.is_forgettable(now)]:
            del self._queues[queue.name]

    def _has_room(self, queue: IssuerQueue) -> bool:
        return len(queue) < _ALWAYS_ROOM or (
            len(self._queued) < _MOST_QUEUED and len(queue) < self._room(queue)
        )

    def _room(self, queue: IssuerQueue) -> float:
        """How many sessions a server's queue holds at most."""
        return max(_ALWAYS_ROOM, _QUEUE_SECONDS * queue.pace.rate(anyio.current_time(), waiting=0))

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
                self._start(queue)

    def _start(self, queue: IssuerQueue) -> None:
        """Starts as many of a queue's sessions as may start now."""
        for turn in self._turns(queue, anyio.current_time()):
            self._spawn(turn)

    def _start_waiting(self) -> None:
        """Starts whoever has waited for a place, and may have one now."""
        for turn in self._turns_of_waiting(anyio.current_time()):
            self._spawn(turn)

    def _spawn(self, turn: _Turn) -> None:
        self.tasks.start_soon(self._serve, turn, name=f"queue of {turn[0].name}")

    async def _serve(self, turn: _Turn | None) -> None:
        """Works on a session, and then on the next one whose turn it is; ends when it is nobody's."""
        while turn is not None:
            queue, entry, place = turn
            has_answered = False
            try:
                has_answered = await self._work(entry, queue)
            finally:
                now = anyio.current_time()
                self._end(queue, entry, place, now, has_answered=has_answered)
            turn = self._next(queue, now)

    def _end(
        self, queue: IssuerQueue, entry: ScheduleEntry, place: Place | None, now: float, *, has_answered: bool
    ) -> None:
        self.in_flight.discard(entry.did)
        queue.in_flight -= 1
        queue.has_answered |= has_answered
        if place is not None:
            self._places.give_back(place, now, has_answered=has_answered)
        if queue.is_forgettable(now):
            self._queues.pop(queue.name, None)

    def _next(self, queue: IssuerQueue, now: float) -> _Turn | None:
        """Whose turn it is, now that a session of this queue has ended; starts the others that may start, too."""
        if self._places.has_waiting:
            self._line_up(queue, now)
            turns = self._turns_of_waiting(now)
        else:
            turns = self._turns(queue, now)
        following = next(turns, None)
        for turn in turns:
            self._spawn(turn)
        return following

    def _turns(self, queue: IssuerQueue, now: float) -> Iterator[_Turn]:
        """The turns of one queue; if there are more without a place, it is in line for one."""
        while (turn := self._turn(queue, now)) is not None:
            yield turn

    def _turns_of_waiting(self, now: float) -> Iterator[_Turn]:
        """The turns of those in line, one of each before the next is called."""
        while (queue := self._places.call_next(now)) is not None:
            turn = self._turn(queue, now)
            if turn is not None:
                self._line_up(queue, now)
                yield turn
        self._ring_when_there_is_room()

    def _turn(self, queue: IssuerQueue, now: float) -> _Turn | None:
        """Takes out a queue's next session if it may start now."""
        if not self._may_start(queue, now):
            return None
        place = None
        if queue.name != NO_SERVER:
            place = self._places.take(queue, now)
            if place is None:
                self._places.wait(queue)
                self._ring_when_there_is_room()
                return None
        entry = queue.pop(now)
        self._queued.discard(entry.did)
        self.in_flight.add(entry.did)
        queue.in_flight += 1
        return queue, entry, place

    def _line_up(self, queue: IssuerQueue, now: float) -> None:
        if queue.name == NO_SERVER:
            self._start(queue)
        elif self._may_start(queue, now):
            self._places.wait(queue)

    def _may_start(self, queue: IssuerQueue, now: float) -> bool:
        """Whether a queue's next session may start now if there is a place; else the queue is asked again in time."""
        if not queue.has_turn(now):
            return False  # asked again when one of its sessions ends
        wait = queue.wait(now)
        if wait > 0:
            # In pieces: what ends a pause early is noticed at the latest then.
            at = now + max(_TOGETHER, min(wait, LONGEST_SLEEP))
            if at < queue.asked_again_at:
                queue.asked_again_at = at
                self._ring(at, partial(self._ask_again, queue))
        return wait == 0.0

    # Waiting for time to pass ----------------------------------------------------------------

    def _ask_again(self, queue: IssuerQueue) -> None:
        queue.asked_again_at = math.inf
        self._start(queue)

    def _ring_when_there_is_room(self) -> None:
        at = self._places.room_at()
        if at is not None and at != self._room_at:
            self._room_at = at
            self._ring(at, self._start_waiting)

    def _ring(self, at: float, alarm: Callable[[], None]) -> None:
        """Has a function called at a time."""
        if not self._alarms or at < self._alarms[0][0]:
            self._earlier_alarm.set()
        heapq.heappush(self._alarms, (at, next(self._alarm_numbers), alarm))
        if not self._is_waiting:
            self._is_waiting = True
            self.tasks.start_soon(self._wait_alarms, name="alarms")

    async def _wait_alarms(self) -> None:
        """Calls what is to be called, each at its time; ends when nothing is."""
        while self._alarms:
            left = self._alarms[0][0] - anyio.current_time()
            if left > 0:
                self._earlier_alarm = anyio.Event()
                with anyio.move_on_after(left):
                    await self._earlier_alarm.wait()
                continue
            _, _, alarm = heapq.heappop(self._alarms)
            alarm()
        self._is_waiting = False
