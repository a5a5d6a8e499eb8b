"""Taking notice of a record: what somebody made of it since it was last looked at.

Under the claim, because it writes the state; it sends nothing. What is found is compared by
`idiolectd.state.adopt`, written down, planned and reported here.
"""

from dataclasses import replace

import anyio

from idiolectd import events
from idiolectd.ports import NOWHERE, Committed, Due, Entry, SharedStore, Spilled
from idiolectd.refresh import report
from idiolectd.refresh.ledger import MISFIT, Ledger, Work
from idiolectd.refresh.spill_look import SpillLook
from idiolectd.state import (
    Adopted,
    Change,
    RefreshState,
    State,
    adopt,
    last_good,
    shown,
    tokens_of,
)

# How long, in seconds, a record has to be away before that is a logout: a program that replaces it by
# removing it first needs some milliseconds.
STAYS_AWAY = 1.0


class Notice:
    """Brings record, state and schedule together.

    Args:
        store: where the records are.
        ledger: where the findings are written down.
        spill: looks into the second place for tokens that the store would not take.
    """

    def __init__(self, store: SharedStore, ledger: Ledger, spill: SpillLook) -> None:
        self._store = store
        self._ledger = ledger
        self._spill = spill
        self._missing_since: dict[str, float] = {}

    async def adopt(self, entry: Entry) -> Work | None:
        """Compares a record with its state, writes down what changed, plans what is new."""
        if entry.session is None:
            return None
        now = self._ledger.clock.now()
        adopted = adopt(entry.session, entry.state, now)
        work = Work(adopted.session, adopted.state, now)
        spilled = await self.spilled(adopted)
        if spilled is not None:
            return await self._adopt_spill(work, spilled)
        if is_known(adopted):
            return work
        if adopted.change is not Change.SPENT or adopted.state.next_attempt_at is None:
            work = replace(work, state=self._ledger.planner.fresh(work.session, work.state, now))
        put_back = tokens_of(work.session) if adopted.change is Change.SPENT else None
        if work.session.dpop_thumbprint != entry.session.dpop_thumbprint:
            await self._store.save(work.session)  # the whole record was an earlier login's
        elif await self._ledger.commit(entry.session, work, tokens=put_back) is not Committed.DONE:
            return None  # logged out, or in again, at this very moment: it will be looked at anew
        # What is kept there is for a token that is stored no more.
        await self._spill.forget(work.session.did)
        if not entry.cut_short:  # our own commit is finished now: that is no news to anybody
            # A save of ours has compared record and state already, and left the planning to us.
            self._report(Change.LOGIN if adopted.change is Change.NONE else adopted.change, work)
        self._ledger.warn_of_end(work, adopted.state)
        return work

    async def spilled(self, adopted: Adopted) -> Spilled | None:
        """The tokens that came for the stored one and could not be saved then.

        Among sessions that are known, they can only be there if the stored token was sent and its
        answer was never written down: the others are spared the look. So it must be possible for that
        one only; a login needs nothing from there.

        Raises:
            SpillUnreadable: it is not.
        """
        was_sent = adopted.state.note_on(adopted.session) is not None
        if adopted.change is Change.NONE and not was_sent:
            return None
        return await self._spill.find(adopted.session, needed=was_sent)

    async def _adopt_spill(self, work: Work, spilled: Spilled) -> Work | None:
        """Makes durable what an earlier process could not: tokens are published only if they fit."""
        now, planner = self._ledger.clock.now(), self._ledger.planner
        session = work.session.with_tokens(tokens_of(spilled.session))
        done, tokens = work, None
        if spilled.misfit is None and spilled.unsaid is None:
            state = planner.fresh(session, work.state.rotated(work.session, session, now), now)
            done, tokens = replace(work, session=session, state=state), tokens_of(session)
        else:
            unsaid = spilled.unsaid if spilled.misfit is None else None
            state = work.state.withholding(work.session, session, now, unconfirmed=unsaid)
            if unsaid is not None:
                state = replace(state, next_attempt_at=now)
            else:
                state = state.failed(State.SUSPENDED, MISFIT, spilled.misfit or "", now, cause=MISFIT)
                state = planner.slow(work.session, state, now, asked=True)
            done = replace(work, state=state)
        if await self._ledger.commit(work.session, done, tokens=tokens) is not Committed.DONE:
            return None
        await self._spill.forget(session.did, work.session.refresh_token_hash)
        planned = shown(state.next_attempt_at)
        self._ledger.emit(events.SessionSpillAdopted(did=session.did, next_attempt_at=planned))
        if state.state is State.SUSPENDED:
            self._ledger.emit(report.problem(done.session, state))
        return done

    async def forget(self, did: str, state: RefreshState) -> Due | None:
        """Forgets, if the record stays away, what is known of its session; returns when to look again.

        A record that is not there is no logout yet: a foreign program may be replacing it by removing it
        first.
        """
        if state == RefreshState():
            return None
        now = anyio.current_time()
        left = self._missing_since.setdefault(did, now) + STAYS_AWAY - now
        if left > 0:
            wall = self._ledger.clock.now()
            return Due(at=wall + left, did=did, expires_at=wall, lane=NOWHERE)
        del self._missing_since[did]
        if await self._store.forget(did) and last_good(state) is not None:
            self._ledger.emit(events.SessionRemoved(did=did))
        return None

    def found(self, did: str) -> None:
        """The record of a DID is there."""
        self._missing_since.pop(did, None)

    def _report(self, change: Change, work: Work) -> None:
        session, state = work.session, work.state
        match change:
            case Change.NONE:
                return
            case Change.LOGIN:
                planned = shown(state.next_attempt_at)
                self._ledger.emit(
                    events.SessionFound(
                        did=session.did, kind=session.kind, issuer=session.issuer, next_attempt_at=planned
                    )
                )
            case Change.ROTATED:
                self._ledger.emit(events.SessionRotatedElsewhere(did=session.did))
            case Change.SPENT:
                self._ledger.emit(events.SessionSpentTokenUndone(did=session.did))


def is_known(adopted: Adopted) -> bool:
    """Whether nothing happened to the record since its session was planned."""
    planned = adopted.state.next_attempt_at is not None or adopted.state.state is State.RELOGIN_REQUIRED
    return planned and adopted.change is Change.NONE
