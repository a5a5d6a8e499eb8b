"""The plan: what lies before the horizon, in memory; the rest is in the store's index.

Knows when, not what: it holds lines of the schedule and a bell that rings when one comes sooner.
"""

import math
from collections.abc import Callable, Container

import anyio

from idiolectd.clock import Clock
from idiolectd.ports import NO_SERVER, ScheduleEntry, SharedStore
from idiolectd.scheduler.due_heap import DueHeap

# Nothing sleeps longer: this is how late a resumed machine may notice that its clock went on.
LONGEST_SLEEP = 30.0

# Nor shorter: what becomes due at nearly the same time is started together.
_SHORTEST_SLEEP = 0.001

# How much of the future is held in memory, and how many lines of it at most.
_HORIZON = 600.0
_MOST_ENTRIES = 100_000

# The index is read in pages: others use the store meanwhile.
_PAGE = 1000

# Reading what is due already again and again costs the more the more of it has to wait.
_REFILL_PAUSE = 5.0


class DueQueue:
    """The near future of a store.

    Args:
        store: has the far future.
        clock: wall-clock time: deadlines are wall-clock, so that a suspended machine catches up.
    """

    def __init__(self, store: SharedStore, clock: Clock) -> None:
        self._store = store
        self._clock = clock
        self._heap = DueHeap()
        self._horizon = clock.now() + _HORIZON
        self._refill_at = -math.inf
        self._bell = anyio.Event()
        self._refill_bell = anyio.Event()

    def __len__(self) -> int:
        return len(self._heap)

    def __contains__(self, did: object) -> bool:
        """Whether a session is among the near future."""
        return did in self._heap

    def put(self, did: str, due: ScheduleEntry | None) -> None:
        """Plans a session anew; None: it has no next attempt."""
        self._store.schedule(did, due)
        if due is None or due.at > self._horizon:
            self._heap.drop(did)  # not at all, or beyond the horizon: the store's index knows
        else:
            self._put(due)

    def put_off(self, did: str, pause: float) -> None:
        """Looks again later; what is to be done then, and in which lane, the record will say.

        Wherever the horizon is: nobody else knows of this line.
        """
        now = self._clock.now()
        self._put(ScheduleEntry(at=now + pause, did=did, expires_at=now, server=NO_SERVER))

    def _put(self, due: ScheduleEntry) -> None:
        earlier = self._heap.next_at
        self._heap.put(due)
        if earlier is None or due.at < earlier:
            self._bell.set()

    def put_off_dids(self) -> set[str]:
        """Whose records are to be looked at again: the store may know nothing of them."""
        return {due.did for due in self._heap.entries() if due.server == NO_SERVER}

    def pop_due(self) -> list[ScheduleEntry]:
        """Takes out every line whose time has come."""
        return self._heap.pop_due(self._clock.now())

    async def wait_due(self) -> None:
        """Waits until a line may be due; never long."""
        self._bell = anyio.Event()
        next_at = self._heap.next_at or math.inf
        sleep = min(LONGEST_SLEEP, max(_SHORTEST_SLEEP, next_at - self._clock.now()))
        with anyio.move_on_after(sleep):
            await self._bell.wait()

    async def wait_refill(self) -> None:
        """Waits until the horizon has to be moved on. A clock that jumps has to ring: `refill_in`."""
        while (left := self._refill_at - self._clock.now()) > 0:
            self._refill_bell = anyio.Event()
            with anyio.move_on_after(max(_SHORTEST_SLEEP, left)):
                await self._refill_bell.wait()

    def refill_in(self, seconds: float) -> None:
        """Moves the horizon no later than that: the clock was set, or the store did not answer."""
        self._refill_at = self._clock.now() + seconds
        self._refill_bell.set()

    def refill_soon(self) -> None:
        """Takes more of what is due already: there is room for it now."""
        self.refill_in(min(_REFILL_PAUSE, max(0.0, self._refill_at - self._clock.now())))

    async def refill(self, start: Callable[[ScheduleEntry], bool], busy: Container[str]) -> None:
        """Moves the horizon on, and takes what lies before it from the store's index.

        What is due already is started, or left in the index while there is no room for it; what follows
        it in the index is read all the same, so that no crowd hides the others.

        Args:
            start: starts a line that is due; False: there is no room for it.
            busy: the sessions that are being worked on, and will be planned after that.

        Raises:
            StoreError: the store can't answer.
        """
        now = self._clock.now()
        self._horizon = now + _HORIZON  # from now on, for what is planned while we read
        self._refill_at = now + _HORIZON / 2  # half-way; what comes up meanwhile may make it sooner
        after: ScheduleEntry | None = None
        taken = 0
        while True:
            page = await self._store.due(self._horizon, limit=_PAGE, after=after)
            for due in page:
                if due.did in self._heap or due.did in busy:
                    continue
                if due.at <= now:
                    start(due)
                else:
                    self._put(due)
                    taken += 1
            if len(page) < _PAGE:
                return
            after = page[-1]
            if taken >= _MOST_ENTRIES:
                self._horizon, self._refill_at = after.at, now + LONGEST_SLEEP
                return
