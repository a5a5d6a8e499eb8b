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

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

from idiolectd.clock import Clock
from idiolectd.errors import LockBusy, NoSessionError
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
    AccountLocation,
    Committed,
    Prepared,
    ScheduleEntry,
    SharedStore,
    SplitRefresher,
    StoredSession,
)
from idiolectd.refresh import displaced, report, unclear, verdict
from idiolectd.refresh.account_locator import AccountLocator
from idiolectd.refresh.attempt import Attempt, SaveDeadline
from idiolectd.refresh.planner import Planner, is_identity_urgent
from idiolectd.refresh.reconciler import Reconciler, is_known
from idiolectd.refresh.recorder import AttemptResult, ClaimedSession, Reconciled, Recorder
from idiolectd.refresh.spill_reader import SpillReader
from idiolectd.session import Kind, OAuthSession
from idiolectd.state import RefreshState, State, reconcile, tokens_of, withheld

# Told the origin that a refresh token is about to be sent to; says for how many seconds not (0: send it).
Admission = Callable[[str], float]


class RefreshEngine:
    """Refreshes sessions of one store.

    Args:
        store: where the sessions are.
        refreshers: how to refresh each kind.
        planner: when to act next.
        clock: wall-clock time.
        events: who is told.
        patience: how long tokens that the store would not take are held.
    """

    def __init__(
        self,
        store: SharedStore,
        refreshers: Mapping[Kind, SplitRefresher[Any]],
        *,
        planner: Planner,
        clock: Clock,
        events: EventSink,
        patience: SaveDeadline | None = None,
    ) -> None:
        self._store = store
        self._refreshers = refreshers
        self._recorder = Recorder(store, planner, clock, events)
        self._spill = SpillReader(store.spill, events)
        self._reconciler = Reconciler(store, self._recorder, self._spill)
        self._whereabouts = AccountLocator()
        self.patience = patience or SaveDeadline()

    async def reconcile(self, did: str) -> Reconciled:
        """Takes notice of a record as it is now; plans it if nobody has. Sends nothing.

        Raises:
            RecordError: the record is unreadable.
            LockBusy: somebody holds the claim and may be changing it: look again later.
            StoreError: the store can't answer.
        """
        entry = await self._store.read(did)
        if entry.session is None:
            return Reconciled(await self._reconciler.forget(did, entry.state), None)
        self._reconciler.found(did)
        now = self._recorder.clock.now()
        reconciled = reconcile(entry.session, entry.state, now)
        if is_known(reconciled) and await self._reconciler.spilled(reconciled) is None:
            return self._recorder.look(ClaimedSession(reconciled.session, reconciled.state, now))
        async with self._store.claim(did, patience=0):
            work = await self._reconciler.reconcile(await self._store.read(did))
            return Reconciled(None, None) if work is None else self._recorder.look(work, is_new=True)

    async def restore_entry(self, did: str) -> ScheduleEntry | None:
        """Plans a session whose line of the schedule was lost; returns it, None if there was nothing to mend.

        Raises:
            As `look`.
        """
        if not self._has_lost_line(await self._store.read(did)):
            return None
        async with self._store.claim(did, patience=0):
            entry = await self._store.read(did)
            if entry.session is None or not self._has_lost_line(entry):
                return None
            work = await self._reconciler.reconcile(entry)
            if work is None:
                return None
            await self._recorder.commit(entry.session, work)
            return self._recorder.schedule_entry(work)

    def _has_lost_line(self, entry: StoredSession) -> bool:
        """Whether a session that the store has no line for should have one."""
        if entry.session is None:
            return False
        now = self._recorder.clock.now()
        reconciled = reconcile(entry.session, entry.state, now)
        # What changed meanwhile is the look-out's business; a dead or paused session has no line rightly.
        return (
            is_known(reconciled)
            and self._recorder.schedule_entry(ClaimedSession(reconciled.session, reconciled.state, now))
            is not None
        )

    async def advance_next_attempt(self, did: str, by: float) -> ScheduleEntry | None:
        """Brings a session's plan forward: the clock it was made by was set back by that much.

        Args:
            did: whose plan.
            by: seconds.

        Raises:
            As `look`.
        """
        async with self._store.claim(did, patience=0):
            entry = await self._store.read(did)
            work = await self._reconciler.reconcile(entry)
            if work is None or work.state.next_attempt_at is None:
                return None
            if work.state.next_attempt_at == entry.state.next_attempt_at:  # else it was planned just now
                work = replace(work, state=work.state.planned(work.state.next_attempt_at - by))
                await self._recorder.commit(work.session, work)
            return self._recorder.schedule_entry(work)

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
            revive: a dead one too, once: somebody believes that its server was wrong.
            needed: a client wants to use the token now: due is what can't be used much longer.
            patience: how many seconds to wait for another process that works on the session.
            admit: asked right before the token is sent; None: nobody has to be asked.

        Raises:
            LockBusy: another process works on it. Nothing was done.
            RecordError: the record is unreadable.
            StoreError: the store failed before anything was sent.
        """
        seen = (await self._store.read(did)).session
        if seen is None:
            return AttemptResult(Gone(), None)
        async with self._store.claim(did, patience=patience):
            entry = await self._store.read(did)
            work = await self._reconciler.reconcile(entry)
            if work is None or entry.session is None:
                return AttemptResult(Gone(), None)
            if entry.session.refresh_token_hash != seen.refresh_token_hash:
                return self._recorder.attempt(Current(work.session), work)
            standing = self._standing(work, force=force, needed=needed, revive=revive)
            if standing is not None:
                return self._recorder.attempt(standing, work)
            return await self._work(work, admit)

    async def locate(self, did: str) -> AttemptResult | None:
        """Asks where an account lives now, and takes over what is found; None: nothing was.

        For what is due once a week (`AttemptResult.identity_due`): the claim is taken only after the answer,
        for a moment, so that whoever has to refresh the session never waits for a directory.

        Raises:
            LockBusy: somebody works on the session at this very moment; ask again another time.
            RecordError, StoreError: as `refresh`.
        """
        entry = await self._store.read(did)
        if entry.session is None:
            return None
        asked = reconcile(entry.session, entry.state, self._recorder.clock.now()).session
        refresher = self._refreshers[asked.kind]
        found = await self._whereabouts.ask(refresher, asked, with_handle=True)
        if found is None:
            return None
        async with self._store.claim(did, patience=0):
            work = await self._reconciler.reconcile(await self._store.read(did))
            if work is None or not _is_same_session(work.session, asked):
                return None  # a new login: it was asked about then
            if work.state.state not in (State.FRESH, State.RETRYING):
                return None  # what is known of it is worse, and must not be written over
            if isinstance(found, Suspended):
                return await self._recorder.conclude(work, found)
            located = self._located(work, found)
            changed = tokens_of(located.session) if located.session != work.session else None
            if await self._recorder.commit(work.session, located, tokens=changed) is not Committed.DONE:
                return None
            self._recorder.tell_of_account(located, work.state)
            return self._recorder.attempt(Current(located.session), located)

    async def pause(self, did: str, *, paused: bool, patience: float = 0.0) -> ScheduleEntry | None:
        """Takes a session out of our hands, or back; nobody sends its refresh token in between.

        What is under way is finished first. Returns the session's next line in the schedule.

        Args:
            did: whose session.
            paused: whether it is to be paused from now on.
            patience: as in `refresh`.

        Raises:
            NoSessionError: nothing is stored for the DID.
            LockBusy, RecordError, StoreError: as `refresh`.
        """
        async with self._store.claim(did, patience=patience):
            entry = await self._store.read(did)
            if entry.session is None:
                raise NoSessionError(did)
            work = await self._reconciler.reconcile(entry)
            if work is not None:
                changed = work.state.paused_by_person() if paused else work.state.resumed_by_person()
                work = replace(work, state=changed)
                # With the record, unchanged as it is: what a running daemon looks out for is records.
                same = tokens_of(work.session)
                if await self._recorder.commit(work.session, work, tokens=same) is Committed.DONE:
                    return self._recorder.schedule_entry(work)
        raise LockBusy(f"somebody logged {did} in or out at this very moment; try again")

    async def name_session(self, did: str, handle: str, *, patience: float = 0.0) -> None:
        """Writes down that a handle was confirmed in both directions; its session is found by it.

        Args:
            did: whose session.
            handle: the handle.
            patience: as in `refresh`.

        Raises:
            LockBusy, RecordError, StoreError: as `refresh`. Nothing was written.
        """
        async with self._store.claim(did, patience=patience):
            work = await self._reconciler.reconcile(await self._store.read(did))
            if work is not None:
                named = replace(work.session, handle=handle, confirmed_handle=handle)
                done = replace(work, session=named, state=work.state.named(named))
                await self._recorder.commit(work.session, done, tokens=tokens_of(named))

    async def spilled(self) -> list[str]:
        """The sessions for which an earlier process has left tokens that it could not save."""
        return await self._spill.dids()

    # Deciding --------------------------------------------------------------------------------

    def _standing(
        self, work: ClaimedSession, *, force: bool, needed: bool, revive: bool
    ) -> RefreshOutcome | None:
        """The outcome that stands without doing anything; None: there is something to do."""
        session, state, now = work.session, work.state, work.started
        is_dead = state.state is State.RELOGIN_REQUIRED
        if is_dead and not revive:
            return ReloginRequired(state.cause or "", *_last_words(state))
        if state.paused:
            message = "somebody has paused the session; idiolectd resume gives it back"
            return Suspended(report.PAUSED, report.PAUSED, message)
        if is_dead:
            return None
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
        if needed and self._recorder.planner.is_needed(session, state, now):
            return None
        return Current(session)

    async def _work(self, work: ClaimedSession, admit: Admission | None) -> AttemptResult:
        session, state = work.session, work.state
        refresher = self._refreshers[session.kind]
        sending = Attempt(refresher, self._recorder, self.patience, self._store.spill)
        if state.unconfirmed is not None and withheld(state) is not None:
            attempt = await finish(sending.confirm, work)
            return replace(attempt, asked=None)  # it was the PDS
        contradiction = _contradiction(session, state)
        if contradiction is not None:
            return await self._recorder.conclude(work, contradiction)
        if state.displaced is not None:
            settled = await displaced.settle(work, refresher, self._recorder)
            if isinstance(settled, AttemptResult):
                return settled
            work, session, state = settled, settled.session, settled.state
        if state.state is not State.RELOGIN_REQUIRED:
            is_open = unclear.is_open(session, state) and not refresher.has_grace
            if is_open or verdict.decides(self._recorder.planner.policy, state, work.started):
                probe = await refresher.probe(session)
                work = replace(work, taken=probe.taken)
                found = unclear.resolved(probe, session, self._recorder.clock.now()) if is_open else None
                if found is not None:
                    return await self._recorder.conclude(work, found)
        if is_identity_urgent(state):
            lives = await self._whereabouts.ask(refresher, session)
            if isinstance(lives, Suspended):
                return await self._recorder.conclude(work, lives)
            if lives is not None and lives.moved_to is not None:
                message = f"the account has moved to {lives.moved_to}, and {session.pds_url} refuses it"
                moved = replace(work, state=state.account_moved(lives.moved_to))
                return await self._recorder.conclude(moved, Suspended(report.MOVED, report.MOVED, message))
            work = work if lives is None else replace(work, session=lives.session)
        prepared = await refresher.prepare(work.session)
        if not isinstance(prepared, Prepared):
            attempt = await self._recorder.conclude(work, prepared)
            return replace(attempt, asked=prepared.server if isinstance(prepared, Retry) else None)
        wait = admit(prepared.server) if admit and prepared.server else 0.0
        if wait > 0:
            return self._recorder.not_yet(work, wait)
        return await finish(sending.send, work, prepared)

    def _located(self, work: ClaimedSession, found: AccountLocation) -> ClaimedSession:
        """What was found, beside the tokens as they are stored now."""
        session = replace(work.session, pds_url=found.session.pds_url)
        if found.is_handle_told:
            handle, confirmed = found.session.handle, found.session.confirmed_handle
            session = replace(session, handle=handle, confirmed_handle=confirmed)
        now = self._recorder.clock.now()
        state = work.state.identified(
            session, now, is_handle_told=found.is_handle_told, moved_to=found.moved_to
        )
        return replace(work, session=session, state=state)


def _is_same_session(session: OAuthSession, asked: OAuthSession) -> bool:
    """Whether what was found out about a session still is about what is stored."""
    same_key = session.dpop_thumbprint == asked.dpop_thumbprint
    return same_key and (session.pds_url, session.issuer) == (asked.pds_url, asked.issuer)


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
