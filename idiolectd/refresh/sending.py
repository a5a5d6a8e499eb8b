"""Past the point of no return: note, send, persist, judge.

Everything here runs shielded (`finish`): the refresher's own deadline bounds the request, and saving
goes on until it worked or a stopping daemon's patience ends.
"""

import contextlib
import math
from dataclasses import replace
from typing import Any

import anyio

from idiolectd import events
from idiolectd.errors import StoreError
from idiolectd.outcome import (
    Ambiguous,
    Current,
    Gone,
    Refreshed,
    Retry,
    Suspended,
    Unpersisted,
)
from idiolectd.policy import reminder_gap
from idiolectd.ports import Answer, Arrived, Committed, Prepared, Spill, Spilled, SplitRefresher, Taken
from idiolectd.refresh import report
from idiolectd.refresh.ledger import MISFIT, UNCONFIRMED, Attempt, Ledger, Work
from idiolectd.refresh.notice import STAYS_AWAY
from idiolectd.session import OAuthSession, Tokens
from idiolectd.state import RefreshState, State, tokens_of, withheld

# A save that failed is tried again after 0.1 s, doubling to 5 s: the tokens exist only here.
_SAVE_RETRY = (0.1, 5.0)

# com.atproto.server.refreshSession: the other known status, deactivated, is the person's own wish.
_TAKEN_DOWN = ("takendown", "suspended")


class Patience:
    """How long tokens that can't be saved are held.

    Args:
        longest: for this many seconds; a daemon: without end.

    Attributes:
        holding: the sessions whose tokens are held now. Any is an alarm: the disk.
    """

    def __init__(self, longest: float = math.inf) -> None:
        self.holding: set[str] = set()
        self._longest = longest
        self._until = math.inf

    def end_in(self, seconds: float) -> None:
        """From now on for this long only: a stop is bounded."""
        self._until = anyio.current_time() + seconds

    def lasts(self, since: float, pause: float) -> bool:
        """Whether tokens that arrived at `since` (of the event loop's clock) are held that much longer."""
        return anyio.current_time() + pause <= min(since + self._longest, self._until)


class Sending:
    """Brings one prepared request to its end.

    Args:
        refresher: sends it.
        ledger: where the end is written down.
        patience: how long tokens that can't be saved are held.
        spill: the second place for them, if there is one.
    """

    def __init__(
        self, refresher: SplitRefresher[Any], ledger: Ledger, patience: Patience, spill: Spill | None
    ) -> None:
        self._refresher = refresher
        self._ledger = ledger
        self._patience = patience
        self._spill = spill

    async def send(self, work: Work, prepared: Prepared[Any]) -> Attempt:
        """Note, send, persist. Runs shielded; the refresher's deadline bounds it."""
        planner, now = self._ledger.planner, self._ledger.clock.now()
        session = prepared.session
        state = replace(
            work.state,
            pins=work.state.pins.filled_from(session),
        ).noting(session, now)
        await self._ledger.store.ensure_room()
        # Should we die now, this is what the next process finds: sent, and no answer known.
        unknown = planner.settle_or_retry(session, replace(state, state=State.AMBIGUOUS), now)
        noted = replace(work, session=session, state=unknown)
        match await self._ledger.commit(work.session, noted):
            case Committed.GONE:
                return Attempt(Gone(), None)
            case Committed.SUPERSEDED:
                return self._ledger.attempt(Current(session), work)
            case Committed.DONE:
                pass
        # From here on the server may rotate the token: then the stored one is dead, and the only
        # copy of the new one is in the answer.
        answer = await self._refresher.send(session, prepared)
        sent = replace(work, session=session, state=state, sent=True)
        return await self._persist(sent, answer, before=work.state)

    async def _persist(self, sent: Work, answer: Answer, *, before: RefreshState) -> Attempt:
        match answer:
            case Arrived(misfit=None, unsaid=None):
                return await self._publish(sent, answer.tokens, before=before, status=answer.account_status)
            case Arrived():
                return await self._withhold(sent, answer)
            case Ambiguous():
                return await self._ledger.conclude(sent, answer)
            case _:
                answered = replace(sent, state=sent.state.answered())
                return await self._ledger.conclude(answered, answer)

    async def _publish(
        self, sent: Work, tokens: Tokens, *, before: RefreshState, status: str | None = None
    ) -> Attempt:
        now = self._ledger.clock.now()
        told = sent.state.told(tokens.handle, sent.session.known_as or tokens.handle)
        told = told.with_account_status(status)
        # A server may call its account anything, another account's name too: that changes no name.
        tokens = replace(tokens, handle=sent.session.handle or tokens.handle, confirmed_handle=None)
        session = sent.session.with_tokens(tokens)
        state = self._ledger.planner.fresh(session, told.rotated(sent.session, session, now), now)
        refused = _taken_down(state)
        if refused is not None:  # its tokens are good for little; when it is back, the next refresh tells
            state = state.failed(State.SUSPENDED, refused.code, refused.message, now, cause=refused.cause)
        done = replace(sent, session=session, state=state)
        tokens = replace(tokens, pds_url=session.pds_url)
        spilled = Spilled(sent.session.refresh_token_hash, session)
        match await self._saved(sent, done, spilled, tokens):
            case Committed.DONE:
                self._ledger.emit(
                    report.refreshed(
                        session, state, before, started=sent.started, now=self._ledger.clock.now()
                    )
                )
                self._ledger.warn_of_end(done, before)
                self._ledger.tell_of_account(done, before)
                if refused is not None and before.cause != refused.cause:
                    self._ledger.emit(report.problem(session, state))
                return self._ledger.attempt(refused or Refreshed(session), done)
            case Committed.GONE:
                return await self._logged_out(session)
            case Committed.SUPERSEDED:
                # A login landed while we refreshed, and wins; the look at it will plan it.
                self._ledger.emit(events.SessionRotatedElsewhere(did=session.did))
                return Attempt(Current(session), None)
            case Unpersisted() as failed:
                return Attempt(failed, None)

    async def confirm(self, work: Work) -> Attempt:
        """Publishes withheld tokens if the PDS says that they are this session's. Runs shielded."""
        arrived, unsaid = withheld(work.state), work.state.unconfirmed
        if arrived is None or unsaid is None:
            raise ValueError("there is nothing to confirm")
        probe = await self._refresher.probe(arrived)
        asked = replace(work, sent=True)
        if probe.taken is Taken.YES:
            return await self._publish(work, tokens_of(arrived), before=work.state)
        if probe.did not in (None, work.session.did):
            judged = replace(asked, state=replace(work.state, unconfirmed=None))
            message = f"{unsaid}, and the PDS takes its token for {probe.did}'s"
            return await self._ledger.conclude(judged, Suspended(MISFIT, MISFIT, message))
        if probe.taken is Taken.NO:
            message = f"{unsaid}, and the PDS does not take its token"
            return await self._ledger.conclude(asked, Suspended(UNCONFIRMED, UNCONFIRMED, message))
        message = f"{unsaid}, and the PDS can't say now whose its token is"
        return await self._ledger.conclude(asked, Retry(UNCONFIRMED, message))

    async def _withhold(self, sent: Work, answer: Arrived) -> Attempt:
        """Keeps tokens durably that must not be published, or not yet."""
        now = self._ledger.clock.now()
        session = sent.session.with_tokens(answer.tokens)
        unsaid = answer.unsaid if answer.misfit is None else None
        state = sent.state.withholding(sent.session, session, now, unconfirmed=unsaid)
        kept = replace(sent, state=self._ledger.planner.slow(sent.session, state, now, asked=True))
        if unsaid is not None:  # should we die now, the next process asks at once
            kept = replace(kept, state=replace(state, next_attempt_at=now))
        spilled = Spilled(sent.session.refresh_token_hash, session, answer.misfit, unsaid)
        match await self._saved(sent, kept, spilled, None):
            case Committed.DONE if unsaid is not None:
                return await self.confirm(kept)
            case Committed.DONE:
                return await self._ledger.conclude(kept, Suspended(MISFIT, MISFIT, answer.misfit or ""))
            case Committed.GONE:
                return await self._logged_out(session)
            case Committed.SUPERSEDED:
                self._ledger.emit(events.SessionRotatedElsewhere(did=session.did))
                return Attempt(Current(sent.session), None)
            case Unpersisted() as failed:
                return Attempt(failed, None)

    async def _saved(
        self, sent: Work, done: Work, spilled: Spilled, tokens: Tokens | None
    ) -> Committed | Unpersisted:
        committed = await self._hold_until_saved(sent, done, spilled, tokens)
        if committed is Committed.GONE:
            # Perhaps a foreign program is replacing the record, and has removed it first.
            await anyio.sleep(STAYS_AWAY)
            committed = await self._hold_until_saved(sent, done, spilled, tokens)
        return committed

    async def _logged_out(self, session: OAuthSession) -> Attempt:
        """The record is gone since we sent: the new tokens must not outlive that."""
        await self._refresher.revoke(session)
        self._ledger.emit(events.SessionRemoved(did=session.did))
        return Attempt(Gone(), None)

    async def _hold_until_saved(
        self, sent: Work, done: Work, spilled: Spilled, tokens: Tokens | None
    ) -> Committed | Unpersisted:
        """Saves, and tries again while it fails: these tokens exist nowhere else (promise 5).

        Each failure is the same trouble: it is told when it begins or the tokens find a second place, and
        at growing distance.
        """
        pause, longest = _SAVE_RETRY
        place: str | None = None
        since = say_at = anyio.current_time()
        told = 0
        while True:
            try:
                committed = await self._ledger.commit(sent.session, done, tokens=tokens)
            except StoreError as error:
                self._patience.holding.add(sent.session.did)
                was, place = place, place or await self._spill_over(spilled)
                if place != was or anyio.current_time() >= say_at:
                    told += 1
                    say_at = anyio.current_time() + reminder_gap(told)
                    self._ledger.emit(report.unpersisted(sent.session, sent.state, error, place))
                if not self._patience.lasts(since, pause):
                    return Unpersisted(str(error))
            else:
                if place is not None and self._spill is not None:
                    with contextlib.suppress(StoreError):  # worthless now; the next claim removes it
                        await self._spill.remove(sent.session.did, spilled.predecessor)
                self._patience.holding.discard(sent.session.did)
                return committed
            await anyio.sleep(pause)
            pause = min(longest, pause * 2)

    async def _spill_over(self, spilled: Spilled) -> str | None:
        if self._spill is None:
            return None
        try:
            return await self._spill.put(spilled)
        except StoreError:
            return None


def _taken_down(state: RefreshState) -> Suspended | None:
    """What it means for a session that its account was taken down; a deactivated one's goes on."""
    if state.account_status not in _TAKEN_DOWN:
        return None
    message = f"the server gives tokens, and calls the account {state.account_status}"
    return Suspended(report.TAKEN_DOWN, report.TAKEN_DOWN, message)
