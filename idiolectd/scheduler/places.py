"""The places of what is in flight at all servers together: no number of servers fills the process.

A refresh in flight takes a descriptor, and its answer wants to be read: with thousands at once nobody would
read them in time. So there are common places and slow ones:

1. A refresh starts in a common place, the soonest end of an access token first. If it has no answer after
   `SLOW_AFTER` seconds it is moved to a slow place; if all of those are taken it stays where it is.
2. Its server is called slow then, until it answers quickly. The sessions of a slow server start in slow
   places, and in no more than half of them: the others are for those that are moved.
3. The last quarter of the common places is for servers that have proven to answer quickly.

So servers that accept and never answer, however many, keep no proven server waiting: those that are known hold
slow places, the unknown ones never the last quarter. One that has been quick and stops to answer holds a common
place for `SLOW_AFTER` seconds, unless more of them do so at once than there are slow places.

Pure: the caller brings the time, in monotonic seconds.
"""

import heapq
from collections import OrderedDict
from dataclasses import dataclass
from enum import Enum, auto
from itertools import count
from typing import Generic, Protocol, TypeVar

# A server that takes longer than so many seconds is rare, and is served all the same.
SLOW_AFTER = 5.0

# The fewest places with which each kind of server has one.
FEWEST_PLACES = 8

# Of so many servers it is remembered how quick they are; the longest unused are forgotten.
_MOST_REMEMBERED = 4096

Known = TypeVar("Known")

# What orders the sessions of all servers.
Rank = tuple[int, float, str]


class Standing(Enum):
    """What is known of how quickly a server answers."""

    PROVEN = auto()
    UNKNOWN = auto()
    SLOW = auto()


class Candidate(Protocol):
    """A server's queue, as far as its sessions compete for places.

    Attributes:
        name: the server.
        is_tripped: its circuit breaker has tripped.
    """

    name: str
    is_tripped: bool

    @property
    def first(self) -> Rank | None:
        """The rank of its next session; None: it has none."""
        ...


QueueT = TypeVar("QueueT", bound=Candidate)


@dataclass(eq=False)
class Place:
    """What one refresh in flight holds.

    Attributes:
        server: whose session it is.
        since: when it started.
    """

    server: str
    since: float


class Places(Generic[QueueT]):
    """Gives out the places, and remembers who waits for one.

    Args:
        total: how many there are.
    """

    def __init__(self, total: int) -> None:
        self.total = total
        self._common: OrderedDict[Place, None] = OrderedDict()  # the oldest first
        self._stuck: OrderedDict[Place, None] = OrderedDict()  # in common places, and slow
        self._slow: set[Place] = set()
        # Servers, with the time of their last quick answer; and those that are slow.
        self._proven: OrderedDict[str, float] = OrderedDict()
        self._slow_servers: OrderedDict[str, None] = OrderedDict()
        # Who waits, by standing; and with which rank.
        self._lines: dict[Standing, list[tuple[Rank, int, QueueT]]] = {each: [] for each in Standing}
        self._waiting: dict[str, Rank] = {}
        self._entries = count()

    def __len__(self) -> int:
        """How many are taken."""
        return len(self._common) + len(self._stuck) + len(self._slow)

    @property
    def has_waiting(self) -> bool:
        """Whether anybody is in line."""
        return bool(self._waiting)

    def is_proven(self, server: str) -> bool:
        """Whether a server has answered quickly, the last time that it was asked."""
        return server in self._proven

    def standing(self, queue: QueueT) -> Standing:
        """How a server's sessions are treated now."""
        if queue.is_tripped or queue.name in self._slow_servers:
            return Standing.SLOW
        return Standing.PROVEN if queue.name in self._proven else Standing.UNKNOWN

    # Taking ----------------------------------------------------------------------------------

    def take(self, queue: QueueT, now: float) -> Place | None:
        """Takes a place for a server's next session; None: there is none, and it has to `wait`."""
        self._move_slow(now)
        standing = self.standing(queue)
        if not self._has_room(standing):
            return None
        place = Place(queue.name, now)
        if standing is Standing.SLOW:
            self._slow.add(place)
        else:
            self._common[place] = None
        return place

    def give_back(self, place: Place, now: float, *, has_answered: bool) -> None:
        """Frees a place.

        Args:
            place: it.
            now: when.
            has_answered: its server has; False: it was not asked.
        """
        self._move_slow(now)
        self._common.pop(place, None)
        self._stuck.pop(place, None)
        self._slow.discard(place)
        if has_answered and now - place.since < SLOW_AFTER:
            _remember(self._proven, place.server, now)
            self._slow_servers.pop(place.server, None)

    # Waiting ---------------------------------------------------------------------------------

    def wait(self, queue: QueueT) -> None:
        """Puts a server's next session in line."""
        rank = queue.first
        if rank is not None and self._waiting.get(queue.name) != rank:
            self._waiting[queue.name] = rank
            heapq.heappush(self._lines[self.standing(queue)], (rank, next(self._entries), queue))

    def call_next(self, now: float) -> QueueT | None:
        """Takes out of the line who may try to `take` a place now; None: nobody may."""
        self._move_slow(now)
        while lines := [line for standing, line in self._lines.items() if line and self._has_room(standing)]:
            line = min(lines, key=lambda line: line[0][0])
            rank, _, queue = heapq.heappop(line)
            if self._waiting.get(queue.name) != rank:
                continue  # it stands further in front by now, or was served
            del self._waiting[queue.name]
            if queue.first != rank or line is not self._lines[self.standing(queue)]:
                self.wait(queue)
                continue
            return queue
        return None

    def room_at(self) -> float | None:
        """When a common place will be free at the latest for somebody who waits; None: that can't be told."""
        if not self._waiting or not self._common or len(self._slow) >= self._slow_places:
            return None
        return next(iter(self._common)).since + SLOW_AFTER

    # -----------------------------------------------------------------------------------------

    @property
    def _slow_places(self) -> int:
        return self.total // 2

    def _has_room(self, standing: Standing) -> bool:
        if standing is Standing.SLOW:
            return len(self._slow) < self._slow_places // 2
        common = self.total - self._slow_places
        if standing is Standing.UNKNOWN:
            common -= common // 4
        return len(self._common) + len(self._stuck) < common

    def _move_slow(self, now: float) -> None:
        """Moves what has lasted for long, and calls its server slow."""
        while self._common and now - (place := next(iter(self._common))).since >= SLOW_AFTER:
            del self._common[place]
            self._stuck[place] = None
            if (
                self._proven.get(place.server, -1.0) <= place.since
            ):  # else one session is stuck, not the server
                self._proven.pop(place.server, None)
                _remember(self._slow_servers, place.server, None)
        while self._stuck and len(self._slow) < self._slow_places:
            self._slow.add(self._stuck.popitem(last=False)[0])


def _remember(servers: OrderedDict[str, Known], name: str, known: Known) -> None:
    servers[name] = known
    servers.move_to_end(name)
    if len(servers) > _MOST_REMEMBERED:
        servers.popitem(last=False)
