"""Notices what changes in the store, and starts each session's refresh when it is due.

Runs three tasks of its own: one watches the store for changes, one reads what is due in the next minutes from
the store's index, and one sleeps until the next session is due. Workers, a few per server, exist only while
there is something to do. There is no task per session: a million sessions are rows in the store's index, and
only those that are due soon are in memory.

Rules: an exception in one session's work is that session's error; a store that can't answer delays
and ends nothing; cancelling `run` starts nothing new and lets what was sent finish (the engine
shields it). Due times are wall-clock and a sleep is capped, so that a suspended machine catches up.
"""

import math
from collections.abc import AsyncIterable, Callable, Collection
from dataclasses import dataclass, replace

import anyio
import anyio.lowlevel
from anyio.abc import TaskStatus

from idiolectd import events
from idiolectd.clock import Clock
from idiolectd.errors import LockBusy, RecordError, SealedError, SpillUnreadable, StoreError
from idiolectd.events import EventSink
from idiolectd.outcome import Refreshed, Unpersisted
from idiolectd.ports import FULL_BATCH, NO_SERVER, NewRecord, ScheduleEntry, SharedStore
from idiolectd.refresh import Reconciled, RefreshEngine
from idiolectd.scheduler.attempt_feedback import AttemptFeedback, SessionMemory
from idiolectd.scheduler.clock_set_back import ClockSetBack
from idiolectd.scheduler.due_queue import DueQueue
from idiolectd.scheduler.fault_reporter import FaultReporter
from idiolectd.scheduler.issuer_queue import IssuerQueue
from idiolectd.scheduler.issuer_queues import IssuerQueues
from idiolectd.scheduler.pace import IssuerLimits
from idiolectd.scheduler.rate_reports import RateReports
from idiolectd.session import OAuthSession
from idiolectd.store import ToldRefusal

# If the wall clock moves by more seconds than this against the monotonic one, somebody has set it, or the
# machine was suspended.
_JUMP = 5.0

# Two clocks never agree to the last bit: a shorter wait, in seconds, is none.
_ROUNDING = 0.001

# An unreadable record is read again after so many seconds before it is called broken: upstream's CLI writes
# in place.
_SECOND_LOOK = 1.0

# How many seconds to leave alone a session that somebody else works on, and a store that can't answer.
_BUSY_PAUSE = 2.0
_STORE_PAUSE = 5.0

# And one that no key opens: with a wrong key it is every session, and only a restart brings another.
_SEALED_PAUSE = 60.0

# How many changed records are compared with their state at a time: refreshes use the store in between.
_RECONCILERS = 8

# How many seconds the start waits for everything that changed meanwhile to be looked at. What is left then
# (very many new records, or a program that rewrites all of them all the time) is looked at beside the work.
_CATCH_UP = 10.0

# How many sessions are in flight at all servers together, if nobody says.
_PLACES = 256

# How many account look-ups are under way at most; a session that finds no place asks after its next refresh.
_MOST_LOCATING = 4


@dataclass(frozen=True)
class Statistics:
    """What the scheduler is doing, for the status line and tests.

    Attributes:
        scheduled: sessions that are due within the next minutes.
        queued: sessions that wait for their turn at their server.
        in_flight: sessions that are being worked on.
        quarantined: sessions whose records can't be read.
        remembered: sessions of which something is remembered between two attempts.
        queues: servers of which something is known.
        tripped: servers whose circuit breaker has tripped.
        outrun: servers that allow fewer refreshes than their sessions need.
        is_caught_up: every record that changed while nobody watched was looked at.
    """

    scheduled: int
    queued: int
    in_flight: int
    quarantined: int
    remembered: int
    queues: int
    tripped: list[str]
    outrun: list[str]
    is_caught_up: bool


class Scheduler:
    """Runs the refresh engine over a whole store.

    Args:
        store: the sessions.
        engine: returns what refreshes one of them; a reload puts another one in its place.
        clock: wall-clock time.
        emit: who is told.
        limits: what one issuer is sent at most.
        places: how many sessions may be in flight at all issuers together.
        allowed_rate: requests a second that an issuer says it takes.
        jitter: a source of numbers, uniform in [0, 1).
        changed: told of each session that was looked at or worked on: it may not be as it was. None: nobody is.

    Attributes:
        alive_at: monotonic time at which the task that starts what is due last woke up, for a watchdog.
    """

    def __init__(
        self,
        store: SharedStore,
        engine: Callable[[], RefreshEngine],
        *,
        clock: Clock,
        emit: EventSink,
        limits: IssuerLimits,
        jitter: Callable[[], float],
        places: int = _PLACES,
        allowed_rate: Callable[[str], float] = lambda _server: math.inf,
        changed: Callable[[str], None] | None = None,
    ) -> None:
        self.alive_at = -math.inf
        self._store = store
        self._engine = engine
        self._clock = clock
        self._emit = emit
        self._changed = changed or _ignore_change
        self._due_queue = DueQueue(store, clock)
        self._memory = SessionMemory()
        self._issuer_queues = IssuerQueues(
            limits, places, lambda did: self._memory.of(did).server_failures, self._work
        )
        self._feedback = AttemptFeedback(self._memory, self._issuer_queues, clock, emit, jitter, allowed_rate)
        self._faults = FaultReporter(emit, lambda: self._engine().commands)
        self._rates = RateReports(emit)
        self._clock_set_back = ClockSetBack(store, engine, self._due_queue, self._faults)
        self._changed_in_flight: set[str] = set()
        self._filled, self._caught_up = anyio.Event(), anyio.Event()
        self._locating = 0
        self._adopting = False
        # Why a session could not be worked on when that was last tried.
        self._obstacles: dict[str, str] = {}

    def statistics(self) -> Statistics:
        """A snapshot of what it is doing."""
        return Statistics(
            scheduled=len(self._due_queue),
            queued=self._issuer_queues.queued,
            in_flight=len(self._issuer_queues.in_flight),
            quarantined=self._faults.quarantined,
            remembered=len(self._memory),
            queues=len(self._issuer_queues),
            tripped=self._issuer_queues.tripped,
            outrun=sorted(self._rates.outrun),
            is_caught_up=self._caught_up.is_set(),
        )

    def set_limits(self, limits: IssuerLimits, places: int) -> None:
        """Takes over other limits."""
        self._issuer_queues.set_limits(limits, places)

    def why_waiting(self, did: str) -> str | None:
        """Why a session is not refreshed at this moment; None: not known here."""
        if did in self._issuer_queues.in_flight:
            return "it is being worked on now"
        if did in self._obstacles:
            return self._obstacles[did]
        return "it waits for its turn at its issuer" if did in self._issuer_queues else None

    def knows(self, did: str) -> bool:
        """Whether a session is due within the next minutes, queued or being worked on."""
        return did in self._issuer_queues or did in self._due_queue

    def put(self, did: str, entry: ScheduleEntry) -> None:
        """Takes over an entry of the schedule that somebody else has stored."""
        self._due_queue.put(did, entry)

    def retry_suspended(self) -> None:
        """Tries the suspended sessions at once: a person may have changed what they wait for."""
        for did in self._memory.force_suspended():
            self._due_queue.put_off(did, 0.0)

    async def run(
        self, *, clock_behind: float = 0.0, task_status: TaskStatus[None] = anyio.TASK_STATUS_IGNORED
    ) -> None:
        """Works until it is cancelled. Reports itself started when all that is scheduled soon has been read.

        Args:
            clock_behind: how many seconds the wall clock stands behind the one that the store's schedule
                was made by.
            task_status: anyio's.
        """
        async with anyio.create_task_group() as tg:
            self._issuer_queues.tasks = tg
            tg.start_soon(self._watch)
            tg.start_soon(self._refill)
            await self._schedule_spilled()
            tg.start_soon(self._start_due)
            if clock_behind > _JUMP:
                tg.start_soon(self._clock_set_back.advance_next_attempts, clock_behind)
            await self._filled.wait()
            with anyio.move_on_after(_CATCH_UP):
                await self._caught_up.wait()
            task_status.started()

    async def _schedule_spilled(self) -> None:
        """Has the sessions looked at first for which an earlier process left tokens that it could not save."""
        for did in await self._engine().spilled():
            self._due_queue.put_off(did, 0.0)

    # Starting what is due --------------------------------------------------------------------

    async def _start_due(self) -> None:
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
            self._faults.report_recovery()
            for entry in self._due_queue.pop_due():
                self._issuer_queues.add(entry, even_if_full=entry.server == NO_SERVER)
            if self._issuer_queues.take_has_room_again():
                self._due_queue.refill_soon()
            await self._due_queue.wait_due()

    async def _refill(self) -> None:
        """Reads what is due in the next minutes from the store's index, again and again."""
        while True:
            try:
                needs = await self._due_queue.refill(self._issuer_queues.add, self._issuer_queues)
            except StoreError as error:
                self._faults.store_failed(error)
                self._due_queue.refill_in(_STORE_PAUSE)
            else:
                self._filled.set()
                self._issuer_queues.plan(needs)
                self._rates.compare(needs, self._issuer_queues.pace, anyio.current_time())
            self._issuer_queues.sweep(anyio.current_time())
            await self._due_queue.wait_refill()

    # Noticing --------------------------------------------------------------------------------

    async def _watch(self) -> None:
        while True:
            try:
                async with self._store.watch() as watch:
                    await self._is_adopting()
                    self._due_queue.refill_in(0.0)  # a store may know its schedule only now
                    while True:
                        changed = await watch.wait_changed()
                        if len(changed) == FULL_BATCH and await self._is_adopting():
                            continue  # what the crowd does not take along is named again
                        await self._reconcile_all(changed)
                        if len(changed) < FULL_BATCH and not self._adopting:
                            self._caught_up.set()
            except StoreError as error:
                self._faults.store_failed(error)
            await anyio.sleep(_STORE_PAUSE)

    async def _is_adopting(self) -> bool:
        """Whether a crowd of new sessions is being planned; begins that if there is one."""
        if not self._adopting:
            await self._issuer_queues.tasks.start(self._adopt_crowd)
        return self._adopting

    async def _adopt_crowd(self, *, task_status: TaskStatus[None]) -> None:
        """Schedules a crowd of new sessions in big commits, soonest expiry first, beside all other work.

        So the first start on very many sessions need not look at each under its claim before those that
        end first have their turn, and a login is noticed meanwhile.
        """
        async with self._store.new_sessions() as pages:
            self._adopting = pages is not None
            task_status.started()
            try:
                if pages is not None:
                    await self._adopt(pages)
            except StoreError as error:
                self._faults.store_failed(error)
                await anyio.sleep(_STORE_PAUSE)
            finally:
                self._adopting = False

    async def _adopt(self, pages: AsyncIterable[list[NewRecord]]) -> None:
        spilled = set(await self._engine().spilled())
        async for page in pages:
            # Reading and writing a page are finished once begun, so a stop gets no other moment.
            await anyio.lowlevel.checkpoint()
            new = [record for record in page if record.session.did not in spilled]
            for did, seen in (await self._engine().adopt(new)).items():
                self._take_over(did, seen)

    async def _reconcile_all(self, dids: Collection[str]) -> None:
        """Looks at changed records, a few at a time: no more than that stand between a refresh and the store."""
        waiting = iter(dids)

        async def reconcile_next() -> None:
            for did in waiting:
                if did in self._issuer_queues.in_flight:
                    self._changed_in_flight.add(did)
                else:
                    await self._reconcile(did)

        async with anyio.create_task_group() as tg:
            for _ in range(min(_RECONCILERS, len(dids))):
                tg.start_soon(reconcile_next)

    async def _reconcile(self, did: str, *, again: bool = False) -> None:
        """Looks at a record as it is now, and schedules its session.

        Args:
            did: whose.
            again: it could not be read a moment ago, or was put off for another reason.
        """
        try:
            seen = await self._engine().reconcile(did)
        except RecordError as error:
            if again:
                self._due_queue.put_off(did, self._faults.record_is_broken(did, error))
            else:
                self._due_queue.put_off(did, _SECOND_LOOK)
        except LockBusy as error:
            self._obstacles[did] = str(error)
            self._due_queue.put_off(did, _BUSY_PAUSE)
        except SpillUnreadable as error:  # reported already, and no fault of the store's
            self._obstacles[did] = str(error)
            self._due_queue.put_off(did, _STORE_PAUSE)
        except StoreError as error:
            self._obstacles[did] = str(error)
            self._faults.store_failed(error)
            self._due_queue.put_off(did, _SEALED_PAUSE if isinstance(error, SealedError) else _STORE_PAUSE)
        except Exception as error:  # noqa: BLE001 - one session's error must stay one session's
            await self._crashed(did, error)
        else:
            self._faults.record_is_readable(did)
            self._take_over(did, seen)

    def _take_over(self, did: str, seen: Reconciled) -> None:
        """Schedules a session as it was found."""
        self._changed(did)
        entry = seen.due
        if entry is None or entry.at > self._clock.now():
            self._obstacles.pop(did, None)
        if entry is None or seen.token is not None:  # else perhaps somebody is replacing the record
            self._memory.keep_only(did, seen.token if entry is not None else None)
        if entry is not None and self._memory.of(did).forced:
            entry = replace(entry, at=self._clock.now())
        self._due_queue.put(did, entry)
        if seen.identity_due and entry is not None:
            self._locate_soon(did)

    async def look_at_refused(self, told: ToldRefusal) -> None:
        """Refreshes a session now if its PDS refuses its access token, as a client says; raises nothing."""
        did = told.did
        try:
            token = await self._engine().refused_token(did, told.access_token_hash)
        except (LockBusy, RecordError, StoreError):
            return  # the client says it again
        except Exception as error:  # noqa: BLE001 - one session's error must stay one session's
            await self._crashed(did, error)
            return
        if token is not None:
            self._memory.of_token(did, token).forced = True
            self._due_queue.put_off(did, 0.0)

    # One session's work ----------------------------------------------------------------------

    async def _work(self, entry: ScheduleEntry, queue: IssuerQueue) -> bool:
        """Works on one session; returns whether its server was asked and has answered."""
        has_answered = False
        if entry.server == NO_SERVER:
            await self._reconcile(entry.did, again=True)
        else:
            has_answered = await self._refresh(entry.did, queue)
        if entry.did in self._changed_in_flight:
            self._changed_in_flight.discard(entry.did)
            await self._reconcile(entry.did)
        return has_answered

    async def _refresh(self, did: str, queue: IssuerQueue) -> bool:
        left = self._memory.of(did).not_before - anyio.current_time()
        if left > _ROUNDING:  # the wall clock was set forward meanwhile, or the record was touched
            self._due_queue.put_off(did, left)
            return False
        try:
            with self._issuer_queues.admission(queue) as admit:
                forced = self._memory.of(did).forced
                attempt = await self._engine().refresh(did, force=forced, admit=admit)
        except RecordError:
            self._due_queue.put_off(did, _SECOND_LOOK)
        except LockBusy as error:
            self._obstacles[did] = str(error)
            self._due_queue.put_off(did, _BUSY_PAUSE)
        except SpillUnreadable as error:
            self._obstacles[did] = str(error)
            self._due_queue.put_off(did, _STORE_PAUSE)
        except StoreError as error:
            self._obstacles[did] = str(error)
            self._faults.store_failed(error)
            self._due_queue.put_off(did, _SEALED_PAUSE if isinstance(error, SealedError) else _STORE_PAUSE)
        except Exception as error:  # noqa: BLE001 - as above
            await self._crashed(did, error)
        else:
            self._changed(did)
            self._obstacles.pop(did, None)
            self._feedback.about_session(did, attempt)
            has_answered = self._feedback.about_server(did, attempt, queue)
            if isinstance(attempt.outcome, Unpersisted):
                self._due_queue.put_off(did, _STORE_PAUSE)
            else:
                self._due_queue.put(did, attempt.due)
            if attempt.identity_due and isinstance(attempt.outcome, Refreshed):
                self._locate_soon(did)
            return has_answered
        return False

    async def _crashed(self, did: str, error: Exception) -> None:
        pause = self._feedback.about_crash(did, await self._stored_session(did), error)
        self._due_queue.put_off(did, pause)

    async def _stored_session(self, did: str) -> OAuthSession | None:
        try:
            return (await self._store.read(did)).session
        except Exception:  # noqa: BLE001 - what it crashed on may fail here too
            return None

    # Where accounts are ---------------------------------------------------------------------

    def _locate_soon(self, did: str) -> None:
        """Asks beside the work where an account is, for a few sessions at a time.

        A session that finds no place asks after its next refresh.
        """
        if self._locating < _MOST_LOCATING:
            self._locating += 1
            self._issuer_queues.tasks.start_soon(self._locate, did)

    async def _locate(self, did: str) -> None:
        try:
            attempt = await self._engine().locate(did)
        except (LockBusy, RecordError, StoreError):
            return  # it is asked for again after the next refresh
        except Exception as error:  # noqa: BLE001 - one session's error must stay one session's
            await self._crashed(did, error)
            return
        finally:
            self._locating -= 1
        if attempt is not None:
            self._changed(did)
            self._feedback.about_session(did, attempt)
            self._due_queue.put(did, attempt.due)


def _ignore_change(_did: str) -> None:
    pass
