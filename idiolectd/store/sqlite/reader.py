"""The reading side of the SQLite store. Needs asyncio (aiosqlite).

One connection, opened read-only and closed last: a read-only last connection leaves the -wal and -shm
files in place, without which a program that may not write can't open the database. It takes no lock
of ours. It raises sqlite3's errors as they are, and `Replaced` if its files are not the present ones.
"""

import asyncio
import math
import sqlite3
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, TypeVar

import aiosqlite

from idiolectd.errors import RecordError, StoreError
from idiolectd.ports import ScheduleEntry, Survey
from idiolectd.store.format import check_format
from idiolectd.store.merge import decode_record, too_large
from idiolectd.store.sqlite import carry_over, schema
from idiolectd.store.sqlite.connections import DatabaseFile, RefusalRule, Stamp, rows, stored_in
from idiolectd.store.sqlite.operations import Stored, Value, did_of, place_of, text_of

T = TypeVar("T")

_PAGE = 200


class Reader:
    """Reads one database; for one asyncio loop.

    Args:
        file: the database.
        untouched: make no side files. A database that nobody has open (it has neither a -wal nor a
            -journal file) is read as it lies there; should somebody begin to use it meanwhile, what was read is read again.
    """

    def __init__(self, file: DatabaseFile, *, untouched: bool = False) -> None:
        self._file = file
        self._untouched = untouched
        self._frozen_at: Stamp | None = None
        self._connection: aiosqlite.Connection | None = None
        self._is_open = False
        self._states = False
        # Up to where `unplanned` has looked.
        self._lost_after = 0
        self._part_after = 0
        # One at a time: the connection has one thread, and may be exchanged between two reads.
        self._turn = asyncio.Lock()

    async def open(self) -> None:
        """Opens the connection, and looks whether this is a database at all."""
        self._is_open = True
        await self.touch()

    async def touch(self) -> None:
        """Uses the database as it is now: with the first use of a WAL database its side files are held."""
        await self._number("SELECT count(*) FROM sqlite_master")

    async def close(self) -> None:
        """Closes the connection; harmless when there is none."""
        async with self._turn:
            self._is_open = False
            await self._drop()

    @asynccontextmanager
    async def away(
        self, copy: Path | None, before_closing: Callable[[], Awaitable[None]]
    ) -> AsyncIterator[None]:
        """Nobody reads during the block, and what is read afterwards comes from the files that are there then.

        Args:
            copy: where to keep what the present connection sees, for `carry_over`; None: not to.
            before_closing: called when that is done. This connection has to be the last one that is
                closed: read-only as it is, it removes no side files, which may be others' by now.
        """
        async with self._turn:
            if copy is not None and self._connection is not None:
                await carry_over.keep(self._connection, copy)
            await before_closing()
            await self._drop()
            yield

    async def _drop(self) -> None:
        connection, self._connection = self._connection, None
        self._states = False
        if connection is not None:
            await connection.close()

    async def has_table(self, name: str) -> bool:
        """Whether there is a table of this name."""
        return bool(await self._number(schema.HAS_TABLE, name))

    async def check_format(self) -> None:
        """Raises `StoreError` if the database is of a newer format."""
        if await self.has_table(schema.FORMAT_TABLE):
            for version, needs in await self._read(schema.LOAD_FORMAT):
                check_format(version, needs, self._file.path)

    async def check_is_ours(self) -> bool:
        """Whether the table of sessions is there.

        Raises:
            StoreError: it is the database of another program.
        """
        tables = {name.decode("utf-8", "replace") for (name,) in await self._read(schema.TABLE_NAMES)}
        columns = {name.decode("utf-8", "replace") for (name,) in await self._read(schema.SESSIONS_COLUMNS)}
        foreign = sorted(name for name in tables - {"sessions"} if not name.startswith("idiolectd_"))
        is_theirs = bool(foreign) if "sessions" not in tables else not columns >= {"did", "body_json"}
        if is_theirs:
            shown = ", ".join(foreign[:5]) or "sessions, with other columns"
            raise StoreError(
                f"{self._file.path} is the database of another program (it has {shown}) and was left as it is;"
                " check the store's path"
            )
        return "sessions" in tables

    async def count(self) -> int:
        """How many records there are, readable or not."""
        return await self._number(schema.COUNT)

    async def record(self, did: str) -> bytes | None:
        """The text of a record.

        Raises:
            RecordError: it is too large, or not text.
        """
        try:
            found = await self._read(schema.LOAD, did)
        except sqlite3.DataError as error:
            raise too_large(self._place(did), did) from error
        return text_of(found[0][0]) if found else None

    async def entry(self, did: str) -> Stored:
        """Record and state of one DID, of the same moment.

        Raises:
            RecordError: the record is too large.
        """
        if not await self._has_states():
            return Stored(await self.record(did), None)
        return await self._steadily(lambda connection: stored_in(connection, did, self._place(did)))

    async def survey(self) -> Survey:
        """All records, readable or not."""
        dids: list[str] = []
        broken: list[RecordError] = []
        last = 0
        while True:
            try:
                page = await self._read(schema.PAGE, last, _PAGE)
            except sqlite3.DataError:  # somewhere in it is a row that is too large
                page = await self._one_by_one(last)
            if not page:
                return Survey(sorted(dids), broken)
            last = page[-1][0]
            for _, key, body in page:
                try:
                    dids.append(self._did_in(key, body))
                except RecordError as damage:
                    broken.append(damage)

    async def _one_by_one(self, last: int) -> list[RefusalRule]:
        page = []
        for (rowid,) in await self._read(schema.PAGE_ROWIDS, last, _PAGE):
            try:
                page += await self._read(schema.ONE, rowid)
            except sqlite3.DataError:
                page.append((rowid, None, None))
        return page

    async def due(self, before: float, limit: int, after: ScheduleEntry | None) -> list[ScheduleEntry]:
        """The lines of the schedule before a time and after a line, soonest first."""
        if not await self._has_states():
            return []
        at, did = (-math.inf, "") if after is None else (after.at, after.did)
        entries = await self._read(schema.DUE, before, at, did, limit)
        return [
            entry for at, key, expires_at, server in entries if (entry := _due(at, key, expires_at, server))
        ]

    async def unplanned(self, limit: int) -> list[str]:
        """See `SharedStore.unplanned`.

        Args:
            limit: how many rows to look at; twice, by the index of due times and by the records.
        """
        if not await self._has_states():
            return []
        lost = await self._read(schema.WITHOUT_LINE, self._lost_after, limit)
        self._lost_after = lost[-1][0] if len(lost) == limit else 0
        part = await self._read(schema.PART_OF_RECORDS, self._part_after, limit)
        self._part_after = part[-1][0] if len(part) == limit else 0
        keys = [key for _, key in lost] + [key for _, key, planned in part if not planned]
        return sorted({did for key in keys if (did := did_of(key)) is not None})

    async def data_version(self) -> int:
        """A number that moves when any other connection has committed; cheap."""
        return await self._number("PRAGMA data_version")

    async def schema_version(self) -> int:
        """A number that moves when anybody has changed the schema."""
        return await self._number("PRAGMA schema_version")

    async def changes(
        self, after: int, limit: int, *, unscheduled: bool
    ) -> tuple[list[tuple[str, int]], int, bool]:
        """What changed.

        Args:
            after: the sequence number up to which everything is known.
            limit: how many rows to fetch at most.
            unscheduled: leave out those whose line of the schedule was made at their last change.

        Returns:
            DIDs with sequence numbers, oldest first; the number up to which one now knows
            everything; whether there is more.
        """
        last = await self._number(schema.LAST_CHANGE)
        sql = schema.CHANGES_UNSCHEDULED if unscheduled else schema.CHANGES
        try:
            page = await self._read(sql, after, last, limit)
        except sqlite3.DataError:  # among them is a key that is too large to be a DID
            page = await self._changes_apart(sql, after, last, limit)
        found = [(did, seq) for key, seq in page if (did := did_of(key)) is not None]
        more = len(page) == limit
        return found, (page[-1][1] if more else last), more

    async def _changes_apart(self, sql: str, after: int, last: int, limit: int) -> list[RefusalRule]:
        page: list[RefusalRule] = []
        for (seq,) in await self._read(schema.CHANGE_NUMBERS, after, last, limit):
            try:
                page += await self._read(sql, seq - 1, seq, 1) or [(None, seq)]
            except sqlite3.DataError:
                page.append((None, seq))
        return page

    async def _read(self, sql: str, *values: Value) -> list[RefusalRule]:
        return await self._steadily(lambda connection: rows(connection, sql, *values))

    async def _steadily(self, read: Callable[[aiosqlite.Connection], Awaitable[T]]) -> T:
        """Reads once; again if it was a database that nobody used, and somebody does now."""
        async with self._turn:
            while True:
                connection = await self._opened()
                try:
                    found = await read(connection)
                except sqlite3.Error:
                    if not self._has_moved():
                        raise
                else:
                    if not self._has_moved():
                        return found
                await self._drop()

    def _has_moved(self) -> bool:
        return self._frozen_at is not None and self._file.stamp() != self._frozen_at

    async def _opened(self) -> aiosqlite.Connection:
        if not self._is_open:
            raise RuntimeError("the store is closed")
        if self._connection is None:
            self._frozen_at = self._file.stamp() if self._untouched else None
            self._connection = await self._file.connect("ro", frozen=self._frozen_at is not None)
        self._file.check()  # else a missing row would prove nothing
        return self._connection

    async def _number(self, sql: str, *values: Value) -> int:
        ((number,),) = await self._read(sql, *values)
        return int(number)

    async def _has_states(self) -> bool:
        # In a database of upstream's the first write makes our tables; reading must not need one.
        self._states = self._states or await self.has_table("idiolectd_state")
        return self._states

    def _did_in(self, key: Any, body: Any) -> str:
        did, text = did_of(key), text_of(body)
        if did is None:
            raise RecordError(self._place(ascii(key)[:80]), "the key is not a DID")
        if text is None:
            raise RecordError(self._place(did), "too large, or empty", did=did)
        return decode_record(text, place=self._place(did), did=did).did

    def _place(self, did: str) -> str:
        return place_of(self._file.path, did)


def _due(at: float, key: object, expires_at: object, server: object) -> ScheduleEntry | None:
    """A line of the schedule; SQLite takes anything anywhere, and one damaged line must not hide all others.

    None: its key is no DID. What else is damaged leads to a look at the record, which mends it.
    """
    did = did_of(key)
    if did is None:
        return None
    if isinstance(expires_at, int | float) and isinstance(server, bytes):
        return ScheduleEntry(at, did, float(expires_at), server.decode(errors="replace"))
    return ScheduleEntry(at, did, at, "")
