"""What is known of a session, compared with its record, made durable, planned and reported. Sends nothing.

The order is always the same: the durable state first (with the schedule entry, and with tokens if there
are new ones), then the event. All of it happens under the claim, because it writes the refresh state; only
`adopt` takes none, because it writes where there is no state yet.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import anyio

from idiolectd import events
from idiolectd.clock import Clock
from idiolectd.copying import replace
from idiolectd.events import EventSink
from idiolectd.finish import in_thread
from idiolectd.outcome import Cause, Code, Current, Gone, RefreshOutcome, Retry
from idiolectd.ports import (
    NO_SERVER,
    AccessTokenStatus,
    Committed,
    FirstPlan,
    NewRecord,
    ScheduleEntry,
    SharedStore,
    Spilled,
    StoredSession,
)
from idiolectd.refresh import report, verdict
from idiolectd.refresh.planner import Planner, is_identity_due, issuer_server, schedule_entry
from idiolectd.refresh.spilled_tokens import SpilledTokens
from idiolectd.remedy import PLAIN, Commands
from idiolectd.session import OAuthSession, Tokens
from idiolectd.state import (
    ReconciledRecord,
    RecordChange,
    RefreshState,
    State,
    TokenTimes,
    last_good,
    reconcile,
    shown,
    tokens_of,
)

# How long, in seconds, a record has to be away before that is a logout: a program that replaces it by
# removing it first needs some milliseconds.
STAYS_AWAY = 1.0


@dataclass(frozen=True)
class AttemptResult:
    """How a call ended, and when the session is worked on next.

    Attributes:
        outcome: how it ended.
        due: the session's schedule entry from now on.
        token: the hash of the refresh token that is stored now; None: not known here.
        asked: the server that the outcome tells of, because it was asked just now; None: none was, or the
            outcome tells nothing of it.
        identity_due: where the account lives was not asked for a week, see `RefreshEngine.locate`.
    """

    outcome: RefreshOutcome
    due: ScheduleEntry | None
    token: str | None = None
    asked: str | None = None
    identity_due: bool = False


@dataclass(frozen=True)
class Reconciled:
    """What a record was found to be.

    Attributes:
        due: the session's schedule entry; without a token: when to look whether the record stays away.
        token: as of `AttemptResult`; None: nothing is stored.
        identity_due: as of `AttemptResult`, for a session that is new.
    """

    due: ScheduleEntry | None
    token: str | None
    identity_due: bool = False


@dataclass(frozen=True)
class ClaimedSession:
    """One session under the claim.

    Attributes:
        session: as it should be, pins restored.
        state: what is known of it.
        started: since when we work on it, in epoch seconds.
        sent: the refresh token has left, or the PDS was asked in its place.
        access_token: what the PDS said of the access token, if it was asked.
    """

    session: OAuthSession
    state: RefreshState
    started: float
    sent: bool = False
    access_token: AccessTokenStatus | None = None


class Recorder:
    """Compares, writes, plans and reports.

    Args:
        store: where records and states are.
        planner: when to act next.
        clock: wall-clock time.
        emit: who is told.
        commands: how the commands that events name are typed.
        put_back_at: as of `RefreshEngine`.

    Attributes:
        spill: the tokens that the store would not take.
    """

    def __init__(
        self,
        store: SharedStore,
        planner: Planner,
        clock: Clock,
        emit: EventSink,
        commands: Commands = PLAIN,
        put_back_at: float | None = None,
    ) -> None:
        self.planner = planner
        self.clock = clock
        self.emit = emit
        self.spill = SpilledTokens(store.spill, emit)
        self._store = store
        self._commands = commands
        self._put_back_at = put_back_at
        self._missing_since: dict[str, float] = {}

    # Comparing a record with what is known of it ---------------------------------------------

    async def reconcile(self, stored: StoredSession) -> ClaimedSession | None:
        """Compares a record with its state, writes down what changed, plans what is new.

        None: there is no record, or it was replaced at this very moment and will be looked at anew.
        """
        if stored.session is None:
            return None
        now = self.clock.now()
        reconciled = reconcile(stored.session, stored.state, now)
        claimed = ClaimedSession(reconciled.session, self._doubted(reconciled, now), now)
        spilled = await self.find_spilled(reconciled)
        if spilled is not None:
            return await self._adopt_spill(claimed, spilled)
        if is_known(reconciled):
            return claimed
        if reconciled.change is not RecordChange.SPENT or reconciled.state.next_attempt_at is None:
            claimed = replace(claimed, state=self.planner.fresh(claimed.session, claimed.state, now))
        put_back = tokens_of(claimed.session) if reconciled.change is RecordChange.SPENT else None
        if claimed.session.dpop_thumbprint != stored.session.dpop_thumbprint:
            await self._store.save(claimed.session)  # the whole record was an earlier login's
        elif await self.commit(stored.session, claimed, tokens=put_back) is not Committed.DONE:
            return None
        # What is kept there is for a token that is stored no more.
        await self.spill.forget(claimed.session.did)
        if not stored.interrupted_commit:  # our own commit is finished now: that is no news to anybody
            self._report_change(reconciled.change, claimed)
        self.warn_of_end(claimed, reconciled.state)
        return claimed

    def _doubted(self, reconciled: ReconciledRecord, now: float) -> RefreshState:
        """The state, marked if its tokens are older than the moment at which the store was put back."""
        session, state = reconciled.session, reconciled.state
        if self._put_back_at is None or TokenTimes.of(session, state, now).issued_at > self._put_back_at:
            return state
        return state.restored_from_copy(session)

    async def adopt(self, found: Sequence[NewRecord]) -> dict[str, Reconciled]:
        """Plans sessions of which nothing is known, and makes their first states durable in one commit.

        Leaves out those whose record or state changed meanwhile: a watch names them.
        """
        planned = await in_thread(self._first_states, found)
        written = set(await self._store.commit_first([plan for plan, _ in planned]))
        adopted: dict[str, Reconciled] = {}
        for plan, claimed in planned:
            if claimed.session.did in written:
                self._report_change(RecordChange.LOGIN, claimed)
                self.warn_of_end(claimed, RefreshState())
                identity_due = is_identity_due(claimed.session, claimed.state, claimed.started)
                token = claimed.session.refresh_token_hash
                adopted[claimed.session.did] = Reconciled(plan.due, token, identity_due)
        return adopted

    def _first_states(self, found: Sequence[NewRecord]) -> list[tuple[FirstPlan, ClaimedSession]]:
        now = self.clock.now()
        planned = []
        for record in found:
            first = reconcile(record.session, RefreshState(), now)
            claimed = ClaimedSession(first.session, self.planner.fresh(first.session, first.state, now), now)
            planned.append((FirstPlan(record, claimed.state, self.schedule_entry(claimed)), claimed))
        return planned

    async def find_spilled(self, reconciled: ReconciledRecord) -> Spilled | None:
        """Finds the tokens that came for the stored one and could not be saved then.

        Of the sessions that are known, only those are looked up whose stored token was sent and whose
        answer was never written down: no other can have tokens there. For these the look-up must succeed.
        A login needs nothing from there.

        Raises:
            SpillUnreadable: nobody can look.
        """
        was_sent = reconciled.state.note_on(reconciled.session) is not None
        if reconciled.change is RecordChange.NONE and not was_sent:
            return None
        return await self.spill.find(reconciled.session, needed=was_sent)

    async def _adopt_spill(self, claimed: ClaimedSession, spilled: Spilled) -> ClaimedSession | None:
        """Makes durable what an earlier process could not: tokens are published only if they fit."""
        now = self.clock.now()
        session = claimed.session.with_tokens(tokens_of(spilled.session))
        if spilled.mismatch is None and spilled.unconfirmed is None:
            state = claimed.state.rotated(claimed.session, session, now)
            if claimed.state.is_restored(claimed.session):  # they came back with it
                state = state.restored_from_copy(session)
            adopted = replace(claimed, session=session, state=self.planner.fresh(session, state, now))
            tokens = tokens_of(session)
        else:
            unconfirmed = spilled.unconfirmed if spilled.mismatch is None else None
            state = claimed.state.withholding(claimed.session, session, now, unconfirmed=unconfirmed)
            if unconfirmed is not None:
                state = state.planned(now)
            else:
                cause, message = Cause.ANSWER_MISMATCH, spilled.mismatch or ""
                state = state.failed(State.SUSPENDED, cause, message, now, cause=cause)
                state = self.planner.slow(claimed.session, state, now, asked=True)
            adopted, tokens = replace(claimed, state=state), None
        if await self.commit(claimed.session, adopted, tokens=tokens) is not Committed.DONE:
            return None
        await self.spill.forget(session.did, claimed.session.refresh_token_hash)
        planned = shown(adopted.state.next_attempt_at)
        self.emit(events.SessionSpillAdopted(**events.about(session), next_attempt_at=planned))
        if adopted.state.state is State.SUSPENDED:
            self.report_problem(adopted.session, adopted.state)
        return adopted

    async def forget_if_away(self, did: str, state: RefreshState) -> ScheduleEntry | None:
        """Forgets what is known of a session whose record stays away; returns when to look again.

        A record that is not there is no logout yet: a foreign program may be replacing it by removing it
        first.
        """
        if state == RefreshState():
            return None
        now = anyio.current_time()
        left = self._missing_since.setdefault(did, now) + STAYS_AWAY - now
        if left > 0:
            wall = self.clock.now()
            return ScheduleEntry(at=wall + left, did=did, expires_at=wall, server=NO_SERVER)
        del self._missing_since[did]
        known = last_good(state)
        if await self._store.forget(did) and known is not None:
            self.emit(events.SessionRemoved(**events.about(known)))
        return None

    def found(self, did: str) -> None:
        """The record of a DID is there."""
        self._missing_since.pop(did, None)

    # Writing ---------------------------------------------------------------------------------

    async def commit(
        self, stored: OAuthSession, claimed: ClaimedSession, *, tokens: Tokens | None = None
    ) -> Committed:
        """Makes a state durable with its schedule entry, and tokens with it.

        Args:
            stored: the record as it was read.
            claimed: with the new state.
            tokens: what to change in the record; None: nothing.
        """
        due = self.schedule_entry(claimed)
        return await self._store.commit(stored, claimed.state, tokens=tokens, due=due)

    async def note(self, claimed: ClaimedSession, noted: ClaimedSession) -> Committed:
        """Makes durable that the refresh token is about to be sent.

        The session keeps its schedule entry if that is the earlier one, as it is when the token is due:
        whoever finds the note then waits until it is settled, and the store need not move its index of due
        times twice for each refresh.

        Args:
            claimed: the session before.
            noted: with the note.
        """
        entries = [entry for each in (claimed, noted) if (entry := self.schedule_entry(each)) is not None]
        due = min(entries, key=lambda entry: entry.at, default=None)
        return await self._store.commit(claimed.session, noted.state, due=due)

    async def conclude(self, claimed: ClaimedSession, answer: verdict.NoTokens) -> AttemptResult:
        """Writes down what an answer without tokens means, and when to try again."""
        before = claimed.state
        outcome, state = verdict.judged(
            answer,
            claimed.session,
            before,
            self.planner,
            self.clock.now(),
            sent=claimed.sent,
            access_token=claimed.access_token,
        )
        concluded = replace(claimed, state=state)
        match await self.commit(claimed.session, concluded):
            case Committed.GONE:
                return AttemptResult(Gone(), None)
            case Committed.SUPERSEDED:
                return AttemptResult(Current(claimed.session), None)
            case Committed.DONE:
                known = (before.state, before.cause) == (state.state, state.cause)
                if not (known and state.state is State.SUSPENDED):
                    self.report_problem(claimed.session, state)
                return self.result(outcome, concluded)

    # What the caller gets, without any writing ------------------------------------------------

    def schedule_entry(self, claimed: ClaimedSession) -> ScheduleEntry | None:
        """The session's schedule entry."""
        return schedule_entry(claimed.session, claimed.state, self.clock.now())

    def result(self, outcome: RefreshOutcome, claimed: ClaimedSession) -> AttemptResult:
        """How an attempt ended."""
        return AttemptResult(
            outcome,
            self.schedule_entry(claimed),
            claimed.session.refresh_token_hash,
            issuer_server(claimed.session) if claimed.sent else None,
            is_identity_due(claimed.session, claimed.state, self.clock.now()),
        )

    def deferred(self, claimed: ClaimedSession, seconds: float) -> AttemptResult:
        """The server that the token goes to is sent as much as it may be: again after so many seconds.

        Nothing was learnt, so nothing is written.
        """
        entry = self.schedule_entry(claimed)
        due = None if entry is None else replace(entry, at=self.clock.now() + seconds)
        outcome = Retry(Code.NO_ROOM, "the server that it goes to is sent as much as it may be")
        return AttemptResult(outcome, due, claimed.session.refresh_token_hash)

    def reconciled(self, claimed: ClaimedSession, *, is_new: bool = False) -> Reconciled:
        """What a session was found to be; `is_new`: it was planned just now."""
        is_due = is_new and is_identity_due(claimed.session, claimed.state, self.clock.now())
        return Reconciled(self.schedule_entry(claimed), claimed.session.refresh_token_hash, is_due)

    # Reporting -------------------------------------------------------------------------------

    def report_problem(self, session: OAuthSession, state: RefreshState) -> None:
        """Reports an attempt that brought no tokens."""
        self.emit(report.problem(session, state, self._commands))

    def warn_of_end(self, claimed: ClaimedSession, before: RefreshState) -> None:
        """Warns that the session's absolute end has come nearer, once for each warning."""
        deadline = self.planner.end_to_warn_of(claimed.session, claimed.state)
        if deadline is not None and claimed.state.warned not in (None, before.warned):
            self.emit(report.ending(claimed.session, deadline, self.clock.now(), self._commands))

    def report_account(self, claimed: ClaimedSession, before: RefreshState) -> None:
        """Reports what has changed with the account itself."""
        for event in report.account(claimed.session, claimed.state, before, self._commands):
            self.emit(event)

    def _report_change(self, change: RecordChange, claimed: ClaimedSession) -> None:
        session, state = claimed.session, claimed.state
        match change:
            case RecordChange.LOGIN | RecordChange.NONE:
                # NONE: a save of ours has compared record and state already, and left the planning to us.
                planned = shown(state.next_attempt_at)
                self.emit(events.SessionFound(**events.about(session), next_attempt_at=planned))
            case RecordChange.ROTATED:
                self.emit(events.SessionRotatedElsewhere(**events.about(session)))
            case RecordChange.SPENT:
                self.emit(events.SessionSpentTokenUndone(**events.about(session)))


def is_known(reconciled: ReconciledRecord) -> bool:
    """Whether nothing happened to the record since its session was planned."""
    planned = reconciled.state.next_attempt_at is not None or reconciled.state.state is State.RELOGIN_REQUIRED
    return planned and reconciled.change is RecordChange.NONE
