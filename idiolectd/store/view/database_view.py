"""The view as an SQLite database of its own, with idiolect-oauth's table.

Everything here blocks, and raises `OSError` or `sqlite3.Error`. Commits are not durable (``synchronous=OFF``): all
of it is written anew at the next start. No WAL: a reader needs no right to write then, and no side files.

A reader may hold its lock on the file for ever. After `_PATIENCE` the view moves to a new file of the same name,
which is written whole before it takes the place; whoever holds the old one keeps what it has, and delays nobody.
"""

import os
import secrets
import sqlite3
from collections.abc import Mapping
from contextlib import closing, suppress
from pathlib import Path

from idiolectd.store.access import RecordAccess, secure_file
from idiolectd.store.telling import refusals_place
from idiolectd.store.view.refusals import Refusals

# Seconds that a commit waits for readers: an ordinary one has done after a few milliseconds.
_PATIENCE = 1.0

_TABLE = "CREATE TABLE IF NOT EXISTS sessions (did TEXT PRIMARY KEY NOT NULL, body_json TEXT NOT NULL)"
# Replaces the row, so that what was written last has the highest number.
_PUT = "INSERT OR REPLACE INTO sessions (did, body_json) VALUES (?, ?)"

# Tells a reader what this database is (PRAGMA application_id): "idiV".
APPLICATION_ID = 0x69646956


class DatabaseView:
    """Writes a view.

    Args:
        path: the database; made if it is not there.
        access: who may read it.

    Attributes:
        refusals: where its readers say that a token is refused.
    """

    def __init__(self, path: Path, access: RecordAccess) -> None:
        self.path = path
        self._access = access
        self.refusals = Refusals(refusals_place(path, is_folder=False), access)
        self._connection: sqlite3.Connection | None = None
        self._before = 0

    @property
    def place(self) -> Path:
        """Where it is, for people."""
        return self.path

    def __repr__(self) -> str:
        return f"<DatabaseView {self.path}>"

    def open(self) -> None:
        """Opens the database; makes a new one in the place of a damaged one.

        Raises:
            OSError, sqlite3.Error: it can't be written.
        """
        self.close()
        self.path.parent.mkdir(0o750, parents=True, exist_ok=True)
        try:
            if self.path.exists():
                self._connection = self._opened(self.path)
            else:
                self._move({})  # a reader never meets a database without its table
        except sqlite3.DatabaseError as error:
            if error.sqlite_errorcode not in (sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_CORRUPT):
                raise
            self._move({})
        secure_file(self.path, self._access.now())
        (self._before,) = self._open_one().execute("SELECT coalesce(max(rowid), 0) FROM sessions").fetchone()

    def write(self, entries: Mapping[str, bytes | None]) -> dict[str, str]:
        """As `FolderView.write`; all in one commit.

        Raises:
            OSError, sqlite3.Error: the database can't be written.
        """
        database = self._open_one()
        try:
            _write(database, entries)
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode != sqlite3.SQLITE_BUSY:
                raise
            self._move(entries)
        return {}

    def left_over(self) -> list[str]:
        """The DIDs of entries that were not written since `open`."""
        found = self._open_one().execute("SELECT did FROM sessions WHERE rowid <= ?", [self._before])
        return [did for (did,) in found]

    def close(self) -> None:
        """Closes the database; its entries stay."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def _open_one(self) -> sqlite3.Connection:
        if self._connection is None:
            self.open()
        assert self._connection is not None  # noqa: S101 - `open` has made it
        return self._connection

    def _opened(self, path: Path) -> sqlite3.Connection:
        os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600))
        # One thread at a time uses it, not always the same.
        database = sqlite3.connect(path, timeout=_PATIENCE, isolation_level=None, check_same_thread=False)
        try:
            database.execute("PRAGMA synchronous=OFF")
            database.execute("PRAGMA journal_mode=DELETE")
            if database.execute("PRAGMA application_id").fetchone() != (APPLICATION_ID,):
                database.execute(f"PRAGMA application_id={APPLICATION_ID}")
            database.execute(_TABLE)
        except BaseException:
            database.close()
            raise
        return database

    def _move(self, entries: Mapping[str, bytes | None]) -> None:
        """Puts a new file in the place of the present one, with its entries as far as they can be read."""
        fresh = self.path.with_name(f".idiolectd-{secrets.token_hex(8)}.tmp")
        try:
            with closing(self._opened(fresh)) as database:
                with suppress(sqlite3.Error):
                    if self._connection is not None:
                        self._connection.backup(database)
                _write(database, entries)
            secure_file(fresh, self._access.now())
            self.close()
            fresh.rename(self.path)
        except BaseException:
            with suppress(OSError):
                fresh.unlink()
            raise
        self._connection = self._opened(self.path)


def _write(database: sqlite3.Connection, entries: Mapping[str, bytes | None]) -> None:
    database.execute("BEGIN IMMEDIATE")
    try:
        database.executemany(
            "DELETE FROM sessions WHERE did = ?", [(did,) for did, entry in entries.items() if entry is None]
        )
        database.executemany(
            _PUT, [(did, entry.decode()) for did, entry in entries.items() if entry is not None]
        )
        database.execute("COMMIT")
    except BaseException:
        if database.in_transaction:
            database.execute("ROLLBACK")
        raise
