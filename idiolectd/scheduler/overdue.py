"""Reports every session whose access token has ended unrefreshed, and restores lost schedule entries.

Relies on nothing that the scheduler believes. Every few seconds it asks the *store* which sessions are past
their due time, and reads each record before it reports that its access token has ended. While the store can't
answer, it judges by the last answer. Every minute it compares a part of the stored records with the schedule,
and restores the entry of a session that has lost it. So its cost grows with what is due or broken, not with
what is stored.

Refreshes nothing: that is the scheduler's.
"""

import math
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass

import anyio

from idiolectd import events
from idiolectd.clock import Clock
from idiolectd.errors import RecordError, StoreError
from idiolectd.events import About, EventSink, about, about_did
from idiolectd.ports import NO_SERVER, ScheduleEntry, SharedStore
from idiolectd.refresh import RefreshEngine
from idiolectd.scheduler.scheduler import Scheduler
from idiolectd.state import State, TokenTimes, reconcile, shown

# Seconds between two checks: tokens may live half a minute, and what has ended is reported within that.
_INTERVAL = 5.0

# Seconds between two comparisons of records and schedule.
_COMPARE_INTERVAL = 60.0

# How many seconds ahead the schedule is read, so that it is known what ends while the store can't answer.
_AHEAD = 60.0

# How many schedule entries one check reads. While very many sessions are overdue (a server that is down for
# days) the next check reads the next page, so that each has its turn.
_PAGE = 10_000


@dataclass(frozen=True)
class Expired:
    """A session whose access token has ended.

    Attributes:
        about: whose.
        at: when the token ended.
    """

    about: About
    at: float


class OverdueWatch:
    """Watches the sessions of one store; `run` is its task.

    Args:
        store: is asked which sessions are overdue.
        engine: returns what restores a lost schedule entry; as of `Scheduler`.
        scheduler: is asked why a session waits, and gets the restored entries.
        clock: wall-clock time.
        emit: who is told.
        page: how many schedule entries one check reads.
    """

    def __init__(
        self,
        store: SharedStore,
        engine: Callable[[], RefreshEngine],
        scheduler: Scheduler,
        *,
        clock: Clock,
        emit: EventSink,
        page: int = _PAGE,
    ) -> None:
        self._page = page
        self._store = store
        self._engine = engine
        self._scheduler = scheduler
        self._clock = clock
        self._emit = emit
        # A page of what is due soon or overdue, as of the store's last answer; after what the next one begins.
        self._entries: list[ScheduleEntry] = []
        self._after: ScheduleEntry | None = None
        # The sessions past their end in the last pass through all pages, and in this one.
        self._late_before: set[str] = set()
        self._late_now: set[str] = set()
        # Which end of an access token was reported, by DID.
        self._reported: dict[str, float] = {}

    async def run(self) -> None:
        """Watches until it is cancelled."""
        compare_at = -math.inf
        while True:
            for why in self._store.reopened():
                self._emit(events.StoreReopened(error=why))
            await self._check()
            if anyio.current_time() >= compare_at:
                compare_at = anyio.current_time() + _COMPARE_INTERVAL
                await self._compare()
            await anyio.sleep(_INTERVAL)

    # What has expired ------------------------------------------------------------------------

    async def _check(self) -> None:
        now, failure = self._clock.now(), None
        try:
            self._entries = await self._store.due(now + _AHEAD, limit=self._page, after=self._after)
            self._after = self._entries[-1] if len(self._entries) == self._page else None
        except StoreError as error:
            failure = str(error)
        late = {entry.did: entry for entry in self._entries if entry.at <= now and entry.expires_at <= now}
        # In two passes in a row: a machine that was off when a token ended gets a moment to refresh it.
        for did in self._late_before & late.keys():
            entry = late[did]
            try:
                expired = await self._expired(did, now)
            except StoreError as error:  # the schedule entry has to do
                failure = str(error)
                expired = _by_schedule(entry)
            if expired is not None and self._reported.get(did) != expired.at:
                self._reported[did] = expired.at
                await self._report(expired, failure)
        self._late_now |= late.keys()
        if self._after is None:  # that was the last page
            self._late_before, self._late_now = self._late_now, set()

    async def _expired(self, did: str, now: float) -> Expired | None:
        """Reads the record: a schedule entry may be older than the tokens, or only say when to look.

        Returns:
            None: its access token has not ended, or its session is reported for another reason.

        Raises:
            StoreError: the store can't answer.
        """
        try:
            entry = await self._store.read(did)
        except RecordError:
            return None  # reported as quarantined
        if entry.session is None:
            return None
        adopted = reconcile(entry.session, entry.state, now)
        if adopted.state.paused or adopted.state.state in (State.RELOGIN_REQUIRED, State.SUSPENDED):
            return None  # reported as such
        times = TokenTimes.of(adopted.session, adopted.state, now)
        if times.expires_at > now:
            return None
        return Expired(about(adopted.session), times.expires_at)

    async def _report(self, expired: Expired, failure: str | None) -> None:
        did = expired.about["did"]
        reason = failure or self._scheduler.why_waiting(did)
        if reason is None:
            holder = None
            with suppress(StoreError):
                holder = await self._store.claim_holder(did)
            reason = f"{holder} holds its claim" if holder else "nobody has tried to refresh it yet"
        self._emit(events.SessionOverdue(**expired.about, expires_at=shown(expired.at), error=reason))

    # What has lost its schedule entry -----------------------------------------------------------------

    async def _compare(self) -> None:
        now = self._clock.now()
        try:
            for did in tuple(self._reported):
                if await self._expired(did, now) is None:
                    del self._reported[did]
            unplanned = await self._store.unplanned()
        except StoreError:
            return  # reported by whoever needs the store for its work
        for did in unplanned:
            if not self._scheduler.knows(did):
                with suppress(RecordError, StoreError):  # next time
                    await self._restore_entry(did)

    async def _restore_entry(self, did: str) -> None:
        entry = await self._engine().restore_entry(did)
        if entry is not None:
            self._scheduler.put(did, entry)
            session = (await self._store.read(did)).session
            self._emit(events.SessionReplanned(**about_did(did, session), next_attempt_at=shown(entry.at)))


def _by_schedule(entry: ScheduleEntry) -> Expired | None:
    """What the schedule alone knows, while the store can't be read."""
    if entry.server == NO_SERVER:
        return None
    known = about_did(entry.did, None)
    known["issuer"] = entry.server
    return Expired(known, entry.expires_at)
