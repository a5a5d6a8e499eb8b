"""What a record that somebody wrote means, beside the state that is known of it. Pure."""

from dataclasses import dataclass, fields, replace
from enum import Enum, auto

from idiolectd.errors import SessionError
from idiolectd.session import OAuthSession, Tokens
from idiolectd.state.refresh_state import Pins, RefreshState, with_spent


class Change(Enum):
    """What happened to a record since it was last looked at."""

    NONE = auto()
    LOGIN = auto()  # first seen, or another DPoP key: a new session
    ROTATED = auto()  # the same session with a token that we did not bring
    SPENT = auto()  # somebody put back a token that is known to be used up


@dataclass(frozen=True)
class Adopted:
    """A stored record as it should be, the state that goes with it, and how they differ from before."""

    session: OAuthSession
    state: RefreshState
    change: Change


def adopt(stored: OAuthSession, state: RefreshState, now: float) -> Adopted:
    """Compares a record with what is known of it.

    A foreign writer may have dropped our fields (pins are put back), rotated the tokens (theirs
    count), put a spent token back (the last good record counts), or stored a new login.
    """
    good = last_good(state)
    same_key = good is not None and good.dpop_thumbprint == stored.dpop_thumbprint
    if good is not None and same_key and good.refresh_token_hash == stored.refresh_token_hash:
        session = state.pins.restored_to(stored)
        return Adopted(session, replace(state, pins=state.pins.filled_from(session)), Change.NONE)
    is_spent = stored.refresh_token_hash in state.spent
    if good is not None and is_spent and good.refresh_token_hash not in state.spent:
        # With another key it is an earlier login's record: none of its fields is this session's.
        session = state.pins.restored_to(stored.with_tokens(tokens_of(good))) if same_key else good
        return Adopted(session, state, Change.SPENT)
    pins = state.pins if same_key else Pins()
    session = pins.restored_to(stored)
    started = RefreshState(
        spent=with_spent(state.spent, good.refresh_token_hash) if good else state.spent,
        last_good=session.to_json(),
        pins=pins.filled_from(session),
        token_seen_at=now,
        last_success_at=state.last_success_at if same_key else None,
        identity_checked_at=state.identity_checked_at if same_key else None,
        warned=state.warned if same_key else None,
        paused=state.paused,
    )
    return Adopted(session, started, Change.ROTATED if same_key else Change.LOGIN)


def last_good(state: RefreshState) -> OAuthSession | None:
    """The last record known to be right, if one is kept."""
    try:
        return OAuthSession.from_json(state.last_good) if state.last_good else None
    except SessionError:
        return None


def tokens_of(session: OAuthSession) -> Tokens:
    """The part of a session that a rotation changes."""
    return Tokens(**{f.name: getattr(session, f.name) for f in fields(Tokens)})
