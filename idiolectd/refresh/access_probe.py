"""What a PDS's word on an access token says of the refresh token beside it. Pure.

A used-up refresh token must not be sent: it would end the session. An access token can be shown to its
PDS without harm, and most servers end it with the rotation that uses up the refresh token. So the PDS is
asked first in three cases:

* A refresh token was sent and the answer is unclear: `after_unclear_answer`. The engine asks no sooner
  than the settling time after the note, because the request may still be served until then.
* The record came back from a copy, and whoever used its token since left no trace: `after_restoring`.
* Somebody put a record into the place of another (a rotation by a foreign program, a login, a copy from
  a backup), no server's time tells which is newer, and the one that lost is kept
  (`RefreshState.displaced`): `which_lives`.
"""

from enum import Enum, auto

from idiolectd.clock import parse_rfc3339
from idiolectd.jose import numeric_claim, peek_claims
from idiolectd.outcome import Ambiguous, Cause, Code, ReloginRequired, Retry, Verdict
from idiolectd.ports import AccessTokenStatus, Probe, Refused
from idiolectd.session import OAuthSession
from idiolectd.state import RefreshState, TokenTimes

# A token this near its end may have ended between the two clocks: then its refusal tells nothing.
_EXPIRY_DOUBT = 5.0


def after_unclear_answer(probe: Probe, session: OAuthSession, now: float) -> Ambiguous | Refused | None:
    """What the PDS's word on the old access token means; None: nobody can tell, so send it again.

    Sending again costs nothing: had the server rotated it, nobody would hold the new tokens. But a
    server that has rotated it may be asked more gently first: it refuses the old access token. That
    is a refusal like any other: a server also says so of a database that is locked.
    """
    match probe.status:
        case AccessTokenStatus.NOT_CHECKABLE | AccessTokenStatus.ACCEPTED:
            return None
        case AccessTokenStatus.REFUSED if _outlives(session, probe, now):
            return Refused(
                Verdict.SESSION,
                Cause.RESPONSE_LOST,
                Cause.RESPONSE_LOST,
                "the PDS refuses the access token: the server has rotated it, and its answer was lost",
            )
        case AccessTokenStatus.REFUSED:
            return None
        case AccessTokenStatus.UNKNOWN:
            message = "the PDS can't say whether the old access token still works"
            return Ambiguous(Code.NO_VERDICT, message)


def after_restoring(
    probe: Probe, session: OAuthSession, state: RefreshState, now: float, *, may_be_used: bool
) -> Refused | Retry | ReloginRequired | None:
    """What the PDS's word means for a session that came back from a copy; None: its refresh token may be sent.

    Here sending a used token costs more than after an unclear answer: somebody else may hold the session that
    lives, and it would end. So what nobody can tell is not tried.

    Args:
        probe: the PDS's word on the access token.
        session: the stored one.
        state: its state.
        now: seconds since the epoch.
        may_be_used: its access token is old enough that a program may have refreshed it.
    """
    match probe.status:
        case AccessTokenStatus.ACCEPTED:
            return None
        case AccessTokenStatus.REFUSED if _outlives(session, probe, now):
            cause = Cause.RESTORED_COPY
            return Refused(
                Verdict.SESSION, cause, cause, "the PDS refuses the copy's access token: it was used since"
            )
        case AccessTokenStatus.UNKNOWN if TokenTimes.of(session, state, now).expires_at > now:
            message = (
                "the record came back from a copy, and the PDS can't say whether its token was used since"
            )
            return Retry(Code.UNPROVEN, message)
        case AccessTokenStatus.NOT_CHECKABLE if not may_be_used:
            return None
        case _:
            cause = Cause.RESTORED_COPY
            message = (
                "it came back from a copy, its access token has ended, and its refresh token may be used up"
            )
            return ReloginRequired(cause, cause, message)


class Lives(Enum):
    """Which of two records holds the newest tokens."""

    STORED = auto()  # the other one is forgotten
    OTHER = auto()  # the stored record is an old copy: the other one comes back
    UNTOLD = auto()  # the PDS can't say while the stored one should live: not now
    ASK_OTHER = auto()  # only its PDS's word on the other one's access token can tell


def which_lives(stored: OAuthSession, probe: Probe, state: RefreshState, now: float) -> Lives:
    """What the PDS's word on the stored access token means while another record is `displaced`.

    If it refuses a token that has ended anyway, only the other one's can tell more; if it takes neither,
    nothing more can be known, and the stored refresh token is sent.
    """
    match probe.status:
        case AccessTokenStatus.ACCEPTED:
            return Lives.STORED
        case AccessTokenStatus.REFUSED if _outlives(stored, probe, now):
            return Lives.OTHER
        case AccessTokenStatus.UNKNOWN if TokenTimes.of(stored, state, now).expires_at > now:
            return Lives.UNTOLD
        case _:
            return Lives.ASK_OTHER


def _outlives(session: OAuthSession, probe: Probe, now: float) -> bool:
    """Whether the access token certainly had time left when the server refused it.

    Its own claim is the server's word, by the server's clock. The record's times are this machine's,
    which may have had another clock then: they count if its present one and the server's confirm them.
    """
    if probe.server_time is None:
        return False
    claimed = numeric_claim(peek_claims(session.access_jwt), "exp")
    if claimed is not None:
        return claimed - probe.server_time > _EXPIRY_DOUBT
    issued_at, expires_at = parse_rfc3339(session.issued_at), parse_rfc3339(session.expires_at)
    if expires_at is None or (issued_at is not None and issued_at > now):
        return False
    return expires_at - max(probe.server_time, now) > _EXPIRY_DOUBT
