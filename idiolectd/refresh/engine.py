"""One session's refresh, from the claim to durable tokens. Nobody else sends a refresh token.

The way of one session, in the order of the doing:

    claim → read again → reconcile → decide → prepare → note → send → persist → judge

`RefreshEngine.refresh` goes it, and reads top to bottom. Rules:

* No claim, no refresh (promise 1). Under the claim the record is read again; whoever finds another
  token than it first saw is done, also when forced.
* Up to the note everything may be cancelled. From the note until the answer is durable nothing may
  (promise 2): `_send` and `_confirm` run shielded (`finish`); the refresher's own deadline bounds the
  request, and saving goes on until it worked or the `SaveDeadline` ends.
* The note is durable before the first byte, the tokens before they are judged (promise 3).
* The refresh state is written under the claim only, so that no two writers lose each other's notes.
  `save` and `delete` are the exceptions: a login or a logout starts it anew.

It knows no HTTP and no files: servers are `SplitRefresher`, the store is `SharedStore`.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from idiolectd import events
from idiolectd.clock import Clock
from idiolectd.copying import replace
from idiolectd.errors import LockBusy, NoSessionError, SessionError
from idiolectd.events import EventSink
from idiolectd.finish import finish
from idiolectd.jose import token_hash
from idiolectd.outcome import (
    Ambiguous,
    Cause,
    Code,
    Current,
    Gone,
    Refreshed,
    ReloginRequired,
    Retry,
    Suspended,
    Unpersisted,
)
from idiolectd.ports import (
    AccessTokenStatus,
    AccountLocation,
    Answer,
    Arrived,
    Committed,
    NewRecord,
    Prepared,
    ScheduleEntry,
    SharedStore,
    Spilled,
    SplitRefresher,
    StoredSession,
)
from idiolectd.refresh import access_probe, report, verdict
from idiolectd.refresh.access_probe import Lives
from idiolectd.refresh.account_locator import AccountLocator
from idiolectd.refresh.planner import Planner, is_identity_urgent
from idiolectd.refresh.recorder import AttemptResult, ClaimedSession, Reconciled, Recorder, is_known
from idiolectd.refresh.saving import SaveDeadline, Saver
from idiolectd.remedy import PLAIN, Commands
from idiolectd.session import Kind, OAuthSession, Tokens
from idiolectd.state import RefreshState, State, TokenTimes, displaced, reconcile, tokens_of, withheld

# Called with the origin that a refresh token is about to be sent to; returns for how many seconds it must
# not be sent there (0: send it).
Admission = Callable[[str], float]


class RefreshEngine:
    """Refreshes sessions of one store.

    Args:
        store: where the sessions are.
        refreshers: how to refresh each kind.
        planner: when to act next.
        clock: wall-clock time.
        events: who is told.
        save_deadline: how long tokens that the store would not take are held; None: without end.
        commands: how the commands that events name are typed.
        put_back_at: when it was noticed that an older copy of the store had been put back; None: never.
    """

    def __init__(
        self,
        store: SharedStore,
        refreshers: Mapping[Kind, SplitRefresher[Any]],
        *,
        planner: Planner,
        clock: Clock,
        events: EventSink,
        save_deadline: SaveDeadline | None = None,
        commands: Commands = PLAIN,
        put_back_at: float | None = None,
    ) -> None:
        self._store = store
        self._refreshers = refreshers
        self._clock = clock
        self._emit = events
        self._recorder = Recorder(store, planner, clock, events, commands, put_back_at)
        self.commands = commands
        self._locator = AccountLocator()
        self.save_deadline = save_deadline or SaveDeadline()
        self._saver = Saver(self._recorder, self.save_deadline)

    # The way of one session ------------------------------------------------------------------

    async def refresh(
        self,
        did: str,
        *,
        force: bool = False,
        needed: bool = False,
        revive: bool = False,
        patience: float = 0.0,
        admit: Admission | None = None,
    ) -> AttemptResult:
        """Refreshes one session if it is due.

        Args:
            did: whose session.
            force: even if it is not due and even if it is suspended; never a dead one.
            needed: a client wants to use the token now: due is what can't be used much longer.
            revive: a dead one too, once: somebody believes that its server was wrong.
            patience: how many seconds to wait for another process that works on the session.
            admit: asked right before the token is sent; None: nobody has to be asked.

        Raises:
            LockBusy: another process works on it. Nothing was done.
            RecordError: the record is unreadable.
            StoreError: the store failed before anything was sent.
        """
        first_seen = None
        if force or patience > 0:  # somebody else may refresh it before the claim is ours
            first_seen = (await self._store.read(did)).session
            if first_seen is None:
                return AttemptResult(Gone(), None)
        async with self._store.claim(did, patience=patience):
            stored = await self._store.read(did)
            claimed = await self._recorder.reconcile(stored)
            if claimed is None or stored.session is None:
                return AttemptResult(Gone(), None)
            if first_seen and stored.session.refresh_token_hash != first_seen.refresh_token_hash:
                return self._recorder.result(Current(claimed.session), claimed)
            session, state, now = claimed.session, claimed.state, claimed.started
            flags = {"force": force, "needed": needed, "revive": revive}
            standing = verdict.standing(session, state, self._recorder.planner, now, **flags)
            if standing is not None:
                return self._recorder.result(standing, claimed)
            if state.unconfirmed is not None and withheld(state) is not None:
                confirmed = await finish(self._confirm, claimed)
                return replace(confirmed, asked=None)  # it was the PDS
            refresher = self._refreshers[session.kind]
            decided = await self._decide(claimed, refresher)
            if isinstance(decided, AttemptResult):
                return decided
            prepared = await refresher.prepare(decided.session)
            if not isinstance(prepared, Prepared):
                concluded = await self._recorder.conclude(decided, prepared)
                return replace(concluded, asked=prepared.server if isinstance(prepared, Retry) else None)
            wait = admit(prepared.server) if admit and prepared.server else 0.0
            if wait > 0:
                return self._recorder.deferred(decided, wait)
            return await finish(self._send, decided, refresher, prepared)

    async def _decide(
        self, claimed: ClaimedSession, refresher: SplitRefresher[Any]
    ) -> ClaimedSession | AttemptResult:
        """Makes sure that the stored refresh token may be sent, and asks the servers that know more.

        Returns the session with what was learnt, or how the attempt has ended already.
        """
        contradiction = verdict.contradiction(claimed.session, claimed.state)
        if contradiction is not None:
            return await self._recorder.conclude(claimed, contradiction)
        if claimed.state.displaced is not None:
            settled = await self._settle_displaced(claimed, refresher)
            if isinstance(settled, AttemptResult):
                return settled
            claimed = settled
        if claimed.state.is_restored(claimed.session) and not refresher.has_grace:
            settled = await self._settle_restored(claimed, refresher)
            if isinstance(settled, AttemptResult):
                return settled
            claimed = settled
        session, state = claimed.session, claimed.state
        # A dead session that is revived is asked about too: its token may be the one that was rotated.
        is_unclear = state.is_unclear(session) and not refresher.has_grace
        may_end = state.state is not State.RELOGIN_REQUIRED and verdict.may_end(
            self._recorder.planner.policy, state, claimed.started
        )
        if is_unclear or may_end:
            probe = await refresher.probe(session)
            claimed = replace(claimed, access_token=probe.status)
            if is_unclear:
                found = access_probe.after_unclear_answer(probe, session, self._clock.now())
                if found is not None:
                    return await self._recorder.conclude(claimed, found)
        if is_identity_urgent(state):
            located = await self._locator.ask(refresher, session)
            if isinstance(located, Suspended):
                return await self._recorder.conclude(claimed, located)
            if located is not None and located.moved_to is not None:
                message = f"the account has moved to {located.moved_to}, and {session.pds_url} refuses it"
                moved = replace(claimed, state=state.account_moved(located.moved_to))
                suspended = Suspended(Cause.ACCOUNT_MOVED, Cause.ACCOUNT_MOVED, message)
                return await self._recorder.conclude(moved, suspended)
            if located is not None:
                claimed = replace(claimed, session=located.session)
        return claimed

    async def _settle_displaced(
        self, claimed: ClaimedSession, refresher: SplitRefresher[Any]
    ) -> ClaimedSession | AttemptResult:
        """Finds out whether the stored record or the one that it displaced holds the newest tokens.

        A legacy session's refresh token can be sent without harm, and its access tokens outlive a rotation:
        there the first refusal of the stored one brings the other back.
        """
        session, state, now = claimed.session, claimed.state, self._clock.now()
        other = displaced(state)
        if other is None:
            return replace(claimed, state=state.proven())
        if other.dpop_thumbprint == session.dpop_thumbprint:
            other = state.pins.restored_to(other)
        if refresher.has_grace:
            return await self._bring_back(claimed, other) if state.refusals else claimed
        match access_probe.which_lives(session, await refresher.probe(session), state, now):
            case Lives.STORED:
                return replace(claimed, state=state.proven())
            case Lives.OTHER:
                return await self._bring_back(claimed, other)
            case Lives.UNTOLD:
                message = (
                    "another program has replaced the record, and the PDS can't say whether its tokens"
                    " are newer"
                )
                return await self._recorder.conclude(claimed, Retry(Code.UNPROVEN, message))
            case Lives.ASK_OTHER:
                if (await refresher.probe(other)).status is AccessTokenStatus.ACCEPTED:
                    return await self._bring_back(claimed, other)
                return claimed

    async def _settle_restored(
        self, claimed: ClaimedSession, refresher: SplitRefresher[Any]
    ) -> ClaimedSession | AttemptResult:
        """Finds out whether the refresh token of a session that came back from a copy may be sent.

        A legacy session's can be sent without harm. Whoever revives a dead one knows of no newer session.
        """
        session, state = claimed.session, claimed.state
        probe = await refresher.probe(session)
        claimed = replace(claimed, access_token=probe.status)
        now = self._clock.now()
        may_be_used = self._recorder.planner.could_be_refreshed_by(TokenTimes.of(session, state, now), now)
        found = access_probe.after_restoring(probe, session, state, now, may_be_used=may_be_used)
        is_revived = state.state is State.RELOGIN_REQUIRED
        if found is None or (is_revived and isinstance(found, ReloginRequired)):
            return claimed
        return await self._recorder.conclude(claimed, found)

    async def _bring_back(self, claimed: ClaimedSession, other: OAuthSession) -> AttemptResult:
        """Stores the record that had lost, and plans it."""
        now = self._clock.now()
        state = claimed.state.brought_back(claimed.session, other, now)
        restored = replace(claimed, session=other, state=self._recorder.planner.fresh(other, state, now))
        # The stored token counts as used up now, so the commit replaces it, the key included.
        if await self._recorder.commit(other, restored, tokens=tokens_of(other)) is not Committed.DONE:
            return AttemptResult(Current(claimed.session), None)  # somebody was here: looked at anew
        self._emit(events.SessionSpentTokenUndone(**events.about(other)))
        return self._recorder.result(Current(other), restored)

    # Past the point of no return -------------------------------------------------------------

    async def _send(
        self, claimed: ClaimedSession, refresher: SplitRefresher[Any], prepared: Prepared[Any]
    ) -> AttemptResult:
        """Writes the note, sends the refresh token, makes what comes durable. Runs shielded."""
        now = self._clock.now()
        session = prepared.session
        state = claimed.state.noting(session, now)
        await self._store.ensure_room()
        # Should we die now, this is what the next process finds: sent, and no answer known.
        unanswered = self._recorder.planner.settle_or_retry(session, state.awaiting_answer(), now)
        noted = replace(claimed, session=session, state=unanswered)
        match await self._recorder.note(claimed, noted):
            case Committed.GONE:
                return AttemptResult(Gone(), None)
            case Committed.SUPERSEDED:
                return self._recorder.result(Current(session), claimed)
            case Committed.DONE:
                pass
        # From here on the server may rotate the token: then the stored one is dead, and the only
        # copy of the new one is in the answer.
        answer = await refresher.send(session, prepared)
        sent = replace(claimed, session=session, state=state, sent=True)
        return await self._persist(sent, answer, before=claimed.state)

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
        """Puts tokens into the session record, and judges afterwards what came along."""
        now = self._clock.now()
        state = sent.state.named_by_server(tokens.handle, sent.session.known_as or tokens.handle)
        state = state.with_account_status(status)
        # A server may call its account anything, another account's name too: that changes no name.
        tokens = replace(tokens, handle=sent.session.handle or tokens.handle, confirmed_handle=None)
        session = sent.session.with_tokens(tokens)
        state = self._recorder.planner.fresh(session, state.rotated(sent.session, session, now), now)
        refused = verdict.taken_down(state)
        if refused is not None:  # its tokens are good for little; when it is back, the next refresh tells
            state = state.failed(State.SUSPENDED, refused.code, refused.message, now, cause=refused.cause)
        published = replace(sent, session=session, state=state)
        tokens = replace(tokens, pds_url=session.pds_url)
        saved = await self._save(sent, published, Spilled(sent.session.refresh_token_hash, session), tokens)
        if saved is not None:
            return saved
        self._emit(report.refreshed(session, state, before, started=sent.started, now=self._clock.now()))
        self._recorder.warn_of_end(published, before)
        self._recorder.report_account(published, before)
        if refused is not None and before.cause != refused.cause:
            self._recorder.report_problem(session, state)
        return self._recorder.result(refused or Refreshed(session), published)

    async def _withhold(self, sent: ClaimedSession, answer: Arrived) -> AttemptResult:
        """Keeps tokens durably that must not be published, or not yet."""
        now = self._clock.now()
        session = sent.session.with_tokens(answer.tokens)
        unconfirmed = answer.unconfirmed if answer.mismatch is None else None
        state = sent.state.withholding(sent.session, session, now, unconfirmed=unconfirmed)
        if unconfirmed is not None:  # should we die now, the next process asks at once
            state = state.planned(now)
        else:
            state = self._recorder.planner.slow(sent.session, state, now, asked=True)
        kept = replace(sent, state=state)
        spilled = Spilled(sent.session.refresh_token_hash, session, answer.mismatch, unconfirmed)
        saved = await self._save(sent, kept, spilled, None)
        if saved is not None:
            return saved
        if unconfirmed is not None:
            return await self._confirm(kept)
        cause = Cause.ANSWER_MISMATCH
        return await self._recorder.conclude(kept, Suspended(cause, cause, answer.mismatch or ""))

    async def _confirm(self, claimed: ClaimedSession) -> AttemptResult:
        """Publishes withheld tokens if the PDS says that they are this session's. Runs shielded."""
        arrived, unconfirmed = withheld(claimed.state), claimed.state.unconfirmed
        if arrived is None or unconfirmed is None:
            raise ValueError("there is nothing to confirm")
        probe = await self._refreshers[arrived.kind].probe(arrived)
        asked = replace(claimed, sent=True)
        if probe.status is AccessTokenStatus.ACCEPTED:
            return await self._publish(claimed, tokens_of(arrived), before=claimed.state)
        if probe.did not in (None, claimed.session.did):
            contradicted = replace(asked, state=claimed.state.contradicted())
            cause = Cause.ANSWER_MISMATCH
            message = f"{unconfirmed}, and the PDS takes its token for {probe.did}'s"
            return await self._recorder.conclude(contradicted, Suspended(cause, cause, message))
        cause = Cause.ANSWER_UNCONFIRMED
        if probe.status is AccessTokenStatus.REFUSED:
            message = f"{unconfirmed}, and the PDS does not take its token"
            return await self._recorder.conclude(asked, Suspended(cause, cause, message))
        message = f"{unconfirmed}, and the PDS can't say now whose its token is"
        return await self._recorder.conclude(asked, Retry(cause, message))

    async def _save(
        self, sent: ClaimedSession, arrived: ClaimedSession, spilled: Spilled, tokens: Tokens | None
    ) -> AttemptResult | None:
        """Makes what arrived durable, as `Saver.save`.

        None: it is. Else how the attempt has ended, because the record is another one now, or the store
        takes nothing.
        """
        match await self._saver.save(sent, arrived, spilled, tokens):
            case Committed.DONE:
                return None
            case Committed.GONE:  # a logout since we sent: the new tokens must not outlive that
                await self._refreshers[spilled.session.kind].revoke(spilled.session)
                self._emit(events.SessionRemoved(**events.about(sent.session)))
                return AttemptResult(Gone(), None)
            case Committed.SUPERSEDED:  # a login landed while we refreshed, and wins
                self._emit(events.SessionRotatedElsewhere(**events.about(sent.session)))
                return AttemptResult(Current(arrived.session), None)
            case Unpersisted() as unpersisted:
                return AttemptResult(unpersisted, None)

    # Beside refreshing -----------------------------------------------------------------------

    async def reconcile(self, did: str) -> Reconciled:
        """Compares a record as it is now with what is known of it; plans it if nobody has. Sends nothing.

        Raises:
            RecordError: the record is unreadable.
            LockBusy: somebody holds the claim and may be changing it: look again later.
            StoreError: the store can't answer.
        """
        stored = await self._store.read(did)
        if stored.session is None:
            return Reconciled(await self._recorder.forget_if_away(did, stored.state), None)
        self._recorder.found(did)
        now = self._clock.now()
        found = reconcile(stored.session, stored.state, now)
        if is_known(found) and await self._recorder.find_spilled(found) is None:
            return self._recorder.reconciled(ClaimedSession(found.session, found.state, now))
        async with self._store.claim(did, patience=0):
            claimed = await self._recorder.reconcile(await self._store.read(did))
            if claimed is None:
                return Reconciled(None, None)
            return self._recorder.reconciled(claimed, is_new=True)

    async def refused_token(self, did: str, access_token_hash: str) -> str | None:
        """Asks the PDS whether it refuses a session's access token, as somebody says. Sends no refresh token.

        Args:
            did: whose session.
            access_token_hash: of the token that is said to be refused (`idiolectd.jose.token_hash`).

        Returns:
            The hash of the refresh token if the access token is the stored one and is refused, or nobody can
            ask; None: it is accepted, or another one is stored by now.

        Raises:
            RecordError, StoreError: the session can't be read.
        """
        session = (await self._store.read(did)).session
        if session is None or token_hash(session.access_jwt) != access_token_hash:
            return None
        status = (await self._refreshers[session.kind].probe(session)).status
        if status in (AccessTokenStatus.REFUSED, AccessTokenStatus.NOT_CHECKABLE):
            return session.refresh_token_hash
        return None

    async def adopt(self, found: Sequence[NewRecord]) -> dict[str, Reconciled]:
        """Plans many sessions of which nothing is known yet, as `reconcile` plans one. Sends nothing.

        Takes no claims, because it only writes where there is no state; see `SharedStore.commit_first`. A
        session with spilled tokens must not be among them: `reconcile` looks for those.

        Returns:
            What each session was found to be that is planned now. The others changed meanwhile.

        Raises:
            StoreError: the store can't take the plans; nobody is planned.
        """
        return await self._recorder.adopt(found)

    async def restore_entry(self, did: str) -> ScheduleEntry | None:
        """Plans a session whose schedule entry was lost; returns the entry, None if none was missing.

        Raises:
            As `reconcile`.
        """
        if not self._lacks_entry(await self._store.read(did)):
            return None
        async with self._store.claim(did, patience=0):
            stored = await self._store.read(did)
            if stored.session is None or not self._lacks_entry(stored):
                return None
            claimed = await self._recorder.reconcile(stored)
            if claimed is None:
                return None
            await self._recorder.commit(stored.session, claimed)
            return self._recorder.schedule_entry(claimed)

    def _lacks_entry(self, stored: StoredSession) -> bool:
        """Whether a session that has no schedule entry should have one."""
        if stored.session is None:
            return False
        now = self._clock.now()
        found = reconcile(stored.session, stored.state, now)
        # What changed meanwhile is seen by the watch; a dead or paused session rightly has no entry.
        claimed = ClaimedSession(found.session, found.state, now)
        return is_known(found) and self._recorder.schedule_entry(claimed) is not None

    async def advance_next_attempt(self, did: str, by: float) -> ScheduleEntry | None:
        """Moves a session's next attempt forward: the clock that it was planned by was set back.

        Args:
            did: whose session.
            by: for how many seconds the clock was set back.

        Raises:
            As `reconcile`.
        """
        async with self._store.claim(did, patience=0):
            stored = await self._store.read(did)
            claimed = await self._recorder.reconcile(stored)
            if claimed is None or claimed.state.next_attempt_at is None:
                return None
            if claimed.state.next_attempt_at == stored.state.next_attempt_at:  # else it was planned just now
                claimed = replace(claimed, state=claimed.state.planned(claimed.state.next_attempt_at - by))
                await self._recorder.commit(claimed.session, claimed)
            return self._recorder.schedule_entry(claimed)

    async def locate(self, did: str) -> AttemptResult | None:
        """Asks where an account lives now, and stores what is found; None: nothing was.

        Called about once a week (`AttemptResult.identity_due`). It takes the claim only after the answer,
        for a moment, so that whoever has to refresh the session never waits for a directory.

        Raises:
            LockBusy: somebody works on the session at this very moment; ask again another time.
            RecordError, StoreError: as `refresh`.
        """
        stored = await self._store.read(did)
        if stored.session is None:
            return None
        asked = reconcile(stored.session, stored.state, self._clock.now()).session
        found = await self._locator.ask(self._refreshers[asked.kind], asked, with_handle=True)
        if found is None:
            return None
        async with self._store.claim(did, patience=0):
            claimed = await self._recorder.reconcile(await self._store.read(did))
            if claimed is None or not _is_same_session(claimed.session, asked):
                return None  # a new login: it was asked about then
            if claimed.state.state not in (State.FRESH, State.RETRYING):
                return None  # what is known of it is worse, and must not be written over
            if isinstance(found, Suspended):
                return await self._recorder.conclude(claimed, found)
            located = _located(claimed, found, self._clock.now())
            changed = tokens_of(located.session) if located.session != claimed.session else None
            if await self._recorder.commit(claimed.session, located, tokens=changed) is not Committed.DONE:
                return None
            self._recorder.report_account(located, claimed.state)
            return self._recorder.result(Current(located.session), located)

    async def pause(self, did: str, *, paused: bool, patience: float = 0.0) -> ScheduleEntry | None:
        """Takes a session out of our hands, or back; nobody sends its refresh token in between.

        A refresh that is under way is finished first. Returns the session's next schedule entry.

        Args:
            did: whose session.
            paused: whether it is to be paused from now on.
            patience: as in `refresh`.

        Raises:
            NoSessionError: nothing is stored for the DID.
            SessionError: it was migrated to another store, and can't be resumed here.
            LockBusy, RecordError, StoreError: as `refresh`.
        """
        async with self._store.claim(did, patience=patience):
            stored = await self._store.read(did)
            if stored.session is None:
                raise NoSessionError(did)
            claimed = await self._recorder.reconcile(stored)
            if claimed is not None:
                if not paused and claimed.state.migrated_to is not None:
                    raise SessionError(
                        f"{did} was migrated to {claimed.state.migrated_to}, and is refreshed there: two stores"
                        " that refresh one session end it; a new login gives this store one of its own"
                    )
                state = claimed.state.paused_by_person() if paused else claimed.state.resumed_by_person()
                claimed = replace(claimed, state=state)
                # The record is written along, unchanged: a running daemon watches records.
                same = tokens_of(claimed.session)
                if await self._recorder.commit(claimed.session, claimed, tokens=same) is Committed.DONE:
                    return self._recorder.schedule_entry(claimed)
        raise LockBusy(f"somebody logged {did} in or out at this very moment; try again")

    async def name_session(self, did: str, handle: str, *, patience: float = 0.0) -> None:
        """Stores a handle that was confirmed in both directions; the session is found by it from now on.

        Args:
            did: whose session.
            handle: the handle.
            patience: as in `refresh`.

        Raises:
            LockBusy, RecordError, StoreError: as `refresh`. Nothing was written.
        """
        async with self._store.claim(did, patience=patience):
            claimed = await self._recorder.reconcile(await self._store.read(did))
            if claimed is not None:
                session = replace(claimed.session, handle=handle, confirmed_handle=handle)
                named = replace(claimed, session=session, state=claimed.state.named(session))
                await self._recorder.commit(claimed.session, named, tokens=tokens_of(session))

    async def spilled(self) -> list[str]:
        """The sessions for which an earlier process has left tokens that it could not save."""
        return await self._recorder.spill.dids()


def _located(claimed: ClaimedSession, found: AccountLocation, now: float) -> ClaimedSession:
    """What was found of the account, beside the tokens as they are stored now."""
    session = replace(claimed.session, pds_url=found.session.pds_url)
    if found.is_handle_told:
        handle, confirmed = found.session.handle, found.session.confirmed_handle
        session = replace(session, handle=handle, confirmed_handle=confirmed)
    state = claimed.state.identified(
        session, now, is_handle_told=found.is_handle_told, moved_to=found.moved_to
    )
    return replace(claimed, session=session, state=state)


def _is_same_session(session: OAuthSession, asked: OAuthSession) -> bool:
    """Whether what was found out about a session still is about what is stored."""
    same_key = session.dpop_thumbprint == asked.dpop_thumbprint
    return same_key and (session.pds_url, session.issuer) == (asked.pds_url, asked.issuer)
