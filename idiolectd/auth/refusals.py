"""What a PDS's refusal means for a request that carried a token.

Only the token's own troubles are told apart here. All other refusals are the caller's.
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


class Refusal(Enum):
    """Why a request was refused that might be taken the next time."""

    NONCE = auto()  # it wants another DPoP nonce, which came along (RFC 9449, section 9)
    PROOF = auto()  # it does not take the proof; perhaps for its time
    TOKEN = auto()  # it does not take the access token (RFC 6750, section 3.1)


def refusal_of(answer: httpx.Response, session: OAuthSession, *, now: float) -> Refusal | None:
    """Judges an answer whose body has been read; None: its reason is another one, or it is none.

    Args:
        answer: what came.
        session: whose token went along.
        now: the server's clock, if the answer does not tell it; seconds since the epoch.
    """
    if answer.status_code not in STATUSES:
        return None
    headers = {name.lower(): value for name, value in answer.headers.items()}
    match dpop.error_of(Response(answer.status_code, headers, answer.content)):
        case "use_dpop_nonce":
            return Refusal.NONCE
        case "invalid_dpop_proof":
            return Refusal.PROOF
        case "invalid_token":
            return Refusal.TOKEN
        # XRPC's word for it, and also for the tokens that some methods take from e-mails: it is about
        # ours only if ours is over.
        case "ExpiredToken" if _is_over(session, http_date(headers.get("date", "")) or now):
            return Refusal.TOKEN
        case _:
            return None


def _is_over(session: OAuthSession, now: float) -> bool:
    """Whether the access token has ended; unreadable counts as yes. A Date is cut to the second."""
    end = numeric_claim(peek_claims(session.access_jwt), "exp") or parse_rfc3339(session.expires_at)
    return end is None or end <= now + 1.0
