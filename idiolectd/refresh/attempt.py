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
from idiolectd.ports import (
    AccessTokenStatus,
    Answer,
    Arrived,
    Committed,
    Prepared,
    Spill,
    Spilled,
    SplitRefresher,
)
from idiolectd.refresh import report
from idiolectd.refresh.reconciler import STAYS_AWAY
from idiolectd.refresh.recorder import MISFIT, UNCONFIRMED, AttemptResult, ClaimedSession, Recorder
from idiolectd.session import OAuthSession, Tokens
from idiolectd.state import RefreshState, State, tokens_of, withheld

# A save that failed is tried again after 0.1 s, doubling to 5 s: the tokens exist only here.
_SAVE_RETRY = (0.1, 5.0)

# com.atproto.server.refreshSession: the other known status, deactivated, is the person's own wish.
_TAKEN_DOWN = ("takendown", "suspended")


class SaveDeadline:
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


class Attempt:
    """Brings one prepared request to its end.

    Args:
        refresher: sends it.
        ledger: where the end is written down.
        patience: how long tokens that can't be saved are held.
        spill: the second place for them, if there is one.
    """

    def __init__(
        self, refresher: SplitRefresher[Any], recorder: Recorder, patience: SaveDeadline, spill: Spill | None
    ) -> None:
        self._refresher = refresher
        self._recorder = recorder
        self._save_deadline = patience
        self._spill = spill

    async def send(self, work: ClaimedSession, prepared: Prepared[Any]) -> AttemptResult:
        """Note, send, persist. Runs shielded; the refresher's deadline bounds it."""
        planner, now = self._recorder.planner, self._recorder.clock.now()
        session = prepared.session
        state = work.state.noting(session, now)
        await self._recorder.store.ensure_room()
        # Should we die now, this is what the next process finds: sent, and no answer known.
        unknown = planner.settle_or_retry(session, state.awaiting_answer(), now)
        noted = replace(work, session=session, state=unknown)
        match await self._recorder.note(work, noted):
            case Committed.GONE:
                return AttemptResult(Gone(), None)
            case Committed.SUPERSEDED:
                return self._recorder.attempt(Current(session), work)
            case Committed.DONE:
                pass
        # From here on the server may rotate the token: then the stored one is dead, and the only
        # copy of the new one is in the answer.
        answer = await self._refresher.send(session, prepared)
        sent = replace(work, session=session, state=state, sent=True)
        return await self._persist(sent, answer, before=work.state)

    async def _persist(self, sent: ClaimedSession, answer: Answer, *, before: RefreshState) -> AttemptResult:
        match answer:
            case Arrived(mismatch=None, unconfirmed=None):
                return await self._publish(sent, answer.tokens, before=before, status=answer.account_status)
            case Arrived():
                return await self._withhold(sent, answer)
            case Ambiguous():
                return await self._recorder.conclude(sent, answer)
            case _:
                answered = replace(sent, state=sent.state.answered())
                return await self._recorder.conclude(answered, answer)

    async def _publish(
        self, sent: ClaimedSession, tokens: Tokens, *, before: RefreshState, status: str | None = None
    ) -> AttemptResult:
        now = self._recorder.clock.now()
        told = sent.state.named_by_server(tokens.handle, sent.session.known_as or tokens.handle)
        told = told.with_account_status(status)
        # A server may call its account anything, another account's name too: that changes no name.
        tokens = replace(tokens, handle=sent.session.handle or tokens.handle, confirmed_handle=None)
        session = sent.session.with_tokens(tokens)
        state = self._recorder.planner.fresh(session, told.rotated(sent.session, session, now), now)
        refused = _taken_down(state)
        if refused is not None:  # its tokens are good for little; when it is back, the next refresh tells
            state = state.failed(State.SUSPENDED, refused.code, refused.message, now, cause=refused.cause)
        done = replace(sent, session=session, state=state)
        tokens = replace(tokens, pds_url=session.pds_url)
        spilled = Spilled(sent.session.refresh_token_hash, session)
        match await self._saved(sent, done, spilled, tokens):
            case Committed.DONE:
                self._recorder.emit(
                    report.refreshed(
                        session, state, before, started=sent.started, now=self._recorder.clock.now()
                    )
                )
                self._recorder.warn_of_end(done, before)
                self._recorder.tell_of_account(done, before)
                if refused is not None and before.cause != refused.cause:
                    self._recorder.emit(report.problem(session, state))
                return self._recorder.attempt(refused or Refreshed(session), done)
            case Committed.GONE:
                return await self._logged_out(session)
            case Committed.SUPERSEDED:
                # A login landed while we refreshed, and wins; the look at it will plan it.
                self._recorder.emit(events.SessionRotatedElsewhere(did=session.did))
                return AttemptResult(Current(session), None)
            case Unpersisted() as failed:
                return AttemptResult(failed, None)

    async def confirm(self, work: ClaimedSession) -> AttemptResult:
        """Publishes withheld tokens if the PDS says that they are this session's. Runs shielded."""
        arrived, unconfirmed = withheld(work.state), work.state.unconfirmed
        if arrived is None or unconfirmed is None:
            raise ValueError("there is nothing to confirm")
        probe = await self._refresher.probe(arrived)
        asked = replace(work, sent=True)
        if probe.taken is AccessTokenStatus.ACCEPTED:
            return await self._publish(work, tokens_of(arrived), before=work.state)
        if probe.did not in (None, work.session.did):
            judged = replace(asked, state=work.state.contradicted())
            message = f"{unconfirmed}, and the PDS takes its token for {probe.did}'s"
            return await self._recorder.conclude(judged, Suspended(MISFIT, MISFIT, message))
        if probe.taken is AccessTokenStatus.REFUSED:
            message = f"{unconfirmed}, and the PDS does not take its token"
            return await self._recorder.conclude(asked, Suspended(UNCONFIRMED, UNCONFIRMED, message))
        message = f"{unconfirmed}, and the PDS can't say now whose its token is"
        return await self._recorder.conclude(asked, Retry(UNCONFIRMED, message))

    async def _withhold(self, sent: ClaimedSession, answer: Arrived) -> AttemptResult:
        """Keeps tokens durably that must not be published, or not yet."""
        now = self._recorder.clock.now()
        session = sent.session.with_tokens(answer.tokens)
        unconfirmed = answer.unconfirmed if answer.mismatch is None else None
        state = sent.state.withholding(sent.session, session, now, unconfirmed=unconfirmed)
        kept = replace(sent, state=self._recorder.planner.slow(sent.session, state, now, asked=True))
        if unconfirmed is not None:  # should we die now, the next process asks at once
            kept = replace(kept, state=state.planned(now))
        spilled = Spilled(sent.session.refresh_token_hash, session, answer.mismatch, unconfirmed)
        match await self._saved(sent, kept, spilled, None):
            case Committed.DONE if unconfirmed is not None:
                return await self.confirm(kept)
            case Committed.DONE:
                return await self._recorder.conclude(kept, Suspended(MISFIT, MISFIT, answer.mismatch or ""))
            case Committed.GONE:
                return await self._logged_out(session)
            case Committed.SUPERSEDED:
                self._recorder.emit(events.SessionRotatedElsewhere(did=session.did))
                return AttemptResult(Current(sent.session), None)
            case Unpersisted() as failed:
                return AttemptResult(failed, None)

    async def _saved(
        self, sent: ClaimedSession, done: ClaimedSession, spilled: Spilled, tokens: Tokens | None
    ) -> Committed | Unpersisted:
        committed = await self._hold_until_saved(sent, done, spilled, tokens)
        if committed is Committed.GONE:
            # Perhaps a foreign program is replacing the record, and has removed it first.
            await anyio.sleep(STAYS_AWAY)
            committed = await self._hold_until_saved(sent, done, spilled, tokens)
        return committed

    async def _logged_out(self, session: OAuthSession) -> AttemptResult:
        """The record is gone since we sent: the new tokens must not outlive that."""
        await self._refresher.revoke(session)
        self._recorder.emit(events.SessionRemoved(did=session.did))
        return AttemptResult(Gone(), None)

    async def _hold_until_saved(
        self, sent: ClaimedSession, done: ClaimedSession, spilled: Spilled, tokens: Tokens | None
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
                committed = await self._recorder.commit(sent.session, done, tokens=tokens)
            except StoreError as error:
                self._save_deadline.holding.add(sent.session.did)
                was, place = place, place or await self._spill_over(spilled)
                if place != was or anyio.current_time() >= say_at:
                    told += 1
                    say_at = anyio.current_time() + reminder_gap(told)
                    self._recorder.emit(report.unpersisted(sent.session, sent.state, error, place))
                if not self._save_deadline.lasts(since, pause):
                    return Unpersisted(str(error))
            else:
                if place is not None and self._spill is not None:
                    with contextlib.suppress(StoreError):  # worthless now; the next claim removes it
                        await self._spill.remove(sent.session.did, spilled.predecessor)
                self._save_deadline.holding.discard(sent.session.did)
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
