"""What one attempt works on, and how its end is written down."""

from dataclasses import dataclass, replace

from idiolectd.clock import Clock
from idiolectd.events import EventSink
from idiolectd.outcome import (
    Ambiguous,
    Current,
    Gone,
    RefreshOutcome,
    ReloginRequired,
    Retry,
    Suspended,
)
from idiolectd.ports import AccessTokenStatus, Committed, Refused, ScheduleEntry, SharedStore
from idiolectd.refresh import report, verdict
from idiolectd.refresh.planner import Planner, is_identity_due, issuer_server, schedule_entry
from idiolectd.session import OAuthSession, Tokens
from idiolectd.state import RefreshState, State

# Why tokens are withheld: they are not this session's, or nobody has said yet that they are.
MISFIT, UNCONFIRMED = "answer_misfit", "answer_unconfirmed"

NoTokens = Refused | Retry | Ambiguous | Suspended


@dataclass(frozen=True)
class AttemptResult:
    """How a call ended, and the session's next line in the schedule.

    Attributes:
        outcome: how it ended.
        due: the next line.
        token: the hash of the refresh token that is stored now; None: not known here.
        asked: the server (a lane's name) that the outcome tells of, because it was asked just now; None:
            none was, or the outcome tells nothing of it.
        identity_due: where the account lives was not asked for a week, see `RefreshEngine.locate`.
    """

    outcome: RefreshOutcome
    due: ScheduleEntry | None
    token: str | None = None
    asked: str | None = None
    identity_due: bool = False


@dataclass(frozen=True)
class Reconciled:
    """What was seen of a session.

    Attributes:
        due: its next line in the schedule; without a token: when to look whether it stays away.
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
        started: since when we work on it.
        sent: the refresh token has left.
        taken: what the PDS said of the access token, if it was asked.
    """

    session: OAuthSession
    state: RefreshState
    started: float
    sent: bool = False
    taken: AccessTokenStatus | None = None


class Recorder:
    """Writes down what happened to a session: durable state first, then the event.

    Args:
        store: where it is written.
        planner: when to act next.
        clock: wall-clock time.
        emit: who is told.
    """

    def __init__(self, store: SharedStore, planner: Planner, clock: Clock, emit: EventSink) -> None:
        self.store = store
        self.planner = planner
        self.clock = clock
        self.emit = emit

    async def commit(
        self, read: OAuthSession, work: ClaimedSession, *, tokens: Tokens | None = None
    ) -> Committed:
        """Makes a state durable with its line of the schedule, and tokens with it."""
        return await self.store.commit(read, work.state, tokens=tokens, due=self.schedule_entry(work))

    async def note(self, work: ClaimedSession, noted: ClaimedSession) -> Committed:
        """Makes durable that the refresh token is about to be sent.

        The session keeps its entry in the schedule if that is the earlier one, as it is when the token is due:
        whoever finds the note then waits until it is settled, and the store need not move its index of due
        times twice for each refresh.

        Args:
            work: the session before.
            noted: with the note.
        """
        entries = [entry for each in (work, noted) if (entry := self.schedule_entry(each)) is not None]
        due = min(entries, key=lambda entry: entry.at, default=None)
        return await self.store.commit(work.session, noted.state, due=due)

    def schedule_entry(self, work: ClaimedSession) -> ScheduleEntry | None:
        """The session's line of the schedule."""
        return schedule_entry(work.session, work.state, self.clock.now())

    def warn_of_end(self, work: ClaimedSession, before: RefreshState) -> None:
        """Tells that the session's absolute end has come nearer, if it was not told before."""
        deadline = self.planner.deadline(work.session)
        if deadline is not None and work.state.warned not in (None, before.warned):
            self.emit(report.ending(work.session, deadline, self.clock.now()))

    def tell_of_account(self, work: ClaimedSession, before: RefreshState) -> None:
        """Tells what has changed with the account itself."""
        for event in report.account(work.session, work.state, before):
            self.emit(event)

    def attempt(self, outcome: RefreshOutcome, work: ClaimedSession) -> AttemptResult:
        """An end that needs no writing."""
        return AttemptResult(
            outcome,
            self.schedule_entry(work),
            work.session.refresh_token_hash,
            issuer_server(work.session) if work.sent else None,
            is_identity_due(work.session, work.state, self.clock.now()),
        )

    def not_yet(self, work: ClaimedSession, wait: float) -> AttemptResult:
        """The server that it would be sent to has no room for it now; nothing is known, nothing written."""
        schedule_entry = self.schedule_entry(work)
        due = None if schedule_entry is None else replace(schedule_entry, at=self.clock.now() + wait)
        outcome = Retry("no_room", "the server that it goes to is sent as much as it may be")
        return AttemptResult(outcome, due, work.session.refresh_token_hash)

    def look(self, work: ClaimedSession, *, is_new: bool = False) -> Reconciled:
        """What is seen of a session that nothing was done about."""
        is_due = is_new and is_identity_due(work.session, work.state, self.clock.now())
        return Reconciled(self.schedule_entry(work), work.session.refresh_token_hash, is_due)

    async def conclude(self, work: ClaimedSession, answer: NoTokens) -> AttemptResult:
        """Writes down what an attempt without tokens means, and when to try again."""
        before = work.state
        outcome, state = self._judged(work, answer)
        done = replace(work, state=state)
        match await self.commit(work.session, done):
            case Committed.GONE:
                return AttemptResult(Gone(), None)
            case Committed.SUPERSEDED:
                return AttemptResult(Current(work.session), None)
            case Committed.DONE:
                known = (before.state, before.cause) == (state.state, state.cause)
                if not (known and state.state is State.SUSPENDED):
                    self.emit(report.problem(work.session, state))
                return self.attempt(outcome, done)

    def _judged(self, work: ClaimedSession, answer: NoTokens) -> tuple[RefreshOutcome, RefreshState]:
        session, before, now = work.session, work.state, self.clock.now()
        if before.state is State.RELOGIN_REQUIRED:
            return self._still_dead(before, answer, now)
        match answer:
            case Retry(code, message, retry_after, issuer_wide, rate_limited):
                if issuer_wide and not rate_limited:
                    before = before.unrefused()
                failed = before.failed(State.RETRYING, code, message, now)
                return answer, self.planner.retry(session, failed, now, retry_after)
            case Ambiguous(code, message):
                failed = before.unrefused().failed(State.AMBIGUOUS, code, message, now)
                return answer, self.planner.settle_or_retry(session, failed, now)
            case Suspended(cause, code, message):
                failed = before.failed(State.SUSPENDED, code, message, now, cause=cause)
                return answer, self.planner.slow(session, failed, now, asked=work.sent)
            case Refused():
                return self._refused(work, answer, now)

    def _refused(
        self, work: ClaimedSession, refused: Refused, now: float
    ) -> tuple[RefreshOutcome, RefreshState]:
        session, state = work.session, verdict.counted(refused, work.state, now)
        decided = verdict.decided(
            refused,
            state,
            rules=self.planner.policy,
            session=session,
            session_life=self.planner.session_life(session),
            taken=work.taken,
            now=now,
        )
        cause = verdict.cause_of(state, session)
        state = state.failed(decided, refused.code, refused.message, now, cause=cause)
        match decided:
            case State.RELOGIN_REQUIRED:
                return ReloginRequired(cause, refused.code, refused.message), self.planner.never(state)
            case State.SUSPENDED:
                outcome = Suspended(cause, refused.code, refused.message)
                return outcome, self.planner.slow(session, state, now, asked=True)
            case _:
                # How long the server wants this session to wait is nothing to its others.
                return Retry(refused.code, refused.message), self.planner.refused(
                    session,
                    state,
                    now,
                    is_useless=work.taken is AccessTokenStatus.REFUSED,
                    retry_after=refused.retry_after,
                )

    def _still_dead(
        self, before: RefreshState, answer: NoTokens, now: float
    ) -> tuple[RefreshOutcome, RefreshState]:
        """A dead session that somebody tried to revive, without success."""
        state = before.failed(State.RELOGIN_REQUIRED, answer.code, answer.message, now, cause=before.cause)
        if isinstance(answer, Refused):
            return ReloginRequired(
                before.cause or "refused", answer.code, answer.message
            ), self.planner.never(state)
        return answer, self.planner.never(state)
