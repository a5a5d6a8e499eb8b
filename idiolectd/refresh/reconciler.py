"""Taking notice of a record: what somebody made of it since it was last looked at.

Under the claim, because it writes the state; it sends nothing. What is found is compared by
`idiolectd.state.reconciliation`, written down, planned and reported here.
"""

from dataclasses import replace

import anyio

from idiolectd import events
from idiolectd.ports import NO_SERVER, Committed, ScheduleEntry, SharedStore, Spilled, StoredSession
from idiolectd.refresh import report
from idiolectd.refresh.recorder import MISFIT, ClaimedSession, Recorder
from idiolectd.refresh.spill_reader import SpillReader
from idiolectd.state import (
    ReconciledRecord,
    RecordChange,
    RefreshState,
    State,
    last_good,
    reconcile,
    shown,
    tokens_of,
)

# How long, in seconds, a record has to be away before that is a logout: a program that replaces it by
# removing it first needs some milliseconds.
STAYS_AWAY = 1.0


class Reconciler:
    """Brings record, state and schedule together.

    Args:
        store: where the records are.
        ledger: where the findings are written down.
        spill: looks into the second place for tokens that the store would not take.
    """

    def __init__(self, store: SharedStore, recorder: Recorder, spill: SpillReader) -> None:
        self._store = store
        self._recorder = recorder
        self._spill = spill
        self._missing_since: dict[str, float] = {}

    async def reconcile(self, entry: StoredSession) -> ClaimedSession | None:
        """Compares a record with its state, writes down what changed, plans what is new."""
        if entry.session is None:
            return None
        now = self._recorder.clock.now()
        reconciled = reconcile(entry.session, entry.state, now)
        work = ClaimedSession(reconciled.session, reconciled.state, now)
        spilled = await self.spilled(reconciled)
        if spilled is not None:
            return await self._adopt_spill(work, spilled)
        if is_known(reconciled):
            return work
        if reconciled.change is not RecordChange.SPENT or reconciled.state.next_attempt_at is None:
            work = replace(work, state=self._recorder.planner.fresh(work.session, work.state, now))
        put_back = tokens_of(work.session) if reconciled.change is RecordChange.SPENT else None
        if work.session.dpop_thumbprint != entry.session.dpop_thumbprint:
            await self._store.save(work.session)  # the whole record was an earlier login's
        elif await self._recorder.commit(entry.session, work, tokens=put_back) is not Committed.DONE:
            return None  # logged out, or in again, at this very moment: it will be looked at anew
        # What is kept there is for a token that is stored no more.
        await self._spill.forget(work.session.did)
        if not entry.interrupted_commit:  # our own commit is finished now: that is no news to anybody
            # A save of ours has compared record and state already, and left the planning to us.
            self._report(
                RecordChange.LOGIN if reconciled.change is RecordChange.NONE else reconciled.change, work
            )
        self._recorder.warn_of_end(work, reconciled.state)
        return work

    async def spilled(self, reconciled: ReconciledRecord) -> Spilled | None:
        """The tokens that came for the stored one and could not be saved then.

        Among sessions that are known, they can only be there if the stored token was sent and its
        answer was never written down: the others are spared the look. So it must be possible for that
        one only; a login needs nothing from there.

        Raises:
            SpillUnreadable: it is not.
        """
        was_sent = reconciled.state.note_on(reconciled.session) is not None
        if reconciled.change is RecordChange.NONE and not was_sent:
            return None
        return await self._spill.find(reconciled.session, needed=was_sent)

    async def _adopt_spill(self, work: ClaimedSession, spilled: Spilled) -> ClaimedSession | None:
        """Makes durable what an earlier process could not: tokens are published only if they fit."""
        now, planner = self._recorder.clock.now(), self._recorder.planner
        session = work.session.with_tokens(tokens_of(spilled.session))
        done, tokens = work, None
        if spilled.mismatch is None and spilled.unconfirmed is None:
            state = planner.fresh(session, work.state.rotated(work.session, session, now), now)
            done, tokens = replace(work, session=session, state=state), tokens_of(session)
        else:
            unconfirmed = spilled.unconfirmed if spilled.mismatch is None else None
            state = work.state.withholding(work.session, session, now, unconfirmed=unconfirmed)
            if unconfirmed is not None:
                state = state.planned(now)
            else:
                state = state.failed(State.SUSPENDED, MISFIT, spilled.mismatch or "", now, cause=MISFIT)
                state = planner.slow(work.session, state, now, asked=True)
            done = replace(work, state=state)
        if await self._recorder.commit(work.session, done, tokens=tokens) is not Committed.DONE:
            return None
        await self._spill.forget(session.did, work.session.refresh_token_hash)
        planned = shown(state.next_attempt_at)
        self._recorder.emit(events.SessionSpillAdopted(did=session.did, next_attempt_at=planned))
        if state.state is State.SUSPENDED:
            self._recorder.emit(report.problem(done.session, state))
        return done

    async def forget(self, did: str, state: RefreshState) -> ScheduleEntry | None:
        """Forgets, if the record stays away, what is known of its session; returns when to look again.

        A record that is not there is no logout yet: a foreign program may be replacing it by removing it
        first.
        """
        if state == RefreshState():
            return None
        now = anyio.current_time()
        left = self._missing_since.setdefault(did, now) + STAYS_AWAY - now
        if left > 0:
            wall = self._recorder.clock.now()
            return ScheduleEntry(at=wall + left, did=did, expires_at=wall, server=NO_SERVER)
        del self._missing_since[did]
        if await self._store.forget(did) and last_good(state) is not None:
            self._recorder.emit(events.SessionRemoved(did=did))
        return None

    def found(self, did: str) -> None:
        """The record of a DID is there."""
        self._missing_since.pop(did, None)

    def _report(self, change: RecordChange, work: ClaimedSession) -> None:
        session, state = work.session, work.state
        match change:
            case RecordChange.NONE:
                return
            case RecordChange.LOGIN:
                planned = shown(state.next_attempt_at)
                self._recorder.emit(
                    events.SessionFound(
                        did=session.did, kind=session.kind, issuer=session.issuer, next_attempt_at=planned
                    )
                )
            case RecordChange.ROTATED:
                self._recorder.emit(events.SessionRotatedElsewhere(did=session.did))
            case RecordChange.SPENT:
                self._recorder.emit(events.SessionSpentTokenUndone(did=session.did))


def is_known(reconciled: ReconciledRecord) -> bool:
    """Whether nothing happened to the record since its session was planned."""
    planned = reconciled.state.next_attempt_at is not None or reconciled.state.state is State.RELOGIN_REQUIRED
    return planned and reconciled.change is RecordChange.NONE
