"""What can be written into the SQLite store, and which statements do it.

Pure: `plan` turns an operation and what is stored now into statements and an answer. Running them,
and that nothing changes in between, is the database's business.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from idiolectd.did import parse_did
from idiolectd.errors import DidError, RecordError
from idiolectd.ports import Committed, ScheduleEntry
from idiolectd.session import OAuthSession, Tokens
from idiolectd.state import RefreshState
from idiolectd.store.merge import (
    decode_record,
    decode_state,
    encode_record,
    is_as_read,
    merge_commit,
    merge_save,
)
from idiolectd.store.sqlite import schema

Value = str | bytes | float | int | None
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
class Commit:
    """See `idiolectd.ports.SharedStore.commit`."""

    read: OAuthSession
    state: RefreshState
    tokens: Tokens | None
    due: ScheduleEntry | None

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


Operation = Save | Commit | Delete | Forget


@dataclass(frozen=True)
class Stored:
    """A record and its state as they are in the database now; None: there is none.

    A record that SQLite must not hand out, because it is too large, is the error that says so.
    """

    record: bytes | RecordError | None = field(repr=False)
    state: bytes | None = field(repr=False)

    def session(self, place: str, did: str) -> OAuthSession | None:
        """The record, read.

        Raises:
            RecordError: there is one, and it is unreadable.
        """
        if isinstance(self.record, RecordError):
            raise self.record
        return None if self.record is None else decode_record(self.record, place=place, did=did)


@dataclass(frozen=True)
class SetSchedule:
    """What to do for one operation.

    Attributes:
        did: whose.
        statements: to be run in this order, or not at all.
        answer: what the caller of the store gets.
        unreported: the record's change is our own news, and no look-out need name it.
    """

    did: str
    statements: tuple[Statement, ...] = field(repr=False)
    answer: Committed = Committed.DONE
    unreported: bool = False


def plan(operation: Operation, stored: Stored, place: str, now: float) -> SetSchedule:
    """Decides what an operation does.

    Args:
        operation: what is asked.
        stored: what is there, read in the same transaction.
        place: the row, for messages.
        now: seconds since the epoch.

    Raises:
        RecordError: the record that is there, or the one to be stored, is unreadable.
    """
    did = operation.did
    match operation:
        case Delete():
            return SetSchedule(did, ((schema.DELETE_RECORD, (did,)), (schema.DELETE_STATE, (did,))))
        case Save(session):
            merged = merge_save(session, _readable(stored, place, did), decode_state(stored.state, now), now)
            record = encode_record(merged.session, place=place).decode()
            put_line = schema.PUT_STATE_KEEPING_LINE if merged.keeps_entry else schema.PUT_STATE_STALE
            values = _state_values(did, merged.state, merged.entry)
            return SetSchedule(did, ((schema.PUT_RECORD, (did, record)), (put_line, values)))
        case Forget():
            # An unreadable record is one, too.
            if stored.record is not None:
                return SetSchedule(did, ())
            return SetSchedule(did, ((schema.DELETE_STATE, (did,)),), answer=Committed.GONE)
        case Commit(read, state, tokens, due):
            found = stored.session(place, did)
            outcome = merge_commit(found, read, state, tokens)
            if found is None or isinstance(outcome, Committed):
                return SetSchedule(
                    did, (), answer=outcome if isinstance(outcome, Committed) else Committed.GONE
                )
            as_read = is_as_read(found, read, state)
            put_state = _put_state(did, state, due, stale=not as_read)
            if tokens is None:
                return SetSchedule(did, (put_state,))
            record = encode_record(outcome, place=place).decode()
            return SetSchedule(did, ((schema.PUT_RECORD, (did, record)), put_state), unreported=as_read)


def gathered(plans: Sequence[SetSchedule]) -> list[tuple[str, list[tuple[Value, ...]]]]:
    """The statements of many operations, equal ones together, for operations on different DIDs.

    All first statements come before all second ones: within each operation the order stays.
    """
    together: dict[tuple[int, str], list[tuple[Value, ...]]] = {}
    for one in plans:
        for position, (sql, values) in enumerate(one.statements):
            together.setdefault((position, sql), []).append(values)
    return [(sql, values) for (_, sql), values in sorted(together.items(), key=lambda item: item[0][0])]


def place_of(database: Path, did: str) -> str:
    """How messages name a row."""
    return f"{database}, table sessions, {did}"


def text_of(value: object) -> bytes | None:
    """A column as it comes from a connection that hands out text as bytes; None: missing.

    What is neither text nor bytes (SQLite takes anything anywhere) becomes unreadable text.
    """
    return value if value is None or isinstance(value, bytes) else b""


def did_of(key: object) -> str | None:
    """The DID of a row; None: foreign programs may have stored anything as a key, which is none of ours."""
    text = text_of(key)
    try:
        return None if text is None else parse_did(text.decode("ascii", "replace"))
    except DidError:
        return None


def _readable(stored: Stored, place: str, did: str) -> OAuthSession | None:
    # A login mends a damaged record.
    try:
        return stored.session(place, did)
    except RecordError:
        return None


def _put_state(did: str, state: RefreshState, due: ScheduleEntry | None, *, stale: bool) -> Statement:
    return schema.PUT_STATE_STALE if stale else schema.PUT_STATE, _state_values(did, state, due)


def _state_values(did: str, state: RefreshState, due: ScheduleEntry | None) -> tuple[Value, ...]:
    entry = (None, None, None) if due is None else (due.at, due.expires_at, due.server)
    return did, state.to_json().encode(errors="backslashreplace").decode(), *entry
