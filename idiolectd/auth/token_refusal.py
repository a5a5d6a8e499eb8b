"""Judges a PDS's refusal of a request that carried a token.

Tells refusals of the token, of its proof and of anything else apart; the caller handles the last.
"""

from enum import Enum, auto

from idiolectd.auth.steps import Answer
from idiolectd.clock import parse_rfc3339
from idiolectd.http import Response, error_of
from idiolectd.http.response import http_date
from idiolectd.jose import numeric_claim, peek_claims
from idiolectd.session import OAuthSession

# The statuses of refusals that may concern a token or a proof. Bodies of all other answers are not read.
STATUSES = (400, 401)


# XRPC's error codes for a refused access token. Some methods use the same codes for tokens sent by e-mail.
_TOKEN_WORDS = ("ExpiredToken", "InvalidToken")

# Error codes of refusals that have nothing to do with the token: another token would not help.
_NOT_THE_TOKEN = ("AccountTakedown", "AccountDeactivated", "AccountSuspended")


class TokenRefusal(Enum):
    """Why a request was refused that may succeed when it is repeated."""

    NONCE = auto()  # the PDS wants the DPoP nonce that came with the refusal (RFC 9449, section 9)
    TOKEN = auto()  # the PDS refuses the access token (RFC 6750, section 3.1)
    PERHAPS = auto()  # the PDS may be refusing the access token: servers have no common code for it


def refusal_of(
    answer: Answer, error: str | None, session: OAuthSession, *, now: float
) -> TokenRefusal | None:
    """Judges an answer; None: it is no refusal, or it has another reason.

    Args:
        answer: the answer.
        error: the answer's error code (`error_in`).
        session: the session whose token was sent.
        now: the server's time, used if the answer has no Date; seconds since the epoch.
    """
    if answer.status_code not in STATUSES or error in _NOT_THE_TOKEN:
        return None
    if error == "use_dpop_nonce":
        return TokenRefusal.NONCE
    if error == "invalid_token":
        return TokenRefusal.TOKEN
    if error == "ExpiredToken" and _is_over(session, http_date(answer.headers.get("date", "")) or now):
        return TokenRefusal.TOKEN
    if answer.status_code == 401 or error in _TOKEN_WORDS:
        return TokenRefusal.PERHAPS
    return None


def error_in(answer: Answer, beginning: bytes) -> str | None:
    """The error code in the beginning of an answer's body; None: there is none."""
    headers = {name.lower(): value for name, value in answer.headers.items()}
    return error_of(Response(answer.status_code, headers, beginning))


def _is_over(session: OAuthSession, now: float) -> bool:
    """Whether the access token has expired; an unreadable expiry counts as yes. A Date has whole seconds."""
    end = numeric_claim(peek_claims(session.access_jwt), "exp") or parse_rfc3339(session.expires_at)
    return end is None or end <= now + 1.0
