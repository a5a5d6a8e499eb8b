"""Writes an SQLite store. Needs asyncio (aiosqlite).

A group of operations is one durable transaction, and crosses to aiosqlite's thread once: from BEGIN to
COMMIT everything here is plain sqlite3, called there. An operation of several statements has a SAVEPOINT of
its own, so that one that fails hurts no other. All of it, and the checkpoints that SQLite makes inside, runs
under the store's write lock: SQLite before 3.51.3 has a rare bug (https://www.sqlite.org/wal.html) when two
connections write or checkpoint at one moment.

After whatever fails the connection is thrown away: the next transaction opens a new one. Errors of
single operations are answers; those of the whole are raised as sqlite3 raises them.
"""

import os
import sqlite3
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TypeVar, TypeVarTuple

import aiosqlite

from idiolectd.clock import Clock
from idiolectd.errors import RecordError, SealedError, StoreError
from idiolectd.ports import Committed, FirstPlan
from idiolectd.store.access import RecordAccess
from idiolectd.store.durable import remove
from idiolectd.store.format import check_format, format_to_write
from idiolectd.store.sealing import NO_KEYS, Keys
from idiolectd.store.sqlite import adoption, carry_over, schema
from idiolectd.store.sqlite.columns import did_of, place_of
from idiolectd.store.sqlite.database import BUSY_TIMEOUT, DatabaseFile, Row, connect, uri_of
from idiolectd.store.sqlite.operations import Operation, PlannedWrite, plan
from idiolectd.store.sqlite.reader import stored_in

T = TypeVar("T")
Ts = TypeVarTuple("Ts")

# A reader that stays in one transaction makes the WAL grow. Afterwards it is cut back to this: a little
# more than SQLite's own checkpoints let it become.
_WAL_LIMIT = 8 * 1024 * 1024

# How many rows one step of the search looks at, while others wait to write: at most some tenths of a second's work.
_SEARCHED_AT_ONCE = 10_000

Answer = Committed | RecordError | SealedError | sqlite3.Error


@dataclass(frozen=True)
class Applied:
    """What became of a transaction.

    Attributes:
        answers: one for each operation.
        own_news: DID and sequence number of the changes that no watch of this process need name.
    """

    answers: list[Answer] = field(default_factory=list)
    own_news: dict[str, int] = field(default_factory=dict)


class _WriteConnection(aiosqlite.Connection):
    """aiosqlite's connection, for whole functions."""

    async def run(self, work: Callable[[sqlite3.Connection, *Ts], T], *args: *Ts) -> T:
        """Calls `work(connection, *args)` in the connection's thread: one crossing, whatever it executes."""
        done: T = await self._execute(work, self._conn, *args)  # type: ignore[no-untyped-call]
        return done


class StoreWriter:
    """Writes one database; for one asyncio loop.

    Args:
        file: the database.
        access: who may read it.
        clock: where the time comes from.
        keys: seal and open secrets.

    Attributes:
        was_open: whether it ever held the database's files: what it wrote may be known here only, also
            when something failed since and its connection is closed.
    """

    def __init__(self, file: DatabaseFile, access: RecordAccess, clock: Clock, keys: Keys = NO_KEYS) -> None:
        self._file = file
        self._access = access
        self._clock = clock
        self._keys = keys
        self.was_open = False
        self._connection: _WriteConnection | None = None
        self._schema_version: int | None = None
        # What was seen through files that are gone, attached until it is carried over.
        self._copy: Path | None = None
        self._carried = 0

    async def apply(self, operations: Sequence[Operation]) -> Applied:
        """Does operations in one durable transaction; one that fails by itself hurts no other.

        Without any it still sees to it that the tables are there.
        """
        return await self._do(self._transact, operations)

    async def put_first(self, plans: Sequence[FirstPlan]) -> list[str]:
        """Writes many first states in one durable transaction; returns whose were written."""
        return await self._do(self._put_first, plans)

    async def search(self) -> list[str] | None:
        """Looks at the next rows for sessions that no list names, and lists them.

        Returns:
            Which they are; None: all rows have been looked at.
        """
        return await self._do(self._search)

    async def try_to_write(self) -> None:
        """Writes something durably, and takes it back as durably: what can fail at a deletion fails here."""
        await self._do(self._write_and_take_back)

    async def leave(self) -> None:
        """Closes the connection to a database that another one has replaced; what its log holds goes into it.

        Somebody may put it back, and the log lies beside the other database: emptied it means nothing there.
        """
        if self._connection is not None:
            with suppress(sqlite3.Error):
                await self._connection.run(_empty_log)
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

    async def _do(self, work: Callable[[sqlite3.Connection, *Ts], T], *args: *Ts) -> T:
        self._file.check()
        try:
            connection = self._connection or await self._connect()
            return await connection.run(work, *args)
        except BaseException:
            await self.close()
            raise

    async def _connect(self) -> _WriteConnection:
        opening = partial(connect, self._file.path, "rw", timeout=BUSY_TIMEOUT)
        connection = _WriteConnection(opening, iter_chunk_size=64)
        await connection
        self._connection = connection
        self.was_open = True
        await connection.run(self._set_up)
        return connection

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

    # In the connection's thread --------------------------------------------------------------

    def _set_up(self, connection: sqlite3.Connection) -> None:
        ((mode,),) = connection.execute("PRAGMA journal_mode = WAL").fetchall()
        if mode != b"wal":
            raise StoreError(f"{self._file.path} can't be switched to WAL mode; put it on a local disk")
        connection.execute("PRAGMA synchronous = FULL")  # NORMAL may lose commits at a power cut
        if self._keys.sealing is not None:
            # What was clear must not stay in unused parts of the file.
            connection.execute("PRAGMA secure_delete = ON").fetchall()
        connection.execute(f"PRAGMA journal_size_limit = {_WAL_LIMIT}").fetchall()
        connection.execute("SELECT count(*) FROM sqlite_master").fetchall()  # makes the side files
        self._file.check()
        self.secure()
        for copy in carry_over.places(self._file.path):
            if copy.exists():
                # The tables first: a name that is missing here would be taken for the copy's.
                connection.execute("BEGIN IMMEDIATE")
                self._ensure_schema(connection)
                connection.execute("COMMIT")
                connection.execute("ATTACH ? AS kept", (uri_of(copy, "ro", frozen=True),))
                self._copy = copy
                break

    def _transact(self, connection: sqlite3.Connection, operations: Sequence[Operation]) -> Applied:
        applied = Applied()
        connection.execute("BEGIN IMMEDIATE")
        self._ensure_schema(connection)
        if self._copy is not None:
            self._carried += carry_over.bring(
                connection, self._file.path, self._copy, self._clock.now(), self._keys
            )
        for operation in operations:
            applied.answers.append(self._apply_one(connection, operation, applied.own_news))
        connection.execute("COMMIT")
        self._file.check()  # a commit into files that were removed meanwhile is none
        copy, self._copy = self._copy, None
        if copy is not None:
            connection.execute("DETACH kept")
            remove(copy)
        return applied

    def _apply_one(
        self, connection: sqlite3.Connection, operation: Operation, own_news: dict[str, int]
    ) -> Answer:
        did = operation.did
        place = place_of(self._file.path, did)
        try:
            stored = stored_in(connection, did, place, to_write=True)
            planned = plan(operation, stored, place, self._clock.now(), self._keys)
            _run(connection, planned)
        except (RecordError, SealedError) as error:
            return error
        except sqlite3.Error as error:
            if not connection.in_transaction:
                raise  # SQLite has rolled everything back (a full disk, say): nobody's is done
            return error
        if planned.own_news is not None:
            own_news[did] = planned.own_news
        return planned.answer

    def _put_first(self, connection: sqlite3.Connection, plans: Sequence[FirstPlan]) -> list[str]:
        connection.execute("BEGIN IMMEDIATE")
        self._ensure_schema(connection)
        written = adoption.put_first(connection, plans, self._keys)
        connection.execute("COMMIT")
        self._file.check()
        return written

    def _search(self, connection: sqlite3.Connection) -> list[str] | None:
        connection.execute("BEGIN IMMEDIATE")
        self._ensure_schema(connection)
        ((after,),) = connection.execute(schema.SEARCHED).fetchall()
        found = None
        if after is not None:
            ((last,),) = connection.execute(schema.NEXT_ROWS, (after, _SEARCHED_AT_ONCE)).fetchall()
            connection.execute(schema.END_SEARCH)
            if last is not None:
                connection.execute(schema.BEGIN_SEARCH, (last,))
                keys = _unlisted(connection, after, last)
            else:
                keys = connection.execute(schema.SEARCH_GONE).fetchall()
            connection.executemany(schema.ADD_UNSEEN, keys)
            found = [did for (key,) in keys if (did := did_of(key)) is not None]
        connection.execute("COMMIT")
        self._file.check()
        return found

    def _write_and_take_back(self, connection: sqlite3.Connection) -> None:
        for sql in (schema.TRY_TO_WRITE, schema.TRIED_TO_WRITE):
            connection.execute("BEGIN IMMEDIATE")
            self._ensure_schema(connection)
            connection.execute(sql)
            connection.execute("COMMIT")

    def _ensure_schema(self, connection: sqlite3.Connection) -> None:
        ((version,),) = connection.execute("PRAGMA schema_version").fetchall()
        if version == self._schema_version:
            return
        found = {name.decode(): sql for name, sql in connection.execute(schema.FIND_OURS).fetchall()}
        self._ensure_format(connection, is_there=schema.FORMAT_TABLE in found)
        is_known = found.keys() & {"idiolectd_state", "idiolectd_changes"}
        is_whole = found.keys() >= schema.OURS and _has_all(found, schema.TRIGGERS)
        if not is_whole:
            for sql in schema.TABLES:
                connection.execute(sql)
            _make_triggers(connection, schema.TRIGGERS)
        if not found.keys() >= schema.LATER_INDEXES.keys():
            columns = {name.decode() for (name,) in connection.execute(schema.STATE_COLUMNS).fetchall()}
            for name in schema.LATER_COLUMNS:
                if name not in columns:
                    connection.execute(schema.ADD_COLUMN.format(name=name))
            for name, sql in schema.LATER_INDEXES.items():
                if name not in found:
                    connection.execute(sql)
        if not (found.keys() >= schema.UNSEEN_TABLES.keys() and _has_all(found, schema.UNSEEN_TRIGGERS)):
            for name, sql in schema.UNSEEN_TABLES.items():
                if name not in found:
                    connection.execute(sql)
            _make_triggers(connection, schema.UNSEEN_TRIGGERS)
            connection.execute(schema.BEGIN_SEARCH, (schema.BEFORE_ALL_ROWS,))
        if is_known and not is_whole:
            for table in schema.RESCANNED:
                ((first, last),) = connection.execute(schema.ROWIDS.format(table=table)).fetchall()
                if first is not None:
                    self._rescan(connection, table, first, last)
            connection.execute(schema.FORGET_SCHEDULE)
        ((self._schema_version,),) = connection.execute("PRAGMA schema_version").fetchall()

    def _ensure_format(self, connection: sqlite3.Connection, *, is_there: bool) -> None:
        """Leaves a newer database alone, and writes down what a program must know of this one."""
        stored = None
        if is_there:
            for stored, needs in connection.execute(schema.LOAD_FORMAT).fetchall():
                check_format(stored, needs, self._file.path)
        wanted = format_to_write(stored, self._keys, self._file.path)
        if wanted is not None:
            if not is_there:
                connection.execute(schema.MAKE_FORMAT)
            connection.execute(schema.FORGET_FORMAT)
            connection.execute(schema.PUT_FORMAT, wanted)

    def _rescan(self, connection: sqlite3.Connection, table: str, first: int, last: int) -> None:
        """Enters the rows of a table as changed, except those whose key is too large to be a DID."""
        try:
            connection.execute(schema.RESCAN.format(table=table), (first, last))
        except sqlite3.DataError:
            if first < last:
                middle = (first + last) // 2
                self._rescan(connection, table, first, middle)
                self._rescan(connection, table, middle + 1, last)


def _has_all(found: Mapping[str, bytes], triggers: Mapping[str, str]) -> bool:
    return all(found.get(name) == sql.encode() for name, sql in triggers.items())


def _make_triggers(connection: sqlite3.Connection, triggers: Mapping[str, str]) -> None:
    for name, sql in triggers.items():
        connection.execute(f"DROP TRIGGER IF EXISTS {name}")
        connection.execute(sql)


def _run(connection: sqlite3.Connection, planned: PlannedWrite) -> None:
    """Runs all of an operation's statements, or none. A single statement is whole by itself."""
    if len(planned.statements) < 2:
        for sql, values in planned.statements:
            connection.execute(sql, values)
        return
    connection.execute("SAVEPOINT operation")
    try:
        for sql, values in planned.statements:
            connection.execute(sql, values)
    except sqlite3.Error:
        if connection.in_transaction:
            connection.execute("ROLLBACK TO operation")
            connection.execute("RELEASE operation")
        raise
    connection.execute("RELEASE operation")


def _unlisted(connection: sqlite3.Connection, after: int, last: int) -> list[Row]:
    """The keys of rows that no list names, except those that are too large to be a DID."""
    try:
        return connection.execute(schema.SEARCH, (after, last)).fetchall()
    except sqlite3.DataError:
        middle = (after + last) // 2
        if middle == after:
            return []
        return _unlisted(connection, after, middle) + _unlisted(connection, middle, last)


def _empty_log(connection: sqlite3.Connection) -> None:
    connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
