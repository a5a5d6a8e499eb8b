"""What to do about a refresh token that was sent without a clear answer. Pure.

Asked no sooner than the settling time after the note, because the request may still be served.
"""

from idiolectd.clock import parse_rfc3339
from idiolectd.jose import numeric_claim, peek_claims
from idiolectd.outcome import Ambiguous, Verdict
from idiolectd.ports import AccessTokenStatus, Probe, Refused
from idiolectd.session import OAuthSession
from idiolectd.state import RefreshState

# A token this near its end may have ended between the two clocks: then its refusal tells nothing.
_EXPIRY_DOUBT = 5.0


def is_open(session: OAuthSession, state: RefreshState) -> bool:
    """Whether nobody knows what became of the stored token."""
    note = state.note_on(session)
    return note is not None and note.unclear > 0


def resolved(probe: Probe, session: OAuthSession, now: float) -> Ambiguous | Refused | None:
    """What the PDS's word on the old access token means; None: nobody can tell, so send it again.

    Sending again costs nothing: had the server rotated it, nobody would hold the new tokens. But a
    server that has rotated it may be asked more gently first: it refuses the old access token. That
    is a refusal like any other: a server also says so of a database that is locked.
    """
    match probe.taken:
        case AccessTokenStatus.NOT_CHECKABLE | AccessTokenStatus.ACCEPTED:
            return None
        case AccessTokenStatus.REFUSED if outlives(session, probe, now):
            return Refused(
                Verdict.SESSION,
                "response_lost",
                "response_lost",
                "the PDS refuses the access token: the server has rotated it, and its answer was lost",
            )
        case AccessTokenStatus.REFUSED:
            return None
        case AccessTokenStatus.UNKNOWN:
            return Ambiguous("no_verdict", "the PDS can't say whether the old access token still works")


def outlives(session: OAuthSession, probe: Probe, now: float) -> bool:
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
