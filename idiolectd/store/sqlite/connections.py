"""How the SQLite store's connections are opened. Needs asyncio (aiosqlite)."""

import sqlite3
from pathlib import Path
from typing import Any, Literal

import aiosqlite

from idiolectd.errors import StoreError
from idiolectd.store.merge import too_large
from idiolectd.store.sqlite import schema
from idiolectd.store.sqlite.database import HARDEN, TOO_LARGE, Connection, identity_of, uri_of
from idiolectd.store.sqlite.operations import Stored, Value, text_of

Row = tuple[Any, ...]

# Which content a database file had.
Stamp = tuple[int, int, int]


class DatabaseFile:
    """The database file, by path; remembers which file it was when first looked at.

    Attributes:
        path: its real path.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._identity = identity_of(path)

    def stamp(self) -> Stamp | None:
        """What shows that somebody writes; None: somebody has the database open, or had."""
        if any(self.path.with_name(self.path.name + end).exists() for end in ("-wal", "-journal")):
            return None
        found = self.path.stat()
        return found.st_ino, found.st_size, found.st_mtime_ns

    def check_identity(self) -> None:
        """Raises if the file itself is gone: a missing row would then prove nothing.

        Raises:
            StoreError: another file has taken its place.
            OSError: nothing has.
        """
        if identity_of(self.path) != self._identity:
            raise StoreError(f"{self.path} is not the file that was opened; restart to use the new one")

    async def connect(self, mode: Literal["ro", "rw"], *, frozen: bool = False) -> aiosqlite.Connection:
        """Opens a connection. Whoever gets it closes it.

        Args:
            mode: whether it may write.
            frozen: the files are taken as they are, without a lock or a side file: for a database that
                nobody has open.
        """
        # No isolation level: Python would begin transactions by itself.
        connection = await aiosqlite.connect(
            uri_of(self.path, mode, frozen=frozen), uri=True, isolation_level=None, factory=Connection
        )
        try:
            await rows(connection, "PRAGMA busy_timeout = 5000")
            await rows(connection, HARDEN)
        except BaseException:
            await connection.close()
            raise
        return connection


async def rows(connection: aiosqlite.Connection, sql: str, *values: Value) -> list[Row]:
    """Runs one statement and fetches all it gives, in one crossing to the connection's thread."""
    return [tuple(row) for row in await connection.execute_fetchall(sql, values)]


async def stored_in(connection: aiosqlite.Connection, did: str, place: str) -> Stored:
    """Record and state of one DID, of the same moment; of what is too large the fact."""
    try:
        ((record, state),) = await rows(connection, schema.ENTRY, did)
        return Stored(text_of(record), text_of(state))
    except sqlite3.DataError:
        pass  # one of the two: ask for each
    texts: list[bytes | None] = []
    for sql in (schema.LOAD, schema.LOAD_STATE):
        try:
            found = await rows(connection, sql, did)
        except sqlite3.DataError:
            texts.append(TOO_LARGE)
        else:
            texts.append(text_of(found[0][0]) if found else None)
    return Stored(too_large(place, did) if texts[0] is TOO_LARGE else texts[0], texts[1])
