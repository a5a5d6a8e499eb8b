"""What a write does to what is stored: the decisions that all stores share.

Pure: no I/O, no locks, no clock. A store reads record and state under its write lock, asks here, and
writes the answer in one step.

Rules: newer is never overwritten by older, however many rotations lie between; what nobody meant to change stays as it is stored *now*.
"""

from contextlib import suppress
from dataclasses import dataclass

from idiolectd.errors import NewerState, RecordError, SessionError
from idiolectd.ports import NO_SERVER, Committed, ScheduleEntry, StoredCopy
from idiolectd.session import OAuthSession, Tokens
from idiolectd.state import (
    RecordChange,
    RecordOrder,
    RefreshState,
    State,
    last_good,
    order_of,
    reconcile,
    reconcile_login,
)
from idiolectd.store.record_text import MAX_RECORD, decode_record, too_large
from idiolectd.store.sealing import AS_STORED, Keys


def encode_record(session: OAuthSession, *, place: str, keys: Keys) -> bytes:
    """The record as it will be stored, its secrets sealed if there are keys.

    Raises:
        RecordError: no reader would take it.
    """
    try:
        text = keys.seal(session).to_json().encode()
    except UnicodeEncodeError as error:
        raise RecordError(place, "a field holds a lone surrogate", did=session.did) from error
    if len(text) > MAX_RECORD:
        raise too_large(place, session.did)
    return text


def encode_state(state: RefreshState, did: str, keys: Keys, stored: str | bytes | None = None) -> bytes:
    """The state as it will be stored, its secrets sealed if there are keys.

    Args:
        state: the state.
        did: whose.
        keys: of the store.
        stored: as it is there already: of the same state the text is the same, although each sealing is another.
    """
    before = None
    if stored is not None and keys.sealing is not None:
        with suppress(SessionError):
            before = RefreshState.from_json(stored)
    return keys.seal_state(state, did, before).to_json().encode(errors="backslashreplace")


def decode_state(
    text: str | bytes | None, now: float, *, did: str, keys: Keys, record: OAuthSession | None = None
) -> RefreshState:
    """Reads a stored state. A damaged one must not block its session: it becomes an empty one.

    Args:
        text: the state; None: there is none.
        now: seconds since the epoch.
        did: whose.
        keys: of the store.
        record: what counts as the last good record if that may stay sealed; see `Keys.open_state`.

    Raises:
        RecordError: a newer program wrote it, and knows of the session what this one would lose.
        SealedError: the keys don't open it.
    """
    if text is None:
        return RefreshState()
    try:
        return keys.open_state(RefreshState.from_json(text), did, record)
    except NewerState as error:
        raise RecordError("the state", str(error)) from error
    except SessionError as error:
        return RefreshState.unreadable(str(error), now)


@dataclass(frozen=True)
class Merged:
    """What a save stores.

    Attributes:
        session: the record.
        state: the refresh state.
        new_login: the state speaks of another session than before.
        keeps_entry: the session's entry in the schedule stays as it is, if it has one.
        entry: the entry it gets otherwise: a look at the record, now. A save must not leave a session behind
            that nobody plans. None: it is to have no next attempt.
    """

    session: OAuthSession
    state: RefreshState
    new_login: bool
    keeps_entry: bool
    entry: ScheduleEntry | None


def merge_save(given: OAuthSession, stored: OAuthSession | None, state: RefreshState, now: float) -> Merged:
    """Decides what `save` stores.

    Args:
        given: what the caller wants stored.
        stored: the record as it is now; None: missing or unreadable.
        state: the state as it is now.
        now: seconds since the epoch.
    """
    seen_login = False
    if stored is not None:
        # A foreign writer may have been here since the state was written; look first at that.
        seen = reconcile(stored, state, now)
        stored, state, seen_login = seen.session, seen.state, seen.change is RecordChange.LOGIN
    good = last_good(state)
    is_login = good is not None and good.dpop_thumbprint != given.dpop_thumbprint
    adopted = reconcile_login(given, state, now) if is_login else reconcile(given, state, now)
    if adopted.change is RecordChange.SPENT and is_login:
        # An earlier login's copy comes back. Its fields belong to another key: none are taken.
        return _merged(stored or adopted.session, state, new_login=seen_login, now=now)
    return _merged(adopted.session, adopted.state, new_login=adopted.change is RecordChange.LOGIN, now=now)


def _merged(
    session: OAuthSession, state: RefreshState, *, new_login: bool, now: float, keeps_entry: bool = True
) -> Merged:
    is_dead = state.state is State.RELOGIN_REQUIRED
    rests = is_dead or state.paused
    return Merged(
        session,
        state,
        new_login=new_login,
        keeps_entry=keeps_entry and (is_dead or state.next_attempt_at is not None),
        entry=None if rests else ScheduleEntry(at=now, did=session.did, expires_at=now, server=NO_SERVER),
    )


def merge_restore(
    copy: StoredCopy, stored: OAuthSession | None, state: RefreshState, now: float, keys: Keys
) -> Merged | None:
    """Decides what `restore` stores; None: what is there stays.

    Args:
        copy: what comes from a copy of a store.
        stored: the record as it is now; None: missing or unreadable.
        state: the state as it is now.
        now: seconds since the epoch.
        keys: open the secrets of the copy.

    Raises:
        RecordError: the copy is unreadable.
        SealedError: the keys don't open it.
    """
    given = decode_record(copy.record, place="the copy", did=copy.did, keys=keys)
    seen = reconcile(given, decode_state(copy.state, now, did=copy.did, keys=keys), now)
    known = [each for each in (stored, last_good(state)) if each is not None]
    if any(order_of(seen.session, each) is not RecordOrder.NEWER for each in known):
        return None
    came_back = seen.state.restored_from_copy(seen.session)
    return _merged(seen.session, came_back, new_login=False, now=now, keeps_entry=False)


def merge_commit(
    stored: OAuthSession | None, read: OAuthSession, state: RefreshState, tokens: Tokens | None
) -> OAuthSession | Committed:
    """Decides what `commit` stores: a record (the stored one, if it is to stay), or why nothing.

    Args:
        stored: the record as it is now; None: missing.
        read: the session that the caller read before.
        state: the new state.
        tokens: the new tokens; None: the record stays as it is.
    """
    if stored is None:
        return Committed.GONE
    # A commit that failed half-way and is tried again finds its own tokens: that is no rival.
    ours = {read.refresh_jwt} | ({tokens.refresh_jwt} if tokens else set())
    if stored.refresh_jwt not in ours and not _is_older(stored, read, state):
        return Committed.SUPERSEDED
    if tokens is None:
        return stored
    # With another key it is an earlier login's record, and the tokens would not fit it.
    base = stored if stored.dpop_thumbprint == read.dpop_thumbprint else read
    return state.pins.restored_to(base.with_tokens(tokens))


def _is_older(stored: OAuthSession, read: OAuthSession, state: RefreshState) -> bool:
    """Whether somebody has put an older copy back since the session was read."""
    if stored.refresh_token_hash in state.spent:
        return True
    order = order_of(stored, read)
    # Another key may be a login's, which wins: not to be taken for old by a clock that was set back.
    same_key = stored.dpop_thumbprint == read.dpop_thumbprint
    return order is RecordOrder.OLDER or (order is RecordOrder.SEEMS_OLDER and same_key)


def is_as_read(stored: OAuthSession, read: OAuthSession, state: RefreshState) -> bool:
    """Whether the caller of `commit` knew the record as it is stored.

    If not, somebody else's change arrived since, and a watch still has to name it. Pins that
    the caller had put back don't count, nor does a spent token that it knew to replace.
    """
    if stored == read or stored.refresh_jwt != read.refresh_jwt:
        return True
    return state.pins.restored_to(stored) == state.pins.restored_to(read)


def resealed_record(text: str | bytes, *, place: str, did: str, keys: Keys) -> bytes | None:
    """A record with its secrets under the key that seals; None: they are.

    Raises:
        RecordError: it is unreadable.
        SealedError: the keys don't open it.
    """
    if keys.is_sealing_of(decode_record(text, place=place, did=did, keys=AS_STORED)):
        return None
    return encode_record(decode_record(text, place=place, did=did, keys=keys), place=place, keys=keys)


def resealed_state(text: str | bytes | None, did: str, keys: Keys) -> bytes | None:
    """A state with its secrets under the key that seals; None: they are, or it is none that can be read.

    Raises:
        SealedError: the keys don't open it.
    """
    try:
        stored = None if text is None else RefreshState.from_json(text)
    except SessionError:
        return None
    if text is None or stored is None:
        return None
    made = encode_state(keys.open_state(stored, did), did, keys, text)
    return None if made == stored.to_json().encode(errors="backslashreplace") else made
