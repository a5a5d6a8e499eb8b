"""What can be written into the SQLite store, and which statements do it.

Pure: `plan` turns an operation and what is stored now into statements and an answer. The writer runs them in
the same transaction in which it has read what is stored.
"""

from dataclasses import dataclass, field
from typing import NamedTuple

from idiolectd.errors import RecordError
from idiolectd.ports import Committed, ScheduleEntry, StoredCopy
from idiolectd.session import OAuthSession, Tokens, normal_handle
from idiolectd.state import RefreshState, attention
from idiolectd.store.merge import (
    Merged,
    decode_state,
    encode_record,
    encode_state,
    is_as_read,
    merge_commit,
    merge_restore,
    merge_save,
    resealed_record,
    resealed_state,
)
from idiolectd.store.record_text import KnownRecord, decode_record
from idiolectd.store.sealing import Keys
from idiolectd.store.sqlite import schema
from idiolectd.store.sqlite.columns import Value

Statement = tuple[str, tuple[Value, ...]]


@dataclass(frozen=True)
class Save:
    """See `idiolectd.ports.OAuthTokenStore.save`."""

    session: OAuthSession

    @property
    def did(self) -> str:
        """Whose row."""
        return self.session.did


@dataclass(frozen=True)
class Restore:
    """See `idiolectd.ports.SharedStore.restore`."""

    copy: StoredCopy

    @property
    def did(self) -> str:
        """Whose row."""
        return self.copy.did


@dataclass(frozen=True)
class Commit:
    """See `idiolectd.ports.SharedStore.commit`.

    Attributes:
        known: the record as the store last read it, if it has kept that.
    """

    read: OAuthSession
    state: RefreshState
    tokens: Tokens | None
    due: ScheduleEntry | None
    known: KnownRecord | None = None

    @property
    def did(self) -> str:
        """Whose row."""
        return self.read.did


@dataclass(frozen=True)
class Delete:
    """See `idiolectd.ports.OAuthTokenStore.delete`."""

    did: str


@dataclass(frozen=True)
class Forget:
    """See `idiolectd.ports.SharedStore.forget`."""

    did: str


@dataclass(frozen=True)
class Reseal:
    """See `idiolectd.ports.SharedStore.reseal`."""

    did: str


Operation = Save | Restore | Commit | Delete | Forget | Reseal


class StateRow(NamedTuple):
    """What stands beside a state, as a connection of ours hands it out.

    Attributes:
        handle: what the account is called.
        due_at: the due time of the session's schedule entry.
        expires_at: the end of the access token in it.
        server: the server in it.
        last_change: the number of the record's last change; None: none was recorded.
        next_change: the number that the next change of any record gets.
    """

    handle: object
    due_at: object
    expires_at: object
    server: object
    last_change: int | None
    next_change: int

    @property
    def scheduled(self) -> tuple[object, ...]:
        """The schedule entry."""
        return self.due_at, self.expires_at, self.server


@dataclass(frozen=True)
class Stored:
    """A record and its state as they are in the database now; None: there is none.

    A record that SQLite must not hand out, because it is too large, is the error that says so.

    Attributes:
        record: the record's text.
        state: the state's text.
        row: how the state's row stands, for whoever writes it; None: not known.
    """

    record: bytes | RecordError | None = field(repr=False)
    state: bytes | None = field(repr=False)
    row: "StateRow | None" = None

    def session(
        self, place: str, did: str, keys: Keys, known: KnownRecord | None = None
    ) -> OAuthSession | None:
        """The record, read.

        Raises:
            RecordError: there is one, and it is unreadable.
            SealedError: there is one, and the keys don't open it.
        """
        if isinstance(self.record, RecordError):
            raise self.record
        if known is not None and known.text == self.record:
            return known.session
        if self.record is None:
            return None
        return decode_record(self.record, place=place, did=did, keys=keys)


@dataclass(frozen=True)
class PlannedWrite:
    """What to do for one operation.

    Attributes:
        did: whose.
        statements: to be run in this order, or not at all.
        answer: what the caller of the store gets.
        own_news: the number of the record's change, if whoever waits for this answer knows all about it: no
            watch of this process need name it.
    """

    did: str
    statements: tuple[Statement, ...] = field(repr=False)
    answer: Committed = Committed.DONE
    own_news: int | None = None


def plan(operation: Operation, stored: Stored, place: str, now: float, keys: Keys) -> PlannedWrite:
    """Decides what an operation does.

    Args:
        operation: what is asked.
        stored: what is there, read in the same transaction.
        place: the row, for messages.
        now: seconds since the epoch.
        keys: seal and open secrets.

    Raises:
        RecordError: the record that is there, or the one to be stored, is unreadable.
        SealedError: the keys don't open what is there.
    """
    did = operation.did
    match operation:
        case Delete():
            return PlannedWrite(did, ((schema.DELETE_RECORD, (did,)), (schema.DELETE_STATE, (did,))))
        case Save(session):
            state = decode_state(stored.state, now, did=did, keys=keys)
            merged = merge_save(session, _readable(stored, place, did, keys), state, now)
            return _put(merged, place, keys)
        case Restore(copy):
            state = decode_state(stored.state, now, did=did, keys=keys)
            restored = merge_restore(copy, _readable(stored, place, did, keys), state, now, keys)
            if restored is None:
                return PlannedWrite(did, (), Committed.SUPERSEDED)
            return _put(restored, place, keys)
        case Forget():
            # An unreadable record is one, too.
            if stored.record is not None:
                return PlannedWrite(did, ())
            return PlannedWrite(did, ((schema.DELETE_STATE, (did,)),), answer=Committed.GONE)
        case Reseal():
            return _reseal(did, stored, place, keys)
        case Commit(read, state, tokens, due, known):
            found = stored.session(place, did, keys, known)
            outcome = merge_commit(found, read, state, tokens)
            if found is None or isinstance(outcome, Committed):
                return PlannedWrite(
                    did, (), answer=outcome if isinstance(outcome, Committed) else Committed.GONE
                )
            as_read = is_as_read(found, read, state)
            if tokens is None:
                change = _last_change(stored, as_read)
                return PlannedWrite(did, (_put_state(outcome, state, due, stored, change, keys),))
            # The state first, with the number that the record's change will get: see `schema`.
            change = stored.row.next_change if as_read and stored.row is not None else None
            put_state = _put_state(outcome, state, due, stored, change, keys)
            record = encode_record(outcome, place=place, keys=keys).decode()
            return PlannedWrite(did, (put_state, (schema.PUT_RECORD, (did, record))), own_news=change)


def _reseal(did: str, stored: Stored, place: str, keys: Keys) -> PlannedWrite:
    if isinstance(stored.record, RecordError):
        raise stored.record
    statements: list[Statement] = []
    state = resealed_state(stored.state, did, keys)
    if state is not None:
        statements.append((schema.RESEAL_STATE, (state.decode(), did)))
    record = (
        None if stored.record is None else resealed_record(stored.record, place=place, did=did, keys=keys)
    )
    if record is not None:
        statements.append((schema.PUT_RECORD, (did, record.decode())))
    return PlannedWrite(did, tuple(statements), Committed.GONE if stored.record is None else Committed.DONE)


def _put(merged: Merged, place: str, keys: Keys) -> PlannedWrite:
    """Puts record and state, as a save does."""
    did = merged.session.did
    record = encode_record(merged.session, place=place, keys=keys).decode()
    put_sql = schema.PUT_STATE_KEEPING_SCHEDULE if merged.keeps_entry else schema.PUT_STATE
    values = state_values(
        merged.session, merged.state, schedule_columns(merged.entry), change=None, keys=keys
    )
    return PlannedWrite(did, ((schema.PUT_RECORD, (did, record)), (put_sql, values)))


def _last_change(stored: Stored, as_read: bool) -> int | None:
    """For which change of the record its schedule entry is made; None: somebody else's was not looked at yet."""
    if not as_read or stored.row is None:
        return None
    return stored.row.last_change or 0


def _readable(stored: Stored, place: str, did: str, keys: Keys) -> OAuthSession | None:
    # A login mends a damaged record.
    try:
        return stored.session(place, did, keys)
    except RecordError:
        return None


def state_values(
    session: OAuthSession,
    state: RefreshState,
    scheduled: tuple[Value, Value, Value],
    *,
    change: int | None,
    keys: Keys,
) -> tuple[Value, ...]:
    """The values of the statements that put a state.

    Args:
        session: the record as it will be.
        state: the state.
        scheduled: due time, end of the access token, server; each None: no entry in the schedule.
        change: the number of the record's change that the entry was made for; None: it can't be relied on.
        keys: seal what holds tokens.
    """
    text = encode_state(state, session.did, keys).decode()
    return session.did, text, attention(state), change, normal_handle(session.known_as or ""), *scheduled


def _put_state(
    session: OAuthSession,
    state: RefreshState,
    due: ScheduleEntry | None,
    stored: Stored,
    change: int | None,
    keys: Keys,
) -> Statement:
    values = state_values(session, state, schedule_columns(due), change=change, keys=keys)
    row = stored.row
    handle = values[4]
    if stored.state is None or row is None or not isinstance(handle, str) or row.handle != handle.encode():
        return schema.PUT_STATE, values
    if row.scheduled == _scheduled(due):
        return schema.UPDATE_STATE, (*values[1:4], values[0])
    return schema.UPDATE_STATE_AND_SCHEDULE, (*values[1:4], *values[5:], values[0])


def schedule_columns(due: ScheduleEntry | None) -> tuple[Value, Value, Value]:
    """The columns of an entry in the schedule, as `state_values` takes them."""
    return (None, None, None) if due is None else (due.at, due.expires_at, due.server)


def _scheduled(due: ScheduleEntry | None) -> tuple[object, ...]:
    """The columns of the schedule as a connection of ours hands them out."""
    return (None, None, None) if due is None else (due.at, due.expires_at, due.server.encode())
