"""One session's refresh, from the claim to durable tokens. Nobody else sends a refresh token.

The way: claim → read again → decide → prepare → note → send → persist → judge. Rules:

* No claim, no refresh (promise 1). Under the claim the record is read again; whoever finds another
  token than it first saw is done, also when forced.
* Up to the note everything may be cancelled; from the note until the answer is durable nothing may
  (promise 2, `finish`).
* The note is durable before the first byte, the tokens before they are judged (promise 3).
* The refresh state is written under the claim only, so that no two writers lose each other's notes.
  `save` and `delete` are the exceptions: a login or a logout starts it anew.

It knows no HTTP and no files: servers are `SplitRefresher`, the store is `SharedStore`.
"""

import contextlib
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from idiolectd import events
from idiolectd.clock import Clock
from idiolectd.errors import StoreError
from idiolectd.events import EventSink
from idiolectd.finish import finish
from idiolectd.outcome import (
    Ambiguous,
    Current,
    Gone,
    RefreshOutcome,
    ReloginRequired,
    Retry,
    Suspended,
)
from idiolectd.ports import (
    Committed,
    Due,
    Entry,
    Prepared,
    SharedStore,
    Spill,
    SplitRefresher,
)
from idiolectd.refresh import report, unclear
from idiolectd.refresh.ledger import Attempt, Ledger, Work
from idiolectd.refresh.schedule import Planner
from idiolectd.refresh.sending import Patience, Sending
from idiolectd.session import Kind, OAuthSession
from idiolectd.state import Adopted, Change, RefreshState, State, adopt, last_good, shown, tokens_of

# How often DID → PDS → issuer is compared while nothing goes wrong: accounts move rarely.
_IDENTITY_INTERVAL = 7 * 86400.0


class RefreshEngine:
    """Refreshes sessions of one store.

    Args:
        store: where the sessions are.
        refreshers: how to refresh each kind.
        planner: when to act next.
        clock: wall-clock time.
        events: who is told.
        spill: a second place for tokens that the store would not take.
        patience: how long such tokens are held.
    """

    def __init__(
        self,
        store: SharedStore,
        refreshers: Mapping[Kind, SplitRefresher[Any]],
        *,
        planner: Planner,
        clock: Clock,
        events: EventSink,
        spill: Spill | None = None,
        patience: Patience | None = None,
    ) -> None:
        self._store = store
        self._refreshers = refreshers
        self._ledger = Ledger(store, planner, clock, events)
        self._spill = spill
        self.patience = patience or Patience()

    def reconfigure(self, refreshers: Mapping[Kind, SplitRefresher[Any]], planner: Planner) -> None:
        """Takes over other refreshers and another timing; what is under way ends with its own."""
        self._refreshers = refreshers
        self._ledger = self._ledger.with_planner(planner)

    async def look(self, did: str) -> Due | None:
        """Takes notice of a record as it is now; plans it if nobody has. Sends nothing.

        Raises:
            RecordError: the record is unreadable.
            LockBusy: somebody holds the claim and may be changing it: look again later.
            StoreError: the store can't answer.
        """
        entry = await self._store.read(did)
        if entry.session is None and last_good(entry.state) is None:
            return None
        now = self._ledger.clock.now()
        if entry.session is not None:
            adopted = adopt(entry.session, entry.state, now)
            if _is_known(adopted) and await self._spilled(adopted) is None:
                return self._ledger.line(Work(adopted.session, adopted.state, now))
        async with self._store.claim(did, patience=0):
            work = await self._adopt(await self._store.read(did))
            return None if work is None else self._ledger.line(work)

    async def shift(self, did: str, by: float) -> Due | None:
        """Brings a session's plan forward: the clock it was made by was set back by that much.

        Args:
            did: whose plan.
            by: seconds.

        Raises:
            As `look`.
        """
        async with self._store.claim(did, patience=0):
            work = await self._adopt(await self._store.read(did))
            if work is None or work.state.next_attempt_at is None:
                return None
            moved = replace(work, state=replace(work.state, next_attempt_at=work.state.next_attempt_at - by))
            await self._ledger.commit(work.session, moved)
            return self._ledger.line(moved)

    async def refresh(
        self, did: str, *, force: bool = False, needed: bool = False, patience: float = 0.0
    ) -> Attempt:
        """Refreshes one session if it is due.

        Args:
            did: whose session.
            force: even if it is not due and even if it is suspended; never a dead one.
            needed: a client wants to use the token now: due is what can't be used much longer.
            patience: how many seconds to wait for another process that works on the session.

        Raises:
            LockBusy: another process works on it. Nothing was done.
            RecordError: the record is unreadable.
            StoreError: the store failed before anything was sent.
        """
        seen = (await self._store.read(did)).session
        if seen is None:
            return Attempt(Gone(), None)
        async with self._store.claim(did, patience=patience):
            entry = await self._store.read(did)
            work = await self._adopt(entry)
            if work is None or entry.session is None:
                return Attempt(Gone(), None)
            if entry.session.refresh_token_hash != seen.refresh_token_hash:
                return self._ledger.attempt(Current(work.session), work)
            standing = self._standing(work, force=force, needed=needed)
            if standing is not None:
                return self._ledger.attempt(standing, work)
            return await self._work(work)

    # Taking notice ---------------------------------------------------------------------------

    async def _adopt(self, entry: Entry) -> Work | None:
        """Compares a record with its state, writes down what changed, plans what is new."""
        if entry.session is None:
            await self._forget(entry.state)
            return None
        now = self._ledger.clock.now()
        adopted = adopt(entry.session, entry.state, now)
        work = Work(adopted.session, adopted.state, now)
        spilled = await self._spilled(adopted)
        if spilled is not None:
            return await self._adopt_spill(work, spilled)
        if _is_known(adopted):
            return work
        if adopted.change is not Change.SPENT:
            work = replace(work, state=self._ledger.planner.fresh(work.session, work.state, now))
        put_back = tokens_of(work.session) if adopted.change is Change.SPENT else None
        if work.session.dpop_thumbprint != entry.session.dpop_thumbprint:
            await self._store.save(work.session)  # the whole record was an earlier login's
        elif await self._ledger.commit(entry.session, work, tokens=put_back) is not Committed.DONE:
            return None  # logged out, or in again, at this very moment: it will be looked at anew
        if self._spill is not None:
            with contextlib.suppress(StoreError):  # what it may keep is for a token that is stored no more
                await self._spill.remove(work.session.did)
        # A save of ours has compared record and state already, and left the planning to us.
        self._report(Change.LOGIN if adopted.change is Change.NONE else adopted.change, work)
        return work

    async def _spilled(self, adopted: Adopted) -> OAuthSession | None:
        """The tokens that came for the stored one and could not be saved then.

        Among sessions that are known, they can only be there if the stored token was sent and its
        answer was never written down: the others are spared the look.
        """
        if self._spill is None or (_is_known(adopted) and adopted.state.note_on(adopted.session) is None):
            return None
        spilled = await self._spill.find(adopted.session.did)
        if spilled is None:
            return None
        return spilled.session if spilled.predecessor == adopted.session.refresh_token_hash else None

    async def _adopt_spill(self, work: Work, arrived: OAuthSession) -> Work | None:
        assert self._spill is not None  # noqa: S101 - it is where they come from
        now, planner = self._ledger.clock.now(), self._ledger.planner
        session = work.session.with_tokens(tokens_of(arrived))
        state = planner.fresh(session, work.state.rotated(work.session, session, now), now)
        done = replace(work, session=session, state=state)
        if await self._ledger.commit(work.session, done, tokens=tokens_of(session)) is not Committed.DONE:
            return None
        with contextlib.suppress(StoreError):
            await self._spill.remove(session.did)
        planned = shown(state.next_attempt_at)
        self._ledger.emit(events.SessionSpillAdopted(did=session.did, next_attempt_at=planned))
        return done

    async def spilled(self) -> list[str]:
        """The sessions for which an earlier process has left tokens that it could not save.

        Raises:
            StoreError: the second place can't be read.
        """
        return [] if self._spill is None else await self._spill.dids()

    async def _forget(self, state: RefreshState) -> None:
        """The record is gone: so is, if nobody logged in meanwhile, what the state keeps of it."""
        good = last_good(state)
        if good is not None and await self._store.commit(good, state) is Committed.GONE:
            self._ledger.emit(events.SessionRemoved(did=good.did))

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
        if state.ending:
            self._ledger.emit(report.ending(session, self._ledger.planner.deadline(session)))

    # Deciding --------------------------------------------------------------------------------

    def _standing(self, work: Work, *, force: bool, needed: bool) -> RefreshOutcome | None:
        """The outcome that stands without doing anything; None: there is something to do."""
        session, state, now = work.session, work.state, work.started
        if state.state is State.RELOGIN_REQUIRED:
            return ReloginRequired(state.cause or "", *_last_words(state))
        if state.next_attempt_at is not None and now >= state.next_attempt_at:
            return None
        if state.state is State.AMBIGUOUS:  # the settling time is not a matter of opinion
            return Ambiguous(*_last_words(state))
        if force:
            return None
        if state.state is State.SUSPENDED:
            return Suspended(state.cause or "", *_last_words(state))
        if state.state is State.RETRYING:  # however many clients ask, the backoff is the session's
            return Retry(*_last_words(state))
        if needed and self._ledger.planner.is_needed(session, state, now):
            return None
        return Current(session)

    async def _work(self, work: Work) -> Attempt:
        session, state = work.session, work.state
        refresher = self._refreshers[session.kind]
        contradiction = _contradiction(session, state)
        if contradiction is not None:
            return await self._ledger.conclude(work, contradiction)
        verdict = await unclear.resolve(refresher, session, state)
        if verdict is not None:
            return await self._ledger.conclude(work, verdict)
        checked_at = state.identity_checked_at or state.token_seen_at or work.started
        refused = state.refusals > 0 or state.state is State.SUSPENDED
        prepared = await refresher.prepare(
            session, check_identity=refused or work.started - checked_at > _IDENTITY_INTERVAL
        )
        if not isinstance(prepared, Prepared):
            return await self._ledger.conclude(work, prepared)
        sending = Sending(refresher, self._ledger, self.patience, self._spill)
        return await finish(sending.send, work, prepared)


def _is_known(adopted: Adopted) -> bool:
    """Whether nothing happened to the record since its session was planned."""
    planned = adopted.state.next_attempt_at is not None or adopted.state.state is State.RELOGIN_REQUIRED
    return planned and adopted.change is Change.NONE


def _contradiction(session: OAuthSession, state: RefreshState) -> Suspended | None:
    """What the record holds and must not be sent: with it, the server would end the session."""
    field = state.pins.contradiction(session)
    if field is not None:
        causes = {"dpop_thumbprint": "dpop_key_mismatch", "issuer": "issuer_changed"}
        cause = causes.get(field, "client_mismatch")
        return Suspended(cause, cause, f"the record's {field} is not the one the session was started with")
    if session.refresh_token_hash in state.spent:
        return Suspended(state.cause or "token_spent", "token_spent", "the stored refresh token is used up")
    return None


def _last_words(state: RefreshState) -> tuple[str, str]:
    error = state.last_error
    return (error.code, error.message) if error is not None else ("unknown", "no reason was kept")
