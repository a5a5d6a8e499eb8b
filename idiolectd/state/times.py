"""The times of a session, as far as its record, its tokens and its state tell them. Pure."""

from dataclasses import dataclass
from typing import Self

from idiolectd.clock import parse_rfc3339, rfc3339
from idiolectd.jose import numeric_claim, peek_claims
from idiolectd.session import OAuthSession
from idiolectd.state.refresh_state import RefreshState

# Seconds that a record's time may lie ahead of our clock; one further ahead comes from a wrong clock.
_AHEAD = 60.0

# The share of its lifetime that a token of unknown age is taken to have lived. It makes the token due
# within a tenth of its lifetime: soon enough if it is old, and spread if there are many.
_UNKNOWN_AGE = 0.75


@dataclass(frozen=True, kw_only=True)
class TokenTimes:
    """When the stored access token was issued and when it ends, in seconds since the epoch.

    If the record says that it was issued in the future, its clock was set back since: then only the
    token's lifetime can be told, and its age is guessed.
    """

    issued_at: float
    expires_at: float

    @classmethod
    def of(cls, session: OAuthSession, state: RefreshState, now: float) -> Self:
        """Reads them from the record, else from when it was first seen. Without a readable end it ends now."""
        expires_at = parse_rfc3339(session.expires_at)
        if expires_at is None:
            return cls(issued_at=now, expires_at=now)
        issued_at = parse_rfc3339(session.issued_at)
        if issued_at is None or issued_at >= expires_at:
            issued_at = state.token_seen_at if state.token_seen_at is not None else now
        if issued_at > now + _AHEAD:
            lifetime = max(0.0, expires_at - issued_at)
            return cls(
                issued_at=now - _UNKNOWN_AGE * lifetime, expires_at=now + (1 - _UNKNOWN_AGE) * lifetime
            )
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


def latest_end(session: OAuthSession, state: RefreshState, session_life: float) -> float | None:
    """When a session of unknown start ends at the latest; None if its start is known, and for a legacy session.

    Counted from when it was first seen here, it may be too late by all that the session had lived before. So people
    are told of it, and nothing is planned or ended by it.
    """
    is_known = session_deadline(session, session_life) is not None
    if session.kind == "bearer" or is_known or state.first_seen_at is None:
        return None
    return state.first_seen_at + session_life


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
