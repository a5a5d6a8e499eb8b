"""The lanes of all issuers, and the tasks that serve them.

Knows queues and workers, and nothing of sessions: what to do with a line is given. A lane's workers
exist only while it has something to do.
"""

from collections.abc import Awaitable, Callable

import anyio
from anyio.abc import TaskGroup

from idiolectd.ports import Due
from idiolectd.scheduler.lane import Lane, LaneLimits
from idiolectd.scheduler.plan import LONGEST_SLEEP

Work = Callable[[Due, Lane], Awaitable[None]]


class Board:
    """All lanes.

    Args:
        limits: what one issuer is sent at most.
        work: what is done with a line whose turn has come.
    """

    def __init__(self, limits: LaneLimits, work: Work) -> None:
        self.in_flight: set[str] = set()
        self._limits = limits
        self._work = work
        self._lanes: dict[str, Lane] = {}
        self._queued: set[str] = set()

    def __contains__(self, did: object) -> bool:
        """Whether a session waits or is being worked on."""
        return did in self._queued or did in self.in_flight

    @property
    def queued(self) -> int:
        """How many sessions wait for their turn."""
        return len(self._queued)

    @property
    def troubled(self) -> list[str]:
        """The issuers that are known to be in trouble."""
        return sorted(name for name, lane in self._lanes.items() if lane.troubled)

    def __len__(self) -> int:
        return len(self._lanes)

    def set_limits(self, limits: LaneLimits) -> None:
        """Takes over other limits, for the sessions that wait already too."""
        self._limits = limits
        for lane in self._lanes.values():
            lane.limits = limits

    def add(self, due: Due, tg: TaskGroup) -> None:
        """Queues a line, unless its session waits or is being worked on already."""
        if due.did in self:
            return
        lane = self._lanes.setdefault(due.lane, Lane(due.lane, self._limits))
        self._queued.add(due.did)
        lane.push(due)
        self._staff(lane, tg)

    def _staff(self, lane: Lane, tg: TaskGroup) -> None:
        while lane.workers < lane.wanted_workers:
            lane.workers += 1
            tg.start_soon(self._serve, lane, tg, name=f"lane {lane.name}")

    async def _serve(self, lane: Lane, tg: TaskGroup) -> None:
        """One worker of a lane."""
        while lane.workers <= lane.wanted_workers:
            wait = lane.wait(anyio.current_time())
            if wait is None:
                break
            if wait > 0:  # in pieces: what ends a pause early is noticed at the latest then
                await anyio.sleep(min(wait, LONGEST_SLEEP))
                continue
            due = lane.pop(anyio.current_time())
            self._queued.discard(due.did)
            self.in_flight.add(due.did)
            try:
                await self._work(due, lane)
            finally:
                self.in_flight.discard(due.did)
            self._staff(lane, tg)
        lane.workers -= 1
        if lane.is_idle:
            self._lanes.pop(lane.name, None)
