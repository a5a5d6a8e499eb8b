"""Compares a record that any program may have written with what is known of its session. Pure."""

from dataclasses import dataclass, fields
from enum import Enum, auto

from idiolectd.copying import replace
from idiolectd.errors import SessionError
from idiolectd.session import OAuthSession, Tokens
from idiolectd.state.order import RecordOrder, order_of
from idiolectd.state.refresh_state import Pins, RefreshState, State, with_spent


class RecordChange(Enum):
    """What happened to a record since it was last looked at."""

    NONE = auto()
    LOGIN = auto()  # first seen, or another DPoP key: a new session
    ROTATED = auto()  # the same session with a token that we did not bring
    SPENT = auto()  # somebody put back an older copy, whose token is used up


@dataclass(frozen=True)
class ReconciledRecord:
    """A stored record as it should be, the state that goes with it, and how they differ from before."""

    session: OAuthSession
    state: RefreshState
    change: RecordChange


def reconcile(stored: OAuthSession, state: RefreshState, now: float) -> ReconciledRecord:
    """Compares a record with what is known of it.

    A foreign writer may have dropped our fields (pins are put back), rotated the tokens (theirs
    count), put an older copy back (the last good record counts), or stored a new login. How old a record
    is follows from its times (`order_of`) and, for the last few rotations, from the list of used-up
    tokens. Where no server's time proves it, the record that lost is kept as `RefreshState.displaced`
    until the server has shown which of the two lives.
    """
    is_good = state.last_good is not None and state.last_good == stored.to_json()
    good = stored if is_good else last_good(state)
    same_key = good is not None and (good is stored or good.dpop_thumbprint == stored.dpop_thumbprint)
    if good is not None and same_key and good.refresh_token_hash == stored.refresh_token_hash:
        session = state.pins.restored_to(stored)
        return ReconciledRecord(
            session, replace(state, pins=state.pins.filled_from(session)), RecordChange.NONE
        )
    if good is not None and good.refresh_token_hash not in state.spent:
        is_spent = stored.refresh_token_hash in state.spent
        order = RecordOrder.OLDER if is_spent else order_of(stored, good)
        if order in (RecordOrder.OLDER, RecordOrder.SEEMS_OLDER):
            # With another key it is an earlier login's record: none of its fields is this session's.
            session = state.pins.restored_to(stored.with_tokens(tokens_of(good))) if same_key else good
            if order is RecordOrder.SEEMS_OLDER:
                state = replace(state, displaced=stored.to_json())
            return ReconciledRecord(session, state, RecordChange.SPENT)
    return _accepted(stored, state, good, now)


def reconcile_login(given: OAuthSession, state: RefreshState, now: float) -> ReconciledRecord:
    """Takes over a record with another DPoP key that a program saves on purpose: a login.

    Unlike a record that was found (`reconcile`), it counts unless both the server's times and ours make it
    an earlier login's: a clock that was set back must not keep a person from logging in.
    """
    good = last_good(state)
    order = RecordOrder.UNKNOWN if good is None else order_of(given, good)
    if good is not None and (given.refresh_token_hash in state.spent or order is RecordOrder.OLDER):
        return ReconciledRecord(good, state, RecordChange.SPENT)
    login = _accepted(given, state, good, now)
    # What a person has just logged in with, and no time speaks against, has nothing to prove.
    return replace(login, state=login.state.proven()) if order is RecordOrder.NEWER else login


def _accepted(
    record: OAuthSession, state: RefreshState, good: OAuthSession | None, now: float
) -> ReconciledRecord:
    """Takes the record over: it counts from now on, instead of the last good one."""
    same_key = good is not None and good.dpop_thumbprint == record.dpop_thumbprint
    # What an account is called does not change with a login.
    pins = state.pins if same_key else Pins(confirmed_handle=state.pins.confirmed_handle)
    session = pins.restored_to(record)
    lived = good is not None and state.state is not State.RELOGIN_REQUIRED
    started = RefreshState(
        spent=with_spent(state.spent, good.refresh_token_hash) if good else state.spent,
        last_good=session.to_json(),
        displaced=state.last_good if lived else None,
        pins=pins.filled_from(session),
        token_seen_at=now,
        first_seen_at=state.first_seen_at if same_key and state.first_seen_at is not None else now,
        last_success_at=state.last_success_at if same_key else None,
        identity_checked_at=state.identity_checked_at if same_key else None,
        claimed_handle=state.claimed_handle if same_key else None,
        identity_doubted=state.identity_doubted and same_key,
        account_status=state.account_status if same_key else None,
        moved_to=state.moved_to if same_key else None,
        warned=state.warned if same_key else None,
        paused=state.paused,
    )
    return ReconciledRecord(session, started, RecordChange.ROTATED if same_key else RecordChange.LOGIN)


def last_good(state: RefreshState) -> OAuthSession | None:
    """The last record known to be right, if one is kept."""
    try:
        return OAuthSession.from_json(state.last_good) if state.last_good else None
    except SessionError:
        return None


def displaced(state: RefreshState) -> OAuthSession | None:
    """The record that lost against the stored one without proof, if one is kept."""
    try:
        return OAuthSession.from_json(state.displaced) if state.displaced else None
    except SessionError:
        return None


def withheld(state: RefreshState) -> OAuthSession | None:
    """The session with the tokens that arrived and are not published, if there are any."""
    try:
        return OAuthSession.from_json(state.withheld) if state.withheld else None
    except SessionError:
        return None


def tokens_of(session: OAuthSession) -> Tokens:
    """The part of a session that a rotation changes."""
    return Tokens(**{name: getattr(session, name) for name in _TOKENS})


_TOKENS = tuple(f.name for f in fields(Tokens))
