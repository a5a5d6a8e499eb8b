"""Brings every next attempt forward when the wall clock was set back: tokens age by real time.

Each next attempt was set by the clock as it was before, so it is moved by as much as the clock was. One that
can't be moved at once, because somebody works on the session or the disk fails, is moved later. Should it
have been set anew meanwhile, its session is refreshed once too early, which does no harm.

A clock that was set forward needs nothing of the kind: what is due too early is refreshed at its issuer's
pace, and is scheduled rightly from then on.
"""

import math
from collections.abc import Callable, Collection

import anyio

from idiolectd.errors import RecordError, StoreError
from idiolectd.ports import ScheduleEntry, SharedStore
from idiolectd.refresh import RefreshEngine
from idiolectd.scheduler.due_queue import DueQueue
from idiolectd.scheduler.fault_reporter import FaultReporter

# How many entries of the index are read at a time.
_PAGE = 1000

# How many seconds pass before what could not be moved is tried again.
_PAUSE = 5.0


class ClockSetBack:
    """Brings the next attempts of a store's sessions forward.

    Args:
        store: has the schedule.
        engine: returns what moves one session's next attempt, durably; as of `Scheduler`.
        due_queue: gets the new entries.
        faults: told when the store can't answer.
    """

    def __init__(
        self,
        store: SharedStore,
        engine: Callable[[], RefreshEngine],
        due_queue: DueQueue,
        faults: FaultReporter,
    ) -> None:
        self._store = store
        self._engine = engine
        self._due_queue = due_queue
        self._faults = faults

    async def advance_next_attempts(self, by: float) -> None:
        """Moves every next attempt, soonest first, by that many seconds; returns when all are moved.

        What was moved stands before the page that is read next, and is not met again.
        """
        put_off = self._due_queue.put_off_dids()
        left: list[str] = []
        after: ScheduleEntry | None = None
        while page := await self._page(after):
            dids = [entry.did for entry in page]
            put_off.difference_update(dids)
            left += await self._unmoved(dids, by)
            after = page[-1]
        left += await self._unmoved(put_off, by)
        while left:
            await anyio.sleep(_PAUSE)
            left = await self._unmoved(left, by)

    async def _unmoved(self, dids: Collection[str], by: float) -> list[str]:
        """Moves sessions; returns those that could not be moved."""
        return [did for did in dids if not await self._move(did, by)]

    async def _page(self, after: ScheduleEntry | None) -> list[ScheduleEntry]:
        while True:
            try:
                return await self._store.due(math.inf, limit=_PAGE, after=after)
            except StoreError as error:
                self._faults.store_failed(error)
                await anyio.sleep(_PAUSE)

    async def _move(self, did: str, by: float) -> bool:
        try:
            self._due_queue.put(did, await self._engine().advance_next_attempt(did, by))
        except RecordError:
            self._due_queue.put_off(did, _PAUSE)  # to be read again, and reported if it stays unreadable
        except StoreError:
            return False
        return True
