"""What to do when the wall clock was set back: tokens go on ageing whatever it says.

Every plan was made by the clock of before, so each is brought forward by as much; one that can't be
moved now, because somebody works on the session or the disk fails, is moved later. It may have been
made anew by then: such a session is refreshed once too early, which no session minds.

A clock that was set forward needs nothing of the kind: what is due too early is refreshed at its
issuer's pace, and has right times from then on.
"""

import math
from collections.abc import Callable, Collection

import anyio

from idiolectd.errors import RecordError, StoreError
from idiolectd.ports import ScheduleEntry, SharedStore
from idiolectd.refresh import RefreshEngine
from idiolectd.scheduler.due_queue import DueQueue
from idiolectd.scheduler.fault_reporter import FaultReporter

# The index is read in pages.
_PAGE = 1000

# Before what could not be moved is tried again.
_PAUSE = 5.0


class ClockSetBack:
    """Brings the plans of a store forward.

    Args:
        store: has the lines.
        engine: returns what moves one session's durable plan; as of `Scheduler`.
        plan: the near future, which follows.
        troubles: told when the store can't answer.
    """

    def __init__(
        self, store: SharedStore, engine: Callable[[], RefreshEngine], plan: DueQueue, troubles: FaultReporter
    ) -> None:
        self._store = store
        self._engine = engine
        self._due_queue = plan
        self._faults = troubles

    async def advance_next_attempts(self, by: float) -> None:
        """Moves every plan, soonest first, by that many seconds; returns when all are.

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
        return [did for did in dids if not await self._has_moved(did, by)]

    async def _page(self, after: ScheduleEntry | None) -> list[ScheduleEntry]:
        while True:
            try:
                return await self._store.due(math.inf, limit=_PAGE, after=after)
            except StoreError as error:
                self._faults.store_failed(error)
                await anyio.sleep(_PAUSE)

    async def _has_moved(self, did: str, by: float) -> bool:
        try:
            self._due_queue.put(did, await self._engine().advance_next_attempt(did, by))
        except RecordError:
            self._due_queue.put_off(did, _PAUSE)  # and, if it stays so, reported
        except StoreError:
            return False
        return True
