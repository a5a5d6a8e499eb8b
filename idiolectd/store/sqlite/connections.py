"""How the SQLite store's connections are opened. Needs asyncio (aiosqlite)."""

import sqlite3
from pathlib import Path
from typing import Any, Literal

import aiosqlite

from idiolectd.errors import StoreError
from idiolectd.store.durable import remove
from idiolectd.store.merge import too_large
from idiolectd.store.sqlite import schema
from idiolectd.store.sqlite.database import (
    HARDEN,
    TOO_LARGE,
    Connection,
    Files,
    holds_removed_files,
    uri_of,
)
from idiolectd.store.sqlite.operations import Stored, Value, text_of

RefusalRule = tuple[Any, ...]

# Which content a database file had.
Stamp = tuple[int, int, int]


class Replaced(StoreError):
    """The files that connections hold open are not those at the database's path any more.

    What is read through them is out of date, and what is written goes nowhere: open them anew.
    """


class DatabaseFile:
    """The database, by path; knows which files its connections hold open.

    Attributes:
        path: its real path.
        generation: how often another database has taken its place.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.generation = 0
        self._files = Files.of(path)

    def stamp(self) -> Stamp | None:
        """What shows that somebody writes; None: somebody has the database open, or had."""
        if any(self.path.with_name(self.path.name + end).exists() for end in ("-wal", "-journal")):
            return None
        found = self.path.stat()
        return found.st_ino, found.st_size, found.st_mtime_ns

    def check(self) -> None:
        """Makes sure that the files held open are those at the path. By path: see `database`.

        Raises:
            Replaced: they are not.
            OSError: there is no database now.
        """
        now = Files.of(self.path)
        lost = self._files.lost_to(now)
        if lost is not None:
            raise Replaced(f"{self.path}: {lost} while it was open")
        self._files = now

    def is_another(self) -> bool:
        """Whether another database has taken its place, not only side files of it.

        Raises:
            OSError: there is none now.
        """
        return Files.of(self.path).main != self._files.main

    def renew(self) -> None:
        """From now on the files that are at the path count: nobody holds the others any more.

        Raises:
            OSError: there is no database now.
            StoreError: somebody does.
        """
        if self.is_another():
            self.generation += 1
        else:
            self._check_let_go()
        self._files = Files.of(self.path)

    async def begin_new_log(self) -> None:
        """Moves the log into the database and leaves its file, when side files were removed.

        A foreign program may still have the removed index of this log. It would write over what others
        add: nobody sees that while they run, but whoever opens the database afterwards finds a broken log
        and ignores the rest of it. What it writes from now on goes into a file that nobody reads, as with
        a log that was removed. Under the write lock, when no connection of ours is open.

        Raises:
            OSError, sqlite3.Error: there is no database now, or it can't be written.
            StoreError: this process still holds removed files.
        """
        self._check_let_go()
        connection = await self.connect("rw")
        try:
            ((busy, *_),) = await rows(connection, "PRAGMA wal_checkpoint(TRUNCATE)")
            if not busy:  # else somebody reads or writes here: he has the present index
                for suffix in ("-wal", "-shm"):
                    remove(self.path.with_name(self.path.name + suffix))
        finally:
            await connection.close()

    def _check_let_go(self) -> None:
        if holds_removed_files(self.path):
            raise StoreError(
                f"{self.path}: another part of this program still uses side files that were removed; try again"
            )

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


async def rows(connection: aiosqlite.Connection, sql: str, *values: Value) -> list[RefusalRule]:
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
