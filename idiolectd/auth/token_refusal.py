"""What a PDS's refusal means for a request that carried a token.

Tells apart the refusals of a token and of its proof; every other refusal is the caller's to handle.
"""

from enum import Enum, auto

import httpx

from idiolectd.clock import parse_rfc3339
from idiolectd.http import Response
from idiolectd.http.response import http_date
from idiolectd.jose import numeric_claim, peek_claims
from idiolectd.oauth import dpop
from idiolectd.session import OAuthSession

# The statuses that can speak of a token or a proof. Bodies of all other answers are left unread.
STATUSES = (400, 401)


# XRPC's words for a token that is not taken. Some methods say the same of tokens that come by e-mail.
_TOKEN_WORDS = ("ExpiredToken", "InvalidToken")

# Refusals of requests whose token is taken: another one would not help.
_NOT_THE_TOKEN = ("AccountTakedown", "AccountDeactivated", "AccountSuspended")


class TokenRefusal(Enum):
    """Why a request was refused that might be taken the next time."""

    NONCE = auto()  # it wants another DPoP nonce, which came along (RFC 9449, section 9)
    TOKEN = auto()  # it does not take the access token (RFC 6750, section 3.1)
    PERHAPS = auto()  # it may not take the access token; servers say so in many words


def refusal_of(
    answer: httpx.Response, error: str | None, session: OAuthSession, *, now: float
) -> TokenRefusal | None:
    """Judges an answer; None: its reason is another one, or it is none.

    Args:
        answer: what came.
        error: the error code in it (`error_in`).
        session: whose token went along.
        now: the server's clock, if the answer does not tell it; seconds since the epoch.
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


def error_in(answer: httpx.Response, beginning: bytes) -> str | None:
    """The error code of an answer, if the beginning of its body holds one."""
    headers = {name.lower(): value for name, value in answer.headers.items()}
    return dpop.error_of(Response(answer.status_code, headers, beginning))


def _is_over(session: OAuthSession, now: float) -> bool:
    """Whether the access token has ended; unreadable counts as yes. A Date is cut to the second."""
    end = numeric_claim(peek_claims(session.access_jwt), "exp") or parse_rfc3339(session.expires_at)
    return end is None or end <= now + 1.0
