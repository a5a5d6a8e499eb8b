"""The writing side of the SQLite store. Needs asyncio (aiosqlite).

Operations that wait together share one durable transaction, a SAVEPOINT each. All of it, and the
checkpoints that SQLite makes inside, runs under the store's write lock: SQLite before 3.51.3 has a
rare bug (https://www.sqlite.org/wal.html) when two connections write or checkpoint at one moment.

After whatever fails the connection is thrown away: the next transaction opens a new one. Errors of
single operations are answers; those of the whole are raised as sqlite3 raises them.
"""

import asyncio
import os
import sqlite3
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path

import aiosqlite

from idiolectd.clock import Clock
from idiolectd.errors import RecordError, StoreError
from idiolectd.ports import Committed
from idiolectd.store.access import RecordAccess
from idiolectd.store.durable import remove
from idiolectd.store.format import FORMAT, FORMAT_NEEDS, check_format
from idiolectd.store.sqlite import carry_over, schema
from idiolectd.store.sqlite.connections import DatabaseFile, RefusalRule, rows, stored_in
from idiolectd.store.sqlite.database import uri_of
from idiolectd.store.sqlite.operations import (
    Operation,
    SetSchedule,
    Statement,
    Stored,
    gathered,
    place_of,
    plan,
    text_of,
)

# A reader that stays in one transaction makes the WAL grow. Afterwards it is cut back to this: a little
# more than SQLite's own checkpoints let it become.
_WAL_LIMIT = 8 * 1024 * 1024

Answer = Committed | RecordError | sqlite3.Error


class StoreWriter:
    """Writes one database; for one asyncio loop.

    Args:
        file: the database.
        access: who may read it.
        clock: where the time comes from.
        own_change: told the DID and sequence number of changes that no look-out need name.
        undone: told that such changes were taken back, and their numbers may be given to others.

    Attributes:
        was_open: whether it ever held the database's files: what it wrote may be known here only, also
            when something failed since and its connection is closed.
    """

    def __init__(
        self,
        file: DatabaseFile,
        access: RecordAccess,
        clock: Clock,
        *,
        own_change: Callable[[str, int], None],
        undone: Callable[[], None],
    ) -> None:
        self._file = file
        self._access = access
        self._clock = clock
        self._own_change = own_change
        self._undone = undone
        self.was_open = False
        self._connection: aiosqlite.Connection | None = None
        self._schema_version: int | None = None
        # What was seen through files that are gone, attached until it is carried over.
        self._copy: Path | None = None
        self._carried = 0

    async def apply(self, operations: Sequence[Operation]) -> list[Answer]:
        """Does operations in one durable transaction; one that fails by itself hurts no other.

        Without any it still sees to it that the tables are there.

        Returns:
            what became of each.
        """
        self._file.check()
        try:
            connection = self._connection or await self._connect()
            await rows(connection, "BEGIN IMMEDIATE")
            await self._ensure_schema(connection)
            await self._carry_over(connection)
            answers = await self._apply_together(connection, operations)
            if answers is None:
                answers = [await self._apply_one(connection, operation) for operation in operations]
            await rows(connection, "COMMIT")
            self._file.check()  # a commit into files that were removed meanwhile is none
            await self._drop_copy(connection)
        except BaseException:
            self._undone()
            await self.close()
            raise
        return answers

    async def leave(self) -> None:
        """Closes the connection to a database that another one has replaced; what its log holds goes into it.

        Somebody may put it back, and the log lies beside the other database: emptied it means nothing there.
        """
        if self._connection is not None:
            with suppress(sqlite3.Error):
                await rows(self._connection, "PRAGMA wal_checkpoint(TRUNCATE)")
        await self.close()

    @property
    def is_open(self) -> bool:
        """Whether it holds the database's files."""
        return self._connection is not None

    def take_carried(self) -> int:
        """How many sessions were carried over since this was last asked."""
        carried, self._carried = self._carried, 0
        return carried

    async def close(self) -> None:
        """Closes the connection, with it an unfinished transaction; harmless when there is none."""
        connection, self._connection, self._schema_version = self._connection, None, None
        self._copy = None
        if connection is not None:
            with suppress(sqlite3.Error):
                await connection.close()

    async def _connect(self) -> aiosqlite.Connection:
        self._connection = connection = await self._file.connect("rw")
        self.was_open = True
        ((mode,),) = await rows(connection, "PRAGMA journal_mode = WAL")
        if mode != b"wal":
            raise StoreError(f"{self._file.path} can't be switched to WAL mode; put it on a local disk")
        await rows(connection, "PRAGMA synchronous = FULL")  # NORMAL may lose commits at a power cut
        await rows(connection, f"PRAGMA journal_size_limit = {_WAL_LIMIT}")
        await rows(connection, "SELECT count(*) FROM sqlite_master")  # makes the side files
        self._file.check()
        self.secure()
        for copy in carry_over.places(self._file.path):
            if copy.exists():
                # The tables first: a name that is missing here would be taken for the copy's.
                await rows(connection, "BEGIN IMMEDIATE")
                await self._ensure_schema(connection)
                await rows(connection, "COMMIT")
                await rows(connection, "ATTACH ? AS kept", uri_of(copy, "ro", frozen=True))
                self._copy = copy
                break
        return connection

    async def _carry_over(self, connection: aiosqlite.Connection) -> None:
        if self._copy is not None:
            self._carried += await carry_over.bring(
                connection, self._file.path, self._copy, self._clock.now()
            )

    async def _drop_copy(self, connection: aiosqlite.Connection) -> None:
        copy, self._copy = self._copy, None
        if copy is not None:
            await rows(connection, "DETACH kept")
            remove(copy)

    def secure(self) -> None:
        """Gives the files the permissions of `store.group` as it is now, or of none."""
        # By path: opening the files here would drop SQLite's locks when they are closed.
        access = self._access.now()
        for suffix in ("", "-wal", "-shm"):
            path = self._file.path.with_name(self._file.path.name + suffix)
            with suppress(FileNotFoundError):
                found = path.stat()
                if found.st_uid != os.geteuid():
                    continue  # its owner's business
                if access.gid not in (None, found.st_gid):
                    os.chown(path, -1, access.gid)
                if found.st_mode & 0o777 != access.mode:
                    path.chmod(access.mode)

    async def try_to_write(self) -> None:
        """Writes something durably, and takes it back as durably: what can fail at a deletion fails here."""
        self._file.check()
        try:
            connection = self._connection or await self._connect()
            for sql in (schema.TRY_TO_WRITE, schema.TRIED_TO_WRITE):
                await rows(connection, "BEGIN IMMEDIATE")
                await self._ensure_schema(connection)
                await rows(connection, sql)
                await rows(connection, "COMMIT")
        except BaseException:
            await self.close()
            raise

    async def _ensure_schema(self, connection: aiosqlite.Connection) -> None:
        ((version,),) = await rows(connection, "PRAGMA schema_version")
        if version == self._schema_version:
            return
        found = {name.decode(): sql for name, sql in await rows(connection, schema.FIND_OURS)}
        if schema.FORMAT_TABLE in found:
            for format_version, needs in await rows(connection, schema.LOAD_FORMAT):
                check_format(format_version, needs, self._file.path)
        if not found.keys() >= schema.OURS or any(
            found[name] != sql.encode() for name, sql in schema.TRIGGERS.items()
        ):
            for sql in schema.TABLES:
                await rows(connection, sql)
            for name, sql in schema.TRIGGERS.items():
                await rows(connection, f"DROP TRIGGER IF EXISTS {name}")
                await rows(connection, sql)
            for table in schema.RESCANNED:
                ((first, last),) = await rows(connection, schema.ROWIDS.format(table=table))
                if first is not None:
                    await self._rescan(connection, table, first, last)
            await rows(connection, schema.FORGET_LINES)
        if schema.FORMAT_TABLE not in found:
            await rows(connection, schema.MAKE_FORMAT)
            await rows(connection, schema.PUT_FORMAT, FORMAT, FORMAT_NEEDS)
        ((self._schema_version,),) = await rows(connection, "PRAGMA schema_version")

    async def _rescan(self, connection: aiosqlite.Connection, table: str, first: int, last: int) -> None:
        """Enters the rows of a table as changed, except those whose key is too large to be a DID."""
        try:
            await rows(connection, schema.RESCAN.format(table=table), first, last)
        except sqlite3.DataError:
            if first < last:
                middle = (first + last) // 2
                await self._rescan(connection, table, first, middle)
                await self._rescan(connection, table, middle + 1, last)

    async def _apply_together(
        self, connection: aiosqlite.Connection, operations: Sequence[Operation]
    ) -> list[Answer] | None:
        """Applies operations on different DIDs with as few crossings to the thread as can be.

        Returns:
            None if any needs an answer of SQLite's own: then nothing has happened, and each must be
            applied by itself.
        """
        dids = {operation.did for operation in operations}
        if len(dids) < max(2, len(operations)):
            return None
        try:
            found = await rows(connection, _marked(schema.ENTRIES, "(?)", len(dids)), *dids)
        except sqlite3.DataError:  # a row that is too large
            return None
        stored = {did.decode(): Stored(text_of(record), text_of(state)) for did, record, state in found}
        answers = [self._planned(operation, stored[operation.did]) for operation in operations]
        plans = [answer for answer in answers if isinstance(answer, SetSchedule)]
        await rows(connection, "SAVEPOINT together")
        try:
            for sql, values in gathered(plans):
                await connection.executemany(sql, values)
        except sqlite3.Error:
            if not connection.in_transaction:
                raise
            await rows(connection, "ROLLBACK TO together")
            return None
        finally:
            if connection.in_transaction:
                await rows(connection, "RELEASE together")
        unreported = [plan.did for plan in plans if plan.unreported]
        if unreported:
            sql = _marked(schema.SEQUENCES, "?", len(unreported))
            for did, seq in await rows(connection, sql, *unreported):
                self._own_change(did.decode(), seq)
        return [answer.answer if isinstance(answer, SetSchedule) else answer for answer in answers]

    def _planned(self, operation: Operation, stored: Stored) -> SetSchedule | RecordError:
        place = place_of(self._file.path, operation.did)
        try:
            return plan(operation, stored, place, self._clock.now())
        except RecordError as error:
            return error

    async def _apply_one(self, connection: aiosqlite.Connection, operation: Operation) -> Answer:
        did = operation.did
        stored = await stored_in(connection, did, place_of(self._file.path, did))
        todo = self._planned(operation, stored)
        if isinstance(todo, RecordError):
            return todo
        if not todo.statements:
            return todo.answer
        failed = await self._run(connection, todo)
        if failed is not None:
            return failed
        if todo.unreported:
            ((seq,),) = await rows(connection, schema.SEQUENCE, did)
            self._own_change(did, seq)
        return todo.answer

    async def _run(self, connection: aiosqlite.Connection, todo: SetSchedule) -> sqlite3.Error | None:
        """Runs all of an operation's statements, or none."""
        # Handed over together, so that the thread need not wait for us between them.
        statements: list[Statement] = [("SAVEPOINT operation", ()), *todo.statements]
        results: list[list[RefusalRule] | BaseException] = await asyncio.gather(
            *(rows(connection, sql, *values) for sql, values in statements), return_exceptions=True
        )
        failed = next((result for result in results if isinstance(result, BaseException)), None)
        if failed is not None:
            if not isinstance(failed, sqlite3.Error) or not connection.in_transaction:
                raise failed  # SQLite has rolled everything back (a full disk, say): nobody's is done
            await rows(connection, "ROLLBACK TO operation")
        await rows(connection, "RELEASE operation")
        return failed


def _marked(sql: str, mark: str, count: int) -> str:
    return sql.format(marks=", ".join([mark] * count))
