"""The watch over what the scheduler does: no access token passes its end without a word.

It does not rest on what it watches. Every few seconds it asks the *store* which sessions are past their
due time, whatever the scheduler believes, and looks at the record before it says that one has expired.
While the store can't answer, it judges by what it knew. Every few minutes it compares what is stored with
what is planned, a part of the store at a time, and puts back what has lost its place. So the cost grows
with what is due or broken, not with what is stored.

It refreshes nothing: that some session is past its end is the scheduler's to mend, and is only told here.
"""

import math
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass

import anyio

from idiolectd import events
from idiolectd.clock import Clock
from idiolectd.errors import RecordError, StoreError
from idiolectd.events import EventSink
from idiolectd.ports import NO_SERVER, ScheduleEntry, SharedStore
from idiolectd.refresh import RefreshEngine
from idiolectd.scheduler.scheduler import Scheduler
from idiolectd.state import State, TokenTimes, reconcile, shown

# Tokens may live half a minute, and what expires has to be told within that.
_ROUND = 5.0

# Between two comparisons of store and plan.
_COMPARE = 60.0

# How far ahead it looks, so that it knows what expires while the store can't answer.
_AHEAD = 60.0

# Of a crowd of overdue sessions (a server that is down for days) a page a round is looked at, so that nobody
# stands behind it for good.
_PAGE = 10_000


@dataclass(frozen=True)
class Expired:
    """A session whose access token has ended.

    Attributes:
        did: whose.
        issuer: whom its refresh goes to, if that is known.
        at: when the token ended.
    """

    did: str
    issuer: str | None
    at: float


class OverdueWatch:
    """Looks after the sessions of one store; `run` is its task.

    Args:
        store: is asked.
        engine: returns what mends a lost plan; as of `Scheduler`.
        scheduler: is asked what holds a session, and told what was mended.
        clock: wall-clock time.
        emit: who is told.
        page: how many lines of the schedule a round looks at.
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
        # A page of what is due soon or overdue, as of the store's last answer; where the next one begins.
        self._lines: list[ScheduleEntry] = []
        self._after: ScheduleEntry | None = None
        # Seen past its end in the last turn through all pages, and in this one; which end was told, by DID.
        self._suspected: set[str] = set()
        self._seen: set[str] = set()
        self._told: dict[str, float] = {}

    async def run(self) -> None:
        """Watches until it is cancelled."""
        compare_at = -math.inf
        while True:
            for why in self._store.reopened():
                self._emit(events.StoreReopened(error=why))
            await self._look()
            if anyio.current_time() >= compare_at:
                compare_at = anyio.current_time() + _COMPARE
                await self._compare()
            await anyio.sleep(_ROUND)

    # What has expired ------------------------------------------------------------------------

    async def _look(self) -> None:
        now, trouble = self._clock.now(), None
        try:
            self._lines = await self._store.due(now + _AHEAD, limit=self._page, after=self._after)
            self._after = self._lines[-1] if len(self._lines) == self._page else None
        except StoreError as error:
            trouble = str(error)
        late = {entry.did: entry for entry in self._lines if entry.at <= now and entry.expires_at <= now}
        # Twice in a row: what was off while its token ended gets a moment to be refreshed.
        for did in self._suspected & late.keys():
            entry = late[did]
            try:
                expired = await self._expired(did, now)
            except StoreError as error:  # the line has to do
                trouble = str(error)
                expired = Expired(did, entry.server, entry.expires_at) if entry.server != NO_SERVER else None
            if expired is not None and self._told.get(did) != expired.at:
                self._told[did] = expired.at
                await self._tell(expired, trouble)
        self._seen |= late.keys()
        if self._after is None:  # all pages were turned
            self._suspected, self._seen = self._seen, set()

    async def _expired(self, did: str, now: float) -> Expired | None:
        """Whether it is so by the record: a line may be older than the tokens, or one to look at only.

        Raises:
            StoreError: it can't be told.
        """
        try:
            entry = await self._store.read(did)
        except RecordError:
            return None  # told as quarantined
        if entry.session is None:
            return None
        adopted = reconcile(entry.session, entry.state, now)
        if adopted.state.paused or adopted.state.state in (State.RELOGIN_REQUIRED, State.SUSPENDED):
            return None  # told as such
        times = TokenTimes.of(adopted.session, adopted.state, now)
        if times.expires_at > now:
            return None
        return Expired(did, adopted.session.issuer, times.expires_at)

    async def _tell(self, expired: Expired, trouble: str | None) -> None:
        what = trouble or self._scheduler.holds(expired.did)
        if what is None:
            holder = None
            with suppress(StoreError):
                holder = await self._store.claim_holder(expired.did)
            what = f"{holder} holds its claim" if holder else "nobody has tried to refresh it yet"
        self._emit(
            events.SessionOverdue(
                did=expired.did, issuer=expired.issuer, expires_at=shown(expired.at), error=what
            )
        )

    # What has lost its place -----------------------------------------------------------------

    async def _compare(self) -> None:
        now = self._clock.now()
        try:
            for did in tuple(self._told):
                if await self._expired(did, now) is None:
                    del self._told[did]
            unplanned = await self._store.unplanned()
        except StoreError:
            return  # told by whoever needs the store for his work
        for did in unplanned:
            if not self._scheduler.knows(did):
                with suppress(RecordError, StoreError):  # next time
                    await self._mend(did)

    async def _mend(self, did: str) -> None:
        due = await self._engine().restore_entry(did)
        if due is not None:
            self._scheduler.put(did, due)
            self._emit(events.SessionReplanned(did=did, next_attempt_at=shown(due.at)))
