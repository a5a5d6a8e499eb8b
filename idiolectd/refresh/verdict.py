"""When refusals end a session, and when they suspend it: the one place. Pure.

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
from idiolectd.outcome import CLIENT_CAUSES, Verdict
from idiolectd.policy import Policy
from idiolectd.ports import AccessTokenStatus, Refused
from idiolectd.session import OAuthSession
from idiolectd.state import RefreshState, State, TokenTimes, session_end

# Two clocks tell of the same end; ours may be a little behind.
_SAME_END = 60.0


def counted(refused: Refused, state: RefreshState, now: float) -> RefreshState:
    """The state with one more refusal in its row; of the client and of the session there are two."""
    is_other = (state.refused_as in CLIENT_CAUSES) is not (refused.verdict is Verdict.CLIENT)
    return state.refused(refused.cause, now, anew=is_other)


def decides(rules: Policy, state: RefreshState, now: float) -> bool:
    """Whether one more refusal may end the session: then its PDS is asked about the access token first."""
    is_in_row = state.refusals > 0 and state.refused_as not in CLIENT_CAUSES
    return is_in_row and _is_confirmed(rules, state.refused("", now), now)


def decided(
    refused: Refused,
    state: RefreshState,
    *,
    rules: Policy,
    session: OAuthSession,
    session_life: float,
    taken: AccessTokenStatus | None,
    now: float,
) -> State:
    """What a session is after a refusal: `RETRYING`, `SUSPENDED` or `RELOGIN_REQUIRED`.

    Args:
        refused: what the server said.
        state: with this refusal `counted`.
        rules: the configured timing.
        session: whose token was sent.
        session_life: how long its server lets it live in all, in seconds.
        taken: what the PDS said of the access token; None: it was not asked.
        now: seconds since the epoch.
    """
    note = state.note_on(session)
    if refused.verdict is Verdict.REPLAYED and note is not None and note.unclear > 0:
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
    match taken:
        case AccessTokenStatus.REFUSED:
            return State.RELOGIN_REQUIRED
        case AccessTokenStatus.ACCEPTED | None:
            return State.RETRYING
        case AccessTokenStatus.UNKNOWN | AccessTokenStatus.NOT_CHECKABLE:
            return State.RELOGIN_REQUIRED if has_ended else State.RETRYING


def cause_of(state: RefreshState, session: OAuthSession) -> str:
    """Why a refused session is dead: a lost answer of which our note knows, else the first words of the row."""
    note = state.note_on(session)
    if note is not None and note.unclear > 0:
        return "response_lost"
    return state.refused_as or "refused"


def _is_confirmed(rules: Policy, state: RefreshState, now: float) -> bool:
    return policy.is_confirmed(rules, refusals=state.refusals, since=state.refused_since, now=now)
