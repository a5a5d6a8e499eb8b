"""Gives a crowd of new sessions their first state: reads them soonest expiry first, and writes many at once.

A program that stored a million sessions before the daemon's first start has left records without any state.
One claim and one commit for each would take hours. So a page of records is read without a lock and planned,
and then written in one transaction, each row only if its record still has the text that was read and still
has no state.

That keeps what the claim is for, that no two writers lose each other's notes: where there is no state, there
is no note. Whoever holds the claim at the same moment and commits first has left a state, so nothing is
written here; if he commits second, his state replaces this one, which says nothing but what the record says.
A note is durable before anything is sent, so no session with a request under way is touched.

Plain sqlite3, in a thread; the writing under the write lock, as of `StoreWriter`.
"""

import sqlite3
from array import array
from collections.abc import Sequence
from pathlib import Path

from idiolectd.errors import RecordError, SealedError
from idiolectd.ports import FirstPlan, NewRecord
from idiolectd.store.record_text import decode_record
from idiolectd.store.sealing import Keys
from idiolectd.store.sqlite import schema
from idiolectd.store.sqlite.columns import did_of, place_of, text_of
from idiolectd.store.sqlite.operations import schedule_columns, state_values


def count_new(connection: sqlite3.Connection) -> int:
    """About how many sessions have no state: two counts, which cost less than a comparison."""
    ((records, states),) = connection.execute(schema.COUNT_BOTH).fetchall()
    return int(records) - int(states)


def order_new(connection: sqlite3.Connection) -> "array[int]":
    """The rows of all sessions without a state, soonest expiry first as far as the records' text shows it.

    Sessions whose text shows no expiry come first: it may have passed. Only the order rests on this; when a
    session is due, its parsed record says. Takes 8 bytes of memory a session.
    """
    return array("q", (rowid for (rowid,) in connection.execute(schema.NEW_BY_EXPIRY)))


def read_new(
    connection: sqlite3.Connection, path: Path, rowids: Sequence[int], keys: Keys
) -> list[NewRecord]:
    """The sessions of these rows that still have no state. Leaves out what is unreadable: the watch names it."""
    marks = ", ".join("?" * len(rowids))
    found = []
    for key, body in connection.execute(schema.NEW_PAGE.format(marks=marks), tuple(rowids)).fetchall():
        did, text = did_of(key), text_of(body)
        if did is None or text is None:
            continue
        try:
            session = decode_record(text, place=place_of(path, did), did=did, keys=keys)
        except (RecordError, SealedError):
            continue
        found.append(NewRecord(session, text))
    return found


def put_first(connection: sqlite3.Connection, plans: Sequence[FirstPlan], keys: Keys) -> list[str]:
    """Writes first states in the running transaction; returns whose were written."""
    written = []
    for plan in plans:
        session = plan.found.session
        # The number of the record's change is read by the statement.
        values = state_values(session, plan.state, schedule_columns(plan.due), change=None, keys=keys)
        if connection.execute(schema.PUT_FIRST_STATE, (*values, plan.found.text.decode())).rowcount == 1:
            written.append(session.did)
    return written
