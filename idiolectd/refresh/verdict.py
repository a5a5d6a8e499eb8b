"""What a session is: before anything is sent, and after an answer without tokens. Pure.

`standing` says whether there is anything to do, `contradiction` what must not be sent. `judged` turns an
answer without tokens into the session's next state; it is the one place where refusals end a session.

A verdict is earned. A session that is given up costs a person a login, one that is tried again costs
a request; and servers say "Invalid refresh token" of a database that is locked for a moment. So:

1. What a server can't say by mistake is believed at once: that the token was used before, if our own
   note says that we sent it and never heard; that the session has ended, if we know of that end too.
2. Everything else is believed when it was heard `policy.CONFIRMATIONS` times over `Policy.confirm`,
   in any words.
3. Even then a session lives while its PDS takes its access token. If nobody can say whether it does,
   the token's own end decides.
   `Policy.confirm` of 0 leaves all that out.
4. A client or an account that is refused may be let in again: such a session is never dead, but
   suspended, once its access token has ended or `policy.CLIENT_PATIENCE` is over.
"""

from idiolectd import policy
from idiolectd.outcome import (
    CLIENT_CAUSES,
    Ambiguous,
    Cause,
    Code,
    Current,
    RefreshOutcome,
    ReloginRequired,
    Retry,
    Suspended,
    Verdict,
)
from idiolectd.policy import Policy
from idiolectd.ports import AccessTokenStatus, Refused
from idiolectd.refresh.planner import Planner
from idiolectd.session import OAuthSession
from idiolectd.state import RefreshState, State, TokenTimes, session_end

NoTokens = Refused | Retry | Ambiguous | Suspended | ReloginRequired

# Two clocks tell of the same end; ours may be a little behind.
_SAME_END = 60.0

# Other pins' contradictions are the client's.
_CONTRADICTIONS = {"dpop_thumbprint": Cause.DPOP_KEY_MISMATCH, "issuer": Cause.ISSUER_CHANGED}

# com.atproto.server.refreshSession: the other known status, deactivated, is the person's own wish.
_TAKEN_DOWN = ("takendown", "suspended")


# Before anything is sent ---------------------------------------------------------------------


def standing(
    session: OAuthSession,
    state: RefreshState,
    planner: Planner,
    now: float,
    *,
    force: bool,
    needed: bool,
    revive: bool,
) -> RefreshOutcome | None:
    """The outcome that stands without doing anything; None: the session has to be refreshed.

    Args:
        session: the stored one.
        state: its state.
        planner: says when a client needs new tokens.
        now: seconds since the epoch.
        force: as of `RefreshEngine.refresh`.
        needed: as of `RefreshEngine.refresh`.
        revive: as of `RefreshEngine.refresh`.
    """
    is_dead = state.state is State.RELOGIN_REQUIRED
    if is_dead and not revive:
        return ReloginRequired(state.cause or "", *_last_words(state))
    if state.paused:
        message = "somebody has paused the session; idiolectd resume gives it back"
        if state.migrated_to is not None:
            message = f"the session was migrated to {state.migrated_to}, and is refreshed there"
        return Suspended(Cause.PAUSED, Cause.PAUSED, message)
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
    if needed and planner.is_needed(session, state, now):
        return None
    return Current(session)


def contradiction(session: OAuthSession, state: RefreshState) -> Suspended | None:
    """What the record holds and must not be sent: with it, the server would end the session."""
    field = state.pins.contradiction(session)
    if field is not None:
        cause = _CONTRADICTIONS.get(field, Cause.CLIENT_MISMATCH)
        return Suspended(cause, cause, f"the record's {field} is not the one the session was started with")
    if session.refresh_token_hash in state.spent:
        message = "the stored refresh token is used up"
        return Suspended(state.cause or Cause.TOKEN_SPENT, Cause.TOKEN_SPENT, message)
    return None


def may_end(rules: Policy, state: RefreshState, now: float) -> bool:
    """Whether one more refusal may end the session: then its PDS is asked about the access token first."""
    is_in_row = state.refusals > 0 and state.refused_as not in CLIENT_CAUSES
    return is_in_row and _is_confirmed(rules, state.refused("", now), now)


# After an answer -----------------------------------------------------------------------------


def judged(
    answer: NoTokens,
    session: OAuthSession,
    state: RefreshState,
    planner: Planner,
    now: float,
    *,
    sent: bool,
    access_token: AccessTokenStatus | None,
) -> tuple[RefreshOutcome, RefreshState]:
    """What an answer without tokens means, and the planned state that it leaves.

    Args:
        answer: what was heard, or what our own checks said before anything was sent.
        session: whose refresh token was meant.
        state: what was known of it before.
        planner: plans the next attempt.
        now: seconds since the epoch.
        sent: a server was asked.
        access_token: what the PDS said of the access token; None: it was not asked.
    """
    if state.state is State.RELOGIN_REQUIRED:
        return _still_dead(answer, state, planner, now)
    match answer:
        case Retry(code, message, retry_after, issuer_wide, rate_limited):
            if issuer_wide and not rate_limited:
                state = state.unrefused()
            state = state.failed(State.RETRYING, code, message, now)
            return answer, planner.retry(session, state, now, retry_after)
        case Ambiguous(code, message):
            state = state.unrefused().failed(State.AMBIGUOUS, code, message, now)
            return answer, planner.settle_or_retry(session, state, now)
        case Suspended(cause, code, message):
            state = state.failed(State.SUSPENDED, code, message, now, cause=cause)
            return answer, planner.slow(session, state, now, asked=sent)
        case ReloginRequired(cause, code, message):
            state = state.failed(State.RELOGIN_REQUIRED, code, message, now, cause=cause)
            return answer, planner.never(state)
        case Refused():
            return _refused(answer, session, state, planner, now, access_token=access_token)


def taken_down(state: RefreshState) -> Suspended | None:
    """What it means for a session that its account was taken down; a deactivated one's goes on."""
    if state.account_status not in _TAKEN_DOWN:
        return None
    message = f"the server gives tokens, and calls the account {state.account_status}"
    return Suspended(Cause.ACCOUNT_TAKEN_DOWN, Cause.ACCOUNT_TAKEN_DOWN, message)


def counted(refused: Refused, state: RefreshState, now: float) -> RefreshState:
    """The state with one more refusal in its row; of the client and of the session there are two."""
    is_other = (state.refused_as in CLIENT_CAUSES) is not (refused.verdict is Verdict.CLIENT)
    return state.refused(refused.cause, now, anew=is_other)


def decided(
    refused: Refused,
    state: RefreshState,
    *,
    rules: Policy,
    session: OAuthSession,
    session_life: float,
    access_token: AccessTokenStatus | None,
    now: float,
) -> State:
    """What a session is after a refusal: `RETRYING`, `SUSPENDED` or `RELOGIN_REQUIRED`.

    Args:
        refused: what the server said.
        state: with this refusal `counted`.
        rules: the configured timing.
        session: whose token was sent.
        session_life: how long its server lets it live in all, in seconds.
        access_token: what the PDS said of the access token; None: it was not asked.
        now: seconds since the epoch.
    """
    if refused.verdict is Verdict.REPLAYED and state.is_unclear(session):
        return State.RELOGIN_REQUIRED
    ends_at = session_end(session, session_life)
    if refused.verdict is Verdict.EXPIRED and ends_at is not None and ends_at - _SAME_END <= now:
        return State.RELOGIN_REQUIRED
    if not _is_confirmed(rules, state, now):
        return State.RETRYING
    if rules.confirm == 0:
        return State.SUSPENDED if refused.verdict is Verdict.CLIENT else State.RELOGIN_REQUIRED
    has_ended = TokenTimes.of(session, state, now).expires_at <= now
    if refused.verdict is Verdict.CLIENT:
        age = now - (now if state.refused_since is None else state.refused_since)
        return State.SUSPENDED if has_ended or age >= policy.CLIENT_PATIENCE else State.RETRYING
    match access_token:
        case AccessTokenStatus.REFUSED:
            return State.RELOGIN_REQUIRED
        case AccessTokenStatus.ACCEPTED | None:
            return State.RETRYING
        case AccessTokenStatus.UNKNOWN | AccessTokenStatus.NOT_CHECKABLE:
            return State.RELOGIN_REQUIRED if has_ended else State.RETRYING


def cause_of(state: RefreshState, session: OAuthSession) -> str:
    """Why a refused session is dead: what we know of its token ourselves, else the first words of the row."""
    if state.is_restored(session):
        return Cause.RESTORED_COPY
    return Cause.RESPONSE_LOST if state.is_unclear(session) else state.refused_as or Cause.REFUSED


def _refused(
    refused: Refused,
    session: OAuthSession,
    state: RefreshState,
    planner: Planner,
    now: float,
    *,
    access_token: AccessTokenStatus | None,
) -> tuple[RefreshOutcome, RefreshState]:
    state = counted(refused, state, now)
    new_state = decided(
        refused,
        state,
        rules=planner.policy,
        session=session,
        session_life=planner.session_life(session),
        access_token=access_token,
        now=now,
    )
    cause = cause_of(state, session)
    state = state.failed(new_state, refused.code, refused.message, now, cause=cause)
    match new_state:
        case State.RELOGIN_REQUIRED:
            return ReloginRequired(cause, refused.code, refused.message), planner.never(state)
        case State.SUSPENDED:
            outcome = Suspended(cause, refused.code, refused.message)
            return outcome, planner.slow(session, state, now, asked=True)
        case _:
            is_useless = access_token is AccessTokenStatus.REFUSED
            pause = refused.retry_after
            state = planner.refused(session, state, now, is_useless=is_useless, retry_after=pause)
            # How long the server wants this session to wait is nothing to its others.
            return Retry(refused.code, refused.message), state


def _still_dead(
    answer: NoTokens, state: RefreshState, planner: Planner, now: float
) -> tuple[RefreshOutcome, RefreshState]:
    """A dead session that somebody tried to revive, without success."""
    cause = state.cause
    state = planner.never(state.failed(State.RELOGIN_REQUIRED, answer.code, answer.message, now, cause=cause))
    if isinstance(answer, Refused):
        return ReloginRequired(cause or Cause.REFUSED, answer.code, answer.message), state
    return answer, state


def _is_confirmed(rules: Policy, state: RefreshState, now: float) -> bool:
    return policy.is_confirmed(rules, refusals=state.refusals, since=state.refused_since, now=now)


def _last_words(state: RefreshState) -> tuple[str, str]:
    """Code and message of the last error."""
    error = state.last_error
    return (error.code, error.message) if error is not None else (Code.UNKNOWN, "no reason was kept")
