"""Reads all sessions of a database as they lie there, for a backup."""

import sqlite3

from idiolectd.ports import StoredCopy
from idiolectd.store.sqlite import schema
from idiolectd.store.sqlite.columns import did_of, text_of
from idiolectd.store.sqlite.database import Row

_PAGE = 500


def copied_rows(connection: sqlite3.Connection, after: int) -> list[Row]:
    """The next rows behind this one; empty: there are no more.

    Raises:
        sqlite3.DataError: a record is larger than any session.
    """
    return connection.execute(schema.COPIES, (after, _PAGE)).fetchall()


def copy_of(row: Row) -> StoredCopy | None:
    """The session of a row; None: its key is no DID, so it is none."""
    _, key, record, state = row
    did = did_of(key)
    return None if did is None else StoredCopy(did, text_of(record) or b"", text_of(state))
