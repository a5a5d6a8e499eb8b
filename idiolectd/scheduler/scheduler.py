"""The scheduler: notices what changes in the store, and starts each refresh when it is due.

Two tasks of its own (one watches the store, one sleeps until the next due time) and a few workers
per issuer, which exist only while there is something to do. No task per session: a million sessions
are lines in the store's index, and the near future's in the agenda.

Rules: an exception in one session's work is that session's error; a store that can't answer delays,
and ends nothing; cancelling `run` starts nothing new and lets what was sent finish (the engine
shields it). Deadlines are wall-clock, a sleep is capped, so that a suspended machine catches up.
"""

import math
from collections.abc import Callable, Collection
from dataclasses import dataclass, replace

import anyio
from anyio.abc import TaskGroup, TaskStatus

from idiolectd import events, policy
from idiolectd.clock import Clock
from idiolectd.errors import LockBusy, RecordError, SpillUnreadable, StoreError
from idiolectd.events import EventSink
from idiolectd.log import redacted_traceback
from idiolectd.outcome import Ambiguous, Current, Gone, Retry, Suspended, Unpersisted
from idiolectd.ports import FULL_BATCH, NOWHERE, Due, SharedStore
from idiolectd.refresh import Attempt, RefreshEngine
from idiolectd.scheduler.board import Board
from idiolectd.scheduler.lane import Lane, LaneLimits
from idiolectd.scheduler.plan import Plan
from idiolectd.scheduler.set_back import SetBack
from idiolectd.scheduler.troubles import Troubles
from idiolectd.state import shown

# A wall clock that moved by more than this against the monotonic one was set, or slept.
_JUMP = 5.0

# Two clocks never agree to the last bit: less than this is nothing left.
_ROUNDING = 0.001

# Before an unreadable record is called broken it is read again: upstream's CLI writes in place.
_SECOND_LOOK = 1.0

# How long to leave alone what somebody holds, and a store that can't answer.
_BUSY_PAUSE = 2.0
_STORE_PAUSE = 5.0


@dataclass(frozen=True)
class Statistics:
    """What the scheduler is doing, for status lines and tests."""

    planned: int
    queued: int
    in_flight: int
    quarantined: int
    lanes: int
    troubled: list[str]


class Scheduler:
    """Runs the refresh engine over a whole store.

    Args:
        store: the sessions.
        engine: refreshes one of them.
        clock: wall-clock time.
        emit: who is told.
        limits: what one issuer is sent at most.
        luck: a source of numbers in [0, 1).

    Attributes:
        alive_at: monotonic time of the last turn of the sleeper, for a watchdog.
    """

    def __init__(
        self,
        store: SharedStore,
        engine: RefreshEngine,
        *,
        clock: Clock,
        emit: EventSink,
        limits: LaneLimits,
        luck: Callable[[], float],
    ) -> None:
        self.alive_at = -math.inf
        self._store = store
        self._engine = engine
        self._clock = clock
        self._emit = emit
        self._luck = luck
        self._plan = Plan(store, clock)
        self._board = Board(limits, self._work)
        self._troubles = Troubles(emit)
        self._set_back = SetBack(store, engine, self._plan, self._troubles)
        self._changed_in_flight: set[str] = set()
        self._suspended: set[str] = set()
        self._forced: set[str] = set()
        self._crashes: dict[str, int] = {}
        # Until when a lost request may be in flight, by a clock that nobody sets.
        self._settled_at: dict[str, float] = {}

    def statistics(self) -> Statistics:
        """A snapshot of what it is doing."""
        return Statistics(
            planned=len(self._plan),
            queued=self._board.queued,
            in_flight=len(self._board.in_flight),
            quarantined=self._troubles.quarantined,
            lanes=len(self._board),
            troubled=self._board.troubled,
        )

    def set_limits(self, limits: LaneLimits) -> None:
        """Takes over other limits."""
        self._board.set_limits(limits)

    def retry_suspended(self) -> None:
        """Tries the suspended sessions at once: somebody may have mended what they wait for."""
        self._forced |= self._suspended
        for did in self._suspended:
            self._plan.put_off(did, 0.0)

    async def run(
        self, *, behind: float = 0.0, task_status: TaskStatus[None] = anyio.TASK_STATUS_IGNORED
    ) -> None:
        """Works until it is cancelled. Reports itself started when the first schedule stands.

        Args:
            behind: how many seconds the wall clock stands behind the one that the store's schedule
                was made by.
            task_status: anyio's.
        """
        async with anyio.create_task_group() as tg:
            await tg.start(self._watch)
            await self._refill()
            await self._plan_spilled()
            tg.start_soon(self._tick, tg)
            if behind > _JUMP:
                tg.start_soon(self._set_back.bring_forward, behind)
            task_status.started()

    async def _plan_spilled(self) -> None:
        """What an earlier process could not save is looked at first of all."""
        for did in await self._engine.spilled():
            self._plan.put_off(did, 0.0)

    # Noticing --------------------------------------------------------------------------------

    async def _watch(self, *, task_status: TaskStatus[None]) -> None:
        caught_up = False
        while True:
            try:
                async with self._store.watch() as watch:
                    while True:
                        changed = await watch.wait_changed()
                        await self._look_at(changed)
                        self._troubles.store_answered()
                        if not caught_up and len(changed) < FULL_BATCH:
                            caught_up = True
                            task_status.started()
            except StoreError as error:
                self._troubles.store_failed(error)
            await anyio.sleep(_STORE_PAUSE)

    async def _look_at(self, dids: Collection[str]) -> None:
        for did in dids:
            if did in self._board.in_flight:
                self._changed_in_flight.add(did)
            else:
                await self._look(did)

    async def _look(self, did: str, *, again: bool = False) -> None:
        try:
            due = await self._engine.look(did)
        except RecordError as error:
            if again:
                self._troubles.record_is_broken(did, error)
            else:
                self._plan.put_off(did, _SECOND_LOOK)
        except LockBusy:
            self._plan.put_off(did, _BUSY_PAUSE)
        except SpillUnreadable:  # told already, and no trouble of the store's
            self._plan.put_off(did, _STORE_PAUSE)
        except StoreError as error:
            self._troubles.store_failed(error)
            self._plan.put_off(did, _STORE_PAUSE)
        except Exception as error:  # noqa: BLE001 - one session's error must stay one session's
            self._crashed(did, error)
        else:
            self._troubles.store_answered()
            self._troubles.record_is_readable(did)
            if due is not None and did in self._forced:
                due = replace(due, at=self._clock.now())
            self._plan.put(did, due)

    # Starting what is due --------------------------------------------------------------------

    async def _tick(self, tg: TaskGroup) -> None:
        wall, mono = self._clock.now(), anyio.current_time()
        while True:
            self.alive_at = anyio.current_time()
            jumped = (self._clock.now() - wall) - (self.alive_at - mono)
            wall, mono = self._clock.now(), self.alive_at
            if abs(jumped) > _JUMP:
                self._emit(events.ClockJumped(seconds=round(jumped, 3)))
                self._plan.refill_in(0.0)
                if jumped < 0:
                    tg.start_soon(self._set_back.bring_forward, -jumped)
            if self._plan.needs_refill():
                await self._refill()
            for due in self._plan.pop_due():
                self._board.add(due, tg)
            await self._plan.wait_due()

    async def _refill(self) -> None:
        try:
            await self._plan.refill(self._board)
        except StoreError as error:
            self._troubles.store_failed(error)
            self._plan.refill_in(_STORE_PAUSE)

    # One session's work ----------------------------------------------------------------------

    async def _work(self, due: Due, lane: Lane) -> None:
        left = self._settled_at.pop(due.did, -math.inf) - anyio.current_time()
        if left > _ROUNDING:  # the wall clock was set forward meanwhile
            self._settled_at[due.did] = anyio.current_time() + left
            self._plan.put_off(due.did, left)
        elif due.lane == NOWHERE:
            await self._look(due.did, again=True)
        else:
            await self._refresh(due.did, lane)
        if due.did in self._changed_in_flight:
            self._changed_in_flight.discard(due.did)
            await self._look(due.did)

    async def _refresh(self, did: str, lane: Lane) -> None:
        try:
            attempt = await self._engine.refresh(did, force=did in self._forced)
        except RecordError:
            self._plan.put_off(did, _SECOND_LOOK)
        except LockBusy:
            self._plan.put_off(did, _BUSY_PAUSE)
        except SpillUnreadable:
            self._plan.put_off(did, _STORE_PAUSE)
        except StoreError as error:
            self._troubles.store_failed(error)
            self._plan.put_off(did, _STORE_PAUSE)
        except Exception as error:  # noqa: BLE001 - as above
            self._crashed(did, error)
        else:
            self._crashes.pop(did, None)
            self._forced.discard(did)
            if isinstance(attempt.outcome, Suspended):
                self._suspended.add(did)
            else:
                self._suspended.discard(did)
            self._learn(did, attempt, lane)
            if isinstance(attempt.outcome, Ambiguous) and attempt.due is not None:
                self._settled_at[did] = anyio.current_time() + attempt.due.at - self._clock.now()
            if isinstance(attempt.outcome, Unpersisted):
                self._plan.put_off(did, _STORE_PAUSE)
            else:
                self._plan.put(did, attempt.due)

    def _learn(self, did: str, attempt: Attempt, lane: Lane) -> None:
        """What an outcome says of the server."""
        match attempt.outcome:
            case Current() | Gone() | Suspended() | Unpersisted():
                return  # nothing may have been sent
            case Retry(code, _, retry_after, issuer_wide) if issuer_wide or retry_after:
                self._troubled(did, lane, code, retry_after)
            case Ambiguous(code):
                self._troubled(did, lane, code, None)
            case _:
                if lane.succeeded(did):
                    self._emit(events.IssuerResumed(issuer=lane.name))

    def _troubled(self, did: str, lane: Lane, code: str, retry_after: float | None) -> None:
        now = anyio.current_time()
        if lane.failed(did, now, luck=self._luck(), retry_after=retry_after):
            self._emit(
                events.IssuerPaused(
                    issuer=lane.name,
                    code=code,
                    until=shown(self._clock.now() + lane.paused_until - now) or "",
                    waiting=len(lane),
                )
            )

    def _crashed(self, did: str, error: Exception) -> None:
        crashes = self._crashes[did] = self._crashes.get(did, 0) + 1
        pause = policy.retry_delay(attempts=crashes + 2, left=0.0, luck=self._luck())
        self._emit(
            events.SessionCrashed(
                did=did,
                error=type(error).__name__,
                traceback=redacted_traceback(error),
                next_attempt_at=shown(self._clock.now() + pause),
            )
        )
        self._plan.put_off(did, pause)
