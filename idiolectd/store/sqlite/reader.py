"""Reads an SQLite store, for whoever does: the open store, and programs without an event loop.

A row alone is read by `RowReader`; here is what else is asked for. Long reads (surveys, lists of changes) are
made of short ones, so that they keep nobody away for longer than one page takes.
"""

import math
import sqlite3
from pathlib import Path
from typing import Any

from idiolectd.errors import RecordError, StoreError
from idiolectd.ports import Called, Overview, ScheduleEntry, Survey
from idiolectd.store.format import check_format
from idiolectd.store.record_text import decode_record, too_large
from idiolectd.store.sealing import AS_STORED
from idiolectd.store.sqlite import carry_over, schema
from idiolectd.store.sqlite.columns import did_of, text_of
from idiolectd.store.sqlite.database import BUSY_TIMEOUT, TOO_LARGE, DatabaseFile, Row
from idiolectd.store.sqlite.operations import StateRow, Stored
from idiolectd.store.sqlite.row_reader import RowReader

_PAGE = 200


class DatabaseReader(RowReader):
    """Reads all of one database. See `RowReader`; `viewed` as of `decode_record`."""

    def __init__(self, file: DatabaseFile, *, untouched: bool = False, viewed: bool = False) -> None:
        super().__init__(file, untouched=untouched)
        self._viewed = viewed
        self._has_states = False
        # Up to where `unplanned` has looked.
        self._lost_after = 0
        self._part_after = 0

    # One row: at once, or `LockBusy` ----------------------------------------------------------

    def entry(self, did: str, timeout: float = 0.0) -> Stored:
        """Record and state of one DID, of the same moment; otherwise as `record`."""
        if not self.knows_states(timeout):
            return Stored(self.record(did, timeout), None)
        return self._steadily(lambda connection: stored_in(connection, did, self._place(did)), timeout)

    def state(self, did: str, timeout: float = 0.0) -> bytes | None:
        """The text of a state; otherwise as `record`, but of what is too large the fact."""
        if not self.knows_states(timeout):
            return None  # a database that only upstream has written so far
        try:
            found = self._read(schema.LOAD_STATE, did, timeout=timeout)
        except sqlite3.DataError:
            return TOO_LARGE
        return text_of(found[0][0]) if found else None

    def data_version(self, timeout: float = 0.0) -> int:
        """A number that moves when any other connection has committed; cheap."""
        return self._number("PRAGMA data_version", timeout=timeout)

    # Long, or rare: in a thread ---------------------------------------------------------------

    def touch(self) -> None:
        """Uses the database as it is now: with the first use of a WAL database its side files are held."""
        self._number("SELECT count(*) FROM sqlite_master")

    def keep(self, copy: Path) -> None:
        """Keeps a copy of what the connection sees, if there is one, for `carry_over`."""
        with self._turn(BUSY_TIMEOUT):
            if self._connection is not None:
                carry_over.keep(self._connection, copy)

    def check_format(self) -> None:
        """Raises `StoreError` if the database is of a newer format."""
        if self._has_table(schema.FORMAT_TABLE):
            for version, needs in self._read(schema.LOAD_FORMAT):
                check_format(version, needs, self._file.path)

    def check_is_ours(self) -> bool:
        """Whether the table of sessions is there.

        Raises:
            StoreError: it is the database of another program.
        """
        tables = {name.decode("utf-8", "replace") for (name,) in self._read(schema.TABLE_NAMES)}
        columns = {name.decode("utf-8", "replace") for (name,) in self._read(schema.SESSIONS_COLUMNS)}
        foreign = sorted(name for name in tables - {"sessions"} if not name.startswith("idiolectd_"))
        is_theirs = bool(foreign) if "sessions" not in tables else not columns >= {"did", "body_json"}
        if is_theirs:
            shown = ", ".join(foreign[:5]) or "sessions, with other columns"
            raise StoreError(
                f"{self._file.path} is the database of another program (it has {shown}) and was left as it is;"
                " check the store's path"
            )
        return "sessions" in tables

    def count(self) -> int:
        """How many records there are, readable or not."""
        return self._number(schema.COUNT)

    def keys(self, after: bytes, limit: int) -> list[bytes]:
        """The next keys that may be DIDs, in their order; ``did:`` comes before all of them."""
        return [key for (key,) in self._read(schema.PAGE_OF_KEYS, after, limit) if isinstance(key, bytes)]

    def overview(self, now: float, limit: int) -> Overview | None:
        """See `SharedStore.overview`; None: only an older version has written here."""
        if not self._has_index():
            return None
        sessions = self.count()
        needy = {
            name.decode("utf-8", "replace"): count
            for name, count in self._read(schema.COUNT_NEEDY)
            if isinstance(name, bytes)
        }
        unseen = sessions - self._number(schema.COUNT_STATES) + self._number(schema.COUNT_UNKNOWN)
        if unseen > 0:
            needy[""] = unseen
        keys = [key for (key,) in self._read(schema.NEEDY, limit)]
        keys += [key for (key,) in self._read(schema.DUE_SINCE, now, max(0, limit - len(keys)))]
        dids = [did for key in keys if (did := did_of(key)) is not None]
        return Overview(sessions, needy, self._number(schema.COUNT_DUE, now), dids)

    def called(self, handle: str) -> Called:
        """See `SharedStore.called`."""
        if not self._has_index():
            return Called()
        keys = [key for (key,) in self._read(schema.CALLED, handle)]
        return Called(
            [did for key in keys if (did := did_of(key)) is not None], is_all=self._has_all_handles()
        )

    def _has_all_handles(self) -> bool:
        """Whether the index has the handle of each session as it is stored now."""
        if not (self._has_table("idiolectd_unseen") and self.is_searched()):
            return False
        if self._number(schema.COUNT_UNSEEN) or self._number(schema.COUNT_UNKNOWN):
            return False
        return self.count() <= self._number(schema.COUNT_STATES)

    def survey(self) -> Survey:
        """All records, readable or not."""
        dids: list[str] = []
        broken: list[RecordError] = []
        last = 0
        while True:
            try:
                page = self._read(schema.PAGE, last, _PAGE)
            except sqlite3.DataError:  # somewhere in it is a row that is too large
                page = self._one_by_one(last)
            if not page:
                return Survey(sorted(dids), broken)
            last = page[-1][0]
            for _, key, body in page:
                try:
                    dids.append(self._did_in(key, body))
                except RecordError as damage:
                    broken.append(damage)

    def _one_by_one(self, last: int) -> list[Row]:
        page = []
        for (rowid,) in self._read(schema.PAGE_ROWIDS, last, _PAGE):
            try:
                page += self._read(schema.ONE, rowid)
            except sqlite3.DataError:
                page.append((rowid, None, None))
        return page

    def due(self, before: float, limit: int, after: ScheduleEntry | None) -> list[ScheduleEntry]:
        """The entries of the schedule before a time and after an entry, soonest first."""
        if not self.knows_states():
            return []
        at, did = (-math.inf, "") if after is None else (after.at, after.did)
        found = self._read(schema.DUE, before, at, did, limit)
        return [
            entry for at, key, expires_at, server in found if (entry := _due(at, key, expires_at, server))
        ]

    def unplanned(self, limit: int) -> list[str]:
        """See `SharedStore.unplanned`.

        Args:
            limit: how many rows to look at; twice, by the index of due times and by the records.
        """
        if not self.knows_states():
            return []
        lost = self._read(schema.WITHOUT_DUE_TIME, self._lost_after, limit)
        self._lost_after = lost[-1][0] if len(lost) == limit else 0
        part = self._read(schema.PART_OF_RECORDS, self._part_after, limit)
        self._part_after = part[-1][0] if len(part) == limit else 0
        keys = [key for _, key in lost] + [key for _, key, planned in part if not planned]
        return sorted({did for key in keys if (did := did_of(key)) is not None})

    def schema_version(self) -> int:
        """A number that moves when anybody has changed the schema."""
        return self._number("PRAGMA schema_version")

    def last_change(self) -> int:
        """The number of the last change."""
        return self._number(schema.LAST_CHANGE)

    def changes(self, after: int, limit: int) -> tuple[list[tuple[str, int]], int, bool]:
        """What changed.

        Args:
            after: the number of the change up to which everything is known.
            limit: how many rows to fetch at most.

        Returns:
            DIDs with the numbers of their changes, oldest first; the number up to which one now knows
            everything; whether there is more.
        """
        last = self.last_change()
        try:
            page = self._read(schema.CHANGES, after, last, limit)
        except sqlite3.DataError:  # among them is a key that is too large to be a DID
            page = self._changes_apart(after, last, limit)
        found = [(did, seq) for key, seq in page if (did := did_of(key)) is not None]
        more = len(page) == limit
        return found, (page[-1][1] if more else last), more

    def page_of_dids(self, sql: str, after: int, limit: int) -> tuple[list[str], int | None]:
        """The next DIDs of a list that is paged by rowid, and the rowid to go on after; None: that was all.

        Args:
            sql: `schema.UNSEEN` or `schema.ALL_KEYS`.
            after: the last rowid of the page before.
            limit: how many rows to fetch at most.
        """
        page = self._read(sql, after, limit)
        found = [did for _, key in page if (did := did_of(key)) is not None]
        return found, page[-1][0] if len(page) == limit else None

    def is_searched(self) -> bool:
        """Whether all that was changed before the list of unseen changes was there has been searched for."""
        return self._read(schema.SEARCHED) == [(None,)]

    def _changes_apart(self, after: int, last: int, limit: int) -> list[Row]:
        page: list[Row] = []
        for (seq,) in self._read(schema.CHANGE_NUMBERS, after, last, limit):
            try:
                page += self._read(schema.CHANGES, seq - 1, seq, 1) or [(None, seq)]
            except sqlite3.DataError:
                page.append((None, seq))
        return page

    def knows_states(self, timeout: float = BUSY_TIMEOUT) -> bool:
        """Whether our tables are there; `timeout` as of `record`."""
        # In a database of upstream's the first write makes our tables; reading must not need one.
        self._has_states = self._has_states or self._has_table("idiolectd_state", timeout)
        return self._has_states

    def _has_index(self) -> bool:
        columns = {bytes(name).decode("utf-8", "replace") for (name,) in self._read(schema.STATE_COLUMNS)}
        return columns.issuperset(schema.LATER_COLUMNS)

    def _has_table(self, name: str, timeout: float = BUSY_TIMEOUT) -> bool:
        return bool(self._number(schema.HAS_TABLE, name, timeout=timeout))

    def _did_in(self, key: Any, body: Any) -> str:
        did, text = did_of(key), text_of(body)
        if did is None:
            raise RecordError(self._place(ascii(key)[:80]), "the key is not a DID")
        if text is None:
            raise RecordError(self._place(did), "too large, or empty", did=did)
        return decode_record(text, place=self._place(did), did=did, viewed=self._viewed, keys=AS_STORED).did

    def _drop(self) -> None:
        self._has_states = False
        super()._drop()


def stored_in(connection: sqlite3.Connection, did: str, place: str, *, to_write: bool = False) -> Stored:
    """Record and state of one DID, of the same moment; of what is too large the fact.

    Args:
        connection: of `connect`.
        did: whose.
        place: the row, for messages.
        to_write: also how the state's row stands.
    """
    sql = schema.ENTRY_TO_WRITE if to_write else schema.ENTRY
    try:
        record, state, *row = connection.execute(sql, (did,)).fetchone()
        return Stored(text_of(record), text_of(state), StateRow(*row) if to_write else None)
    except sqlite3.DataError:
        pass  # one of the two: ask for each
    texts: list[bytes | None] = []
    for sql in (schema.LOAD, schema.LOAD_STATE):
        try:
            found = connection.execute(sql, (did,)).fetchone()
        except sqlite3.DataError:
            texts.append(TOO_LARGE)
        else:
            texts.append(text_of(found[0]) if found else None)
    return Stored(too_large(place, did) if texts[0] is TOO_LARGE else texts[0], texts[1])


def _due(at: float, key: object, expires_at: object, server: object) -> ScheduleEntry | None:
    """An entry of the schedule; SQLite takes anything anywhere, and one damaged row must not hide all others.

    None: its key is no DID. What else is damaged leads to a look at the record, which mends it.
    """
    did = did_of(key)
    if did is None:
        return None
    if isinstance(expires_at, int | float) and isinstance(server, bytes):
        return ScheduleEntry(at, did, float(expires_at), server.decode(errors="replace"))
    return ScheduleEntry(at, did, at, "")
