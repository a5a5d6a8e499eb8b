"""The scheduler: notices what changes in the store, and starts each refresh when it is due.

Three tasks of its own (one watches the store, one moves the horizon of the plan, one sleeps until the
next due time) and a few workers per server, which exist only while there is something to do. No task per
session: a million sessions are lines in the store's index, and the near future's in the agenda.

Rules: an exception in one session's work is that session's error; a store that can't answer delays,
and ends nothing; cancelling `run` starts nothing new and lets what was sent finish (the engine
shields it). Deadlines are wall-clock, a sleep is capped, so that a suspended machine catches up.
"""

import math
from collections.abc import Callable, Collection
from dataclasses import dataclass, replace

import anyio
from anyio.abc import TaskStatus

from idiolectd import events
from idiolectd.clock import Clock
from idiolectd.errors import LockBusy, RecordError, SpillUnreadable, StoreError
from idiolectd.events import EventSink
from idiolectd.outcome import Refreshed, Unpersisted
from idiolectd.ports import FULL_BATCH, NO_SERVER, ScheduleEntry, SharedStore
from idiolectd.refresh import RefreshEngine
from idiolectd.scheduler.attempt_feedback import AttemptFeedback
from idiolectd.scheduler.clock_set_back import ClockSetBack
from idiolectd.scheduler.due_queue import DueQueue
from idiolectd.scheduler.fault_reporter import FaultReporter
from idiolectd.scheduler.issuer_queue import IssuerLimits, IssuerQueue
from idiolectd.scheduler.issuer_queues import IssuerQueues
from idiolectd.scheduler.session_memory import SessionMemory

# A wall clock that moved by more than this against the monotonic one was set, or slept.
_JUMP = 5.0

# Two clocks never agree to the last bit: less than this is nothing left.
_ROUNDING = 0.001

# Before an unreadable record is called broken it is read again: upstream's CLI writes in place.
_SECOND_LOOK = 1.0

# How long to leave alone what somebody holds, and a store that can't answer.
_BUSY_PAUSE = 2.0
_STORE_PAUSE = 5.0

# How many changed records are looked at side by side: what is due goes on between any two looks.
_LOOKERS = 8

# How long the start waits for looks at everything that changed meanwhile. A crowd, or a program that
# rewrites all records all the time, is looked at beside the work on what is known.
_FIRST_LOOKS = 10.0

# How many weekly questions are under way; whoever finds no place asks after its next refresh.
_QUESTIONS = 4


@dataclass(frozen=True)
class Statistics:
    """What the scheduler is doing, for status lines and tests.

    Attributes:
        planned: sessions in the near future.
        queued: that wait for their turn.
        in_flight: that are being worked on.
        quarantined: whose records can't be read.
        remembered: of which there is something to remember between two attempts.
        lanes: servers that something is known of.
        troubled: those in trouble.
        is_caught_up: every record that changed while nobody watched was looked at.
    """

    planned: int
    queued: int
    in_flight: int
    quarantined: int
    remembered: int
    queues: int
    troubled: list[str]
    is_caught_up: bool


class Scheduler:
    """Runs the refresh engine over a whole store.

    Args:
        store: the sessions.
        engine: returns what refreshes one of them; a reload puts another one in its place.
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
        engine: Callable[[], RefreshEngine],
        *,
        clock: Clock,
        emit: EventSink,
        limits: IssuerLimits,
        luck: Callable[[], float],
    ) -> None:
        self.alive_at = -math.inf
        self._store = store
        self._engine = engine
        self._clock = clock
        self._emit = emit
        self._due_queue = DueQueue(store, clock)
        self._memory = SessionMemory()
        self._issuer_queues = IssuerQueues(limits, lambda did: self._memory.of(did).strikes, self._work)
        self._feedback = AttemptFeedback(self._memory, self._issuer_queues, clock, emit, luck)
        self._faults = FaultReporter(emit)
        self._clock_set_back = ClockSetBack(store, engine, self._due_queue, self._faults)
        self._changed_in_flight: set[str] = set()
        self._filled, self._caught_up = anyio.Event(), anyio.Event()
        self._questions = 0
        # What kept a session from being worked on when it was last tried.
        self._held: dict[str, str] = {}

    def statistics(self) -> Statistics:
        """A snapshot of what it is doing."""
        return Statistics(
            planned=len(self._due_queue),
            queued=self._issuer_queues.queued,
            in_flight=len(self._issuer_queues.in_flight),
            quarantined=self._faults.quarantined,
            remembered=len(self._memory),
            queues=len(self._issuer_queues),
            troubled=self._issuer_queues.troubled,
            is_caught_up=self._caught_up.is_set(),
        )

    def set_limits(self, limits: IssuerLimits) -> None:
        """Takes over other limits."""
        self._issuer_queues.set_limits(limits)

    def holds(self, did: str) -> str | None:
        """Why a session is not refreshed at this moment, as far as this knows; None: it doesn't."""
        if did in self._issuer_queues.in_flight:
            return "it is being worked on now"
        if did in self._held:
            return self._held[did]
        return "it waits for its turn at its issuer" if did in self._issuer_queues else None

    def knows(self, did: str) -> bool:
        """Whether a session has a place in the near future, or is being worked on."""
        return did in self._issuer_queues or did in self._due_queue

    def put(self, did: str, due: ScheduleEntry) -> None:
        """Plans a session by a line that somebody else has made."""
        self._due_queue.put(did, due)

    def retry_suspended(self) -> None:
        """Tries the suspended sessions at once: somebody may have mended what they wait for."""
        for did in self._memory.force_suspended():
            self._due_queue.put_off(did, 0.0)

    async def run(
        self, *, behind: float = 0.0, task_status: TaskStatus[None] = anyio.TASK_STATUS_IGNORED
    ) -> None:
        """Works until it is cancelled. Reports itself started when what is known is planned.

        Args:
            behind: how many seconds the wall clock stands behind the one that the store's schedule
                was made by.
            task_status: anyio's.
        """
        async with anyio.create_task_group() as tg:
            self._issuer_queues.tasks = tg
            tg.start_soon(self._watch)
            tg.start_soon(self._fill)
            await self._plan_spilled()
            tg.start_soon(self._tick)
            if behind > _JUMP:
                tg.start_soon(self._clock_set_back.advance_next_attempts, behind)
            await self._filled.wait()
            with anyio.move_on_after(_FIRST_LOOKS):
                await self._caught_up.wait()
            task_status.started()

    async def _plan_spilled(self) -> None:
        """What an earlier process could not save is looked at first of all."""
        for did in await self._engine().spilled():
            self._due_queue.put_off(did, 0.0)

    # Starting what is due --------------------------------------------------------------------

    async def _tick(self) -> None:
        wall, mono = self._clock.now(), anyio.current_time()
        while True:
            self.alive_at = anyio.current_time()
            jumped = (self._clock.now() - wall) - (self.alive_at - mono)
            wall, mono = self._clock.now(), self.alive_at
            if abs(jumped) > _JUMP:
                self._emit(events.ClockJumped(seconds=round(jumped, 3)))
                self._due_queue.refill_in(0.0)
                if jumped < 0:
                    self._issuer_queues.tasks.start_soon(self._clock_set_back.advance_next_attempts, -jumped)
            self._faults.settle()
            for due in self._due_queue.pop_due():
                self._issuer_queues.add(due, must=due.server == NO_SERVER)
            if self._issuer_queues.take_wants_more():
                self._due_queue.refill_soon()
            await self._due_queue.wait_due()

    async def _fill(self) -> None:
        """Moves the plan's horizon on, beside everything else: an index may be long."""
        while True:
            try:
                await self._due_queue.refill(self._issuer_queues.add, self._issuer_queues)
            except StoreError as error:
                self._faults.store_failed(error)
                self._due_queue.refill_in(_STORE_PAUSE)
            else:
                self._filled.set()
            self._issuer_queues.sweep(anyio.current_time())
            await self._due_queue.wait_refill()

    # Noticing --------------------------------------------------------------------------------

    async def _watch(self) -> None:
        while True:
            try:
                async with self._store.watch() as watch:
                    while True:
                        changed = await watch.wait_changed()
                        await self._look_at(changed)
                        if len(changed) < FULL_BATCH:
                            self._caught_up.set()
            except StoreError as error:
                self._faults.store_failed(error)
            await anyio.sleep(_STORE_PAUSE)

    async def _look_at(self, dids: Collection[str]) -> None:
        """Looks at a batch, a few at a time: no more than that stand between due work and the store."""
        waiting = iter(dids)

        async def look() -> None:
            for did in waiting:
                if did in self._issuer_queues.in_flight:
                    self._changed_in_flight.add(did)
                else:
                    await self._look(did)

        async with anyio.create_task_group() as tg:
            for _ in range(min(_LOOKERS, len(dids))):
                tg.start_soon(look)

    async def _look(self, did: str, *, again: bool = False) -> None:
        try:
            seen = await self._engine().reconcile(did)
        except RecordError as error:
            if again:
                self._due_queue.put_off(did, self._faults.record_is_broken(did, error))
            else:
                self._due_queue.put_off(did, _SECOND_LOOK)
        except LockBusy as error:
            self._held[did] = str(error)
            self._due_queue.put_off(did, _BUSY_PAUSE)
        except SpillUnreadable as error:  # told already, and no trouble of the store's
            self._held[did] = str(error)
            self._due_queue.put_off(did, _STORE_PAUSE)
        except StoreError as error:
            self._held[did] = str(error)
            self._faults.store_failed(error)
            self._due_queue.put_off(did, _STORE_PAUSE)
        except Exception as error:  # noqa: BLE001 - one session's error must stay one session's
            await self._crashed(did, error)
        else:
            self._faults.record_is_readable(did)
            due = seen.due
            if due is None or due.at > self._clock.now():
                self._held.pop(did, None)
            if due is None or seen.token is not None:  # else perhaps somebody is replacing the record
                self._memory.seen(did, seen.token if due is not None else None)
            if due is not None and self._memory.of(did).forced:
                due = replace(due, at=self._clock.now())
            self._due_queue.put(did, due)
            if seen.identity_due and due is not None:
                self._ask_where(did)

    # One session's work ----------------------------------------------------------------------

    async def _work(self, due: ScheduleEntry, queue: IssuerQueue) -> None:
        if due.server == NO_SERVER:
            await self._look(due.did, again=True)
        else:
            await self._refresh(due.did, queue)
        if due.did in self._changed_in_flight:
            self._changed_in_flight.discard(due.did)
            await self._look(due.did)

    async def _refresh(self, did: str, queue: IssuerQueue) -> None:
        left = self._memory.of(did).not_before - anyio.current_time()
        if left > _ROUNDING:  # the wall clock was set forward meanwhile, or the record was touched
            self._due_queue.put_off(did, left)
            return
        try:
            with self._issuer_queues.visiting(queue) as admit:
                forced = self._memory.of(did).forced
                attempt = await self._engine().refresh(did, force=forced, admit=admit)
        except RecordError:
            self._due_queue.put_off(did, _SECOND_LOOK)
        except LockBusy as error:
            self._held[did] = str(error)
            self._due_queue.put_off(did, _BUSY_PAUSE)
        except SpillUnreadable as error:
            self._held[did] = str(error)
            self._due_queue.put_off(did, _STORE_PAUSE)
        except StoreError as error:
            self._held[did] = str(error)
            self._faults.store_failed(error)
            self._due_queue.put_off(did, _STORE_PAUSE)
        except Exception as error:  # noqa: BLE001 - as above
            await self._crashed(did, error)
        else:
            self._held.pop(did, None)
            self._feedback.of_session(did, attempt)
            self._feedback.of_server(did, attempt, queue)
            if isinstance(attempt.outcome, Unpersisted):
                self._due_queue.put_off(did, _STORE_PAUSE)
            else:
                self._due_queue.put(did, attempt.due)
            if attempt.identity_due and isinstance(attempt.outcome, Refreshed):
                self._ask_where(did)

    async def _crashed(self, did: str, error: Exception) -> None:
        pause = self._feedback.of_crash(did, await self._stored_token(did), error)
        self._due_queue.put_off(did, pause)

    async def _stored_token(self, did: str) -> str:
        try:
            session = (await self._store.read(did)).session
        except Exception:  # noqa: BLE001 - whatever it crashed on may be in the way here too
            return ""
        return session.refresh_token_hash if session is not None else ""

    # Where accounts live ---------------------------------------------------------------------

    def _ask_where(self, did: str) -> None:
        """Asks beside the work, a few at a time; who finds no place asks after its next refresh."""
        if self._questions < _QUESTIONS:
            self._questions += 1
            self._issuer_queues.tasks.start_soon(self._locate, did)

    async def _locate(self, did: str) -> None:
        try:
            attempt = await self._engine().locate(did)
        except (LockBusy, RecordError, StoreError):
            return  # whoever is in the way looks after the session itself
        except Exception as error:  # noqa: BLE001 - one session's error must stay one session's
            await self._crashed(did, error)
            return
        finally:
            self._questions -= 1
        if attempt is not None:
            self._feedback.of_session(did, attempt)
            self._due_queue.put(did, attempt.due)
