"""The times of a session, as well as they can be told. Pure."""

from dataclasses import dataclass
from typing import Self

from idiolectd.clock import parse_rfc3339, rfc3339
from idiolectd.jose import numeric_claim, peek_claims
from idiolectd.session import OAuthSession
from idiolectd.state.refresh_state import RefreshState

# Two clocks of one host may differ by so much; what was stamped further ahead, a wrong clock stamped.
_AHEAD = 60.0

# The age, in its life, of a token of which only this is known. It makes the token due within a tenth
# of its life: soon enough if it is old, and spread if there are many.
_UNKNOWN_AGE = 0.75


@dataclass(frozen=True, kw_only=True)
class TokenTimes:
    """When the stored access token was issued and ends, as well as can be told.

    A token from the future was stamped by a clock that was set back since: only its life can be told.
    """

    issued_at: float
    expires_at: float

    @classmethod
    def of(cls, session: OAuthSession, state: RefreshState, now: float) -> Self:
        """From the record, else from first sight. Without a readable end the token ends now."""
        expires_at = parse_rfc3339(session.expires_at)
        if expires_at is None:
            return cls(issued_at=now, expires_at=now)
        issued_at = parse_rfc3339(session.issued_at)
        if issued_at is None or issued_at >= expires_at:
            issued_at = state.token_seen_at if state.token_seen_at is not None else now
        if issued_at > now + _AHEAD:
            life = max(0.0, expires_at - issued_at)
            return cls(issued_at=now - _UNKNOWN_AGE * life, expires_at=now + (1 - _UNKNOWN_AGE) * life)
        return cls(issued_at=min(issued_at, expires_at), expires_at=expires_at)


def session_deadline(session: OAuthSession, session_life: float) -> float | None:
    """The absolute end of a session: no refresh reaches beyond it.

    None if its start is unknown, and for a legacy session: each of its refresh tokens gets a life of
    its own, so it ends only if nobody refreshes.
    """
    if session.kind == "bearer":
        return None
    started_at = parse_rfc3339(session.session_started_at)
    return None if started_at is None else started_at + session_life


def session_end(session: OAuthSession, session_life: float) -> float | None:
    """The first end of a session that we know of: its absolute one, or its refresh token's.

    A refresh token's own claim counts too, if it is a JWT (RFC 7519, section 4.1.4).
    """
    known = (
        session_deadline(session, session_life),
        parse_rfc3339(session.refresh_expires_at),
        numeric_claim(peek_claims(session.refresh_jwt), "exp"),
    )
    return min((end for end in known if end is not None), default=None)


def shown(timestamp: float | None) -> str | None:
    """A point in time as `status` and logs print it."""
    return None if timestamp is None else rfc3339(timestamp)
