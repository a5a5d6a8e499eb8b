"""Holds the near future of the schedule in memory; the rest stays in the store's index.

`DueHeap` is the heap itself. `DueQueue` fills it from the store's index, page by page, up to a horizon
some minutes ahead, and wakes whoever waits for the next entry when an earlier one comes in.

Knows when a session is due, not what is to be done then.
"""

import heapq
import math
from collections import Counter
from collections.abc import Callable, Container, Mapping

import anyio

from idiolectd.clock import Clock
from idiolectd.ports import NO_SERVER, ScheduleEntry, SharedStore

# The longest sleep, in seconds: so late may a resumed machine notice that its clock went on.
LONGEST_SLEEP = 30.0

# What becomes due within so many seconds is started together: refreshes that run at once share commits and
# connections, and no token is so short-lived that it matters.
_TOGETHER = 0.2

# How many seconds of the future are held in memory, and how many entries at most.
_HORIZON = 600.0
_MOST_ENTRIES = 100_000

# The index is read in pages, so that others use the store in between.
_PAGE = 1000

# A server with fewer sessions before the horizon needs no particular pace.
_WORTH_COUNTING = 60

# The shortest pause between two readings of the index: while many overdue sessions wait, each reading
# passes all of them again.
_REFILL_PAUSE = 5.0


class DueHeap:
    """A heap of schedule entries, one a session. Pure.

    A new entry of a session replaces its older one. The replaced one stays in the heap until it comes to
    the top, and is skipped then.
    """

    def __init__(self) -> None:
        self._heap: list[ScheduleEntry] = []
        self._entries: dict[str, ScheduleEntry] = {}

    def __len__(self) -> int:
        return len(self._entries)

    def __contains__(self, did: object) -> bool:
        return did in self._entries

    def put(self, entry: ScheduleEntry) -> None:
        """Schedules a session, replacing its earlier entry."""
        if self._entries.get(entry.did) == entry:
            return
        self._entries[entry.did] = entry
        heapq.heappush(self._heap, entry)
        if len(self._heap) > 64 + 2 * len(self._entries):  # mostly replaced entries: drop them
            self._heap = list(self._entries.values())
            heapq.heapify(self._heap)

    def drop(self, did: str) -> None:
        """Removes a session's entry, if there is one."""
        self._entries.pop(did, None)

    def entries(self) -> list[ScheduleEntry]:
        """Every session's entry, without order."""
        return list(self._entries.values())

    @property
    def next_at(self) -> float | None:
        """When the next session is due; None if the heap is empty."""
        self._skip_replaced()
        return self._heap[0].at if self._heap else None

    def pop_due(self, now: float) -> list[ScheduleEntry]:
        """Takes out every entry whose time has come, soonest first."""
        due: list[ScheduleEntry] = []
        while (at := self.next_at) is not None and at <= now:
            entry = heapq.heappop(self._heap)
            del self._entries[entry.did]
            due.append(entry)
        return due

    def _skip_replaced(self) -> None:
        while self._heap and self._entries.get(self._heap[0].did) is not self._heap[0]:
            heapq.heappop(self._heap)


class DueQueue:
    """The schedule of a store, as far as it lies before the horizon.

    Args:
        store: has the whole schedule in its index.
        clock: wall-clock time: due times are wall-clock, so that a suspended machine catches up.
    """

    def __init__(self, store: SharedStore, clock: Clock) -> None:
        self._store = store
        self._clock = clock
        self._heap = DueHeap()
        self._horizon = clock.now() + _HORIZON
        self._refill_at = -math.inf
        self._earlier_entry = anyio.Event()
        self._earlier_refill = anyio.Event()

    def __len__(self) -> int:
        return len(self._heap)

    def __contains__(self, did: object) -> bool:
        """Whether a session is due before the horizon."""
        return did in self._heap

    def put(self, did: str, entry: ScheduleEntry | None) -> None:
        """Replaces a session's entry, here and in a store that keeps its schedule in memory.

        Args:
            did: whose.
            entry: the new one; None: the session has no next attempt.
        """
        self._store.schedule(did, entry)
        if entry is None or entry.at > self._horizon:
            self._heap.drop(did)  # the store's index has it, if there is one
        else:
            self._put(entry)

    def put_off(self, did: str, pause: float) -> None:
        """Has a session looked at in `pause` seconds; its record will say what is to be done then.

        Such an entry is held here however far the horizon is: no index has it.
        """
        now = self._clock.now()
        self._put(ScheduleEntry(at=now + pause, did=did, expires_at=now, server=NO_SERVER))

    def _put(self, entry: ScheduleEntry) -> None:
        earliest = self._heap.next_at
        self._heap.put(entry)
        if earliest is None or entry.at < earliest:
            self._earlier_entry.set()

    def put_off_dids(self) -> set[str]:
        """The sessions that `put_off` has put off: the store's index may have no entry of theirs."""
        return {entry.did for entry in self._heap.entries() if entry.server == NO_SERVER}

    def pop_due(self) -> list[ScheduleEntry]:
        """Takes out every entry whose time has come, soonest first."""
        return self._heap.pop_due(self._clock.now())

    async def wait_due(self) -> None:
        """Waits until an entry may be due, at most `LONGEST_SLEEP` seconds."""
        self._earlier_entry = anyio.Event()
        next_at = self._heap.next_at or math.inf
        sleep = min(LONGEST_SLEEP, max(_TOGETHER, next_at - self._clock.now()))
        with anyio.move_on_after(sleep):
            await self._earlier_entry.wait()

    async def wait_refill(self) -> None:
        """Waits until `refill` is to be called. Whoever sees the clock jump has to call `refill_in`."""
        while (left := self._refill_at - self._clock.now()) > 0:
            self._earlier_refill = anyio.Event()
            with anyio.move_on_after(left):
                await self._earlier_refill.wait()

    def refill_in(self, seconds: float) -> None:
        """Has the index read again in so many seconds: the clock was set, or the store did not answer."""
        self._refill_at = self._clock.now() + seconds
        self._earlier_refill.set()

    def refill_soon(self) -> None:
        """Has the index read again in some seconds: there is room for more of what is due."""
        self.refill_in(min(_REFILL_PAUSE, max(0.0, self._refill_at - self._clock.now())))

    async def refill(
        self, start: Callable[[ScheduleEntry], bool], busy: Container[str]
    ) -> Mapping[str, float]:
        """Moves the horizon on, and takes what lies before it from the store's index.

        Starts what is due already; what there is no room for stays in the index. Reads on behind it all
        the same, so that a crowd of overdue sessions hides nobody.

        Args:
            start: starts an entry that is due; returns False if there is no room for it.
            busy: the sessions that are queued or being worked on: they get a new entry after that.

        Returns:
            How many sessions of a server have to be refreshed per second until the horizon is reached; of
            servers that have very few it is left out.

        Raises:
            StoreError: the store can't answer.
        """
        now = self._clock.now()
        self._horizon = now + _HORIZON  # already now, for what is scheduled while this reads
        self._refill_at = now + _HORIZON / 2  # half-way to the horizon
        after: ScheduleEntry | None = None
        taken = 0
        servers: Counter[str] = Counter()
        while True:
            page = await self._store.due(self._horizon, limit=_PAGE, after=after)
            for entry in page:
                servers[entry.server] += 1
                if entry.did in self._heap or entry.did in busy:
                    continue
                if entry.at <= now:
                    start(entry)
                else:
                    self._put(entry)
                    taken += 1
            if len(page) < _PAGE:
                break
            after = page[-1]
            if taken >= _MOST_ENTRIES:
                self._horizon, self._refill_at = after.at, now + LONGEST_SLEEP
                break
        del servers[NO_SERVER]
        seconds = max(1.0, self._horizon - now)
        return {server: count / seconds for server, count in servers.items() if count >= _WORTH_COUNTING}
