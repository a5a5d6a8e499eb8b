"""Watches an SQLite store for changes, whoever makes them.

`PRAGMA data_version` says cheaply that another connection has committed, the change table then says what. What
happened before is in the list of unseen changes, so that a restart does not look at every record.

While a crowd of new sessions is read (`SharedStore.new_sessions`) only what happens from then on is named:
the list holds whatever the crowd does not take along, and is read again afterwards.
"""

from collections.abc import Awaitable, Callable, Iterable, Mapping

import anyio
import anyio.lowlevel

from idiolectd.finish import finish
from idiolectd.ports import FULL_BATCH
from idiolectd.store.change_set import ChangeSet
from idiolectd.store.sqlite import schema
from idiolectd.store.sqlite.database import BUSY_TIMEOUT
from idiolectd.store.sqlite.reader import DatabaseReader
from idiolectd.store.sqlite.write_hint import WriteHint

# A login is to be noticed within a second: so long may a look be put off, in seconds. Where the kernel hints that
# somebody writes, it comes sooner; but not at once, because the writer has not committed yet, nor may a busy
# daemon's own commits make one look follow the other.
_POLL = 0.9
_AFTER_HINT = 0.2


# What a list names is named whatever we committed ourselves: else it would not be there.
_NO_CHANGE = 0


class SchemaChanged(Exception):
    """Somebody changed the schema, so our triggers may be gone: see to the tables, then `restart`."""


class ChangeCursor:
    """How far one watch has read the list of changes. Its first answers name what can't be relied on.

    What this process committed itself is left out (`add_own`). Otherwise each refresh would be followed by a
    look at its session, a sixth of its own cost: 250 µs and 770 calls for claiming and reading, counted at the
    store, beside 5 µs for asking the commit which change it was. A commit that is read before it was added is
    named all the same, which costs that look.
    """

    def __init__(self, reader: DatabaseReader) -> None:
        self._reader = reader
        # What our own commits changed: the number of the change, by DID.
        self._own: dict[str, int] = {}
        self._data_version: int | None = None
        self._schema_version: int | None = None
        self._last = 0
        # Which list has to be named before the changes, and after which of its rows to go on; None: it is done.
        self._list = schema.UNSEEN
        self._list_after: int | None = None
        self._is_cut_off = True
        # Whether a crowd of new sessions is read: only what changes meanwhile is named.
        self._is_crowded = False
        # Whether all that no list names has been searched for.
        self.is_searched = False
        # Whether an answer is due when everything is named, be it an empty one.
        self.owes_answer = False

    def add_own(self, own_news: Mapping[str, int]) -> None:
        """Changes that need not be named: sequence numbers by DID. Only after they are committed."""
        self._own.update(own_news)

    def restart(self, *, everything: bool = False) -> None:
        """Starts over, with the tables in order.

        Args:
            everything: name every session: nothing that is known of this database can be relied on.
        """
        self._schema_version = self._reader.schema_version()
        self._data_version = None
        self._own.clear()
        self.is_searched = self._reader.is_searched()
        if self._is_crowded:  # its end names all that is unseen
            self._last = min(self._last, self._reader.last_change())
        else:
            self._name_list(schema.ALL_KEYS if everything else schema.UNSEEN)

    def leave_to_crowd(self) -> None:
        """Names only what changes from now on, until `after_crowd` is called. Blocks."""
        self._is_crowded = True
        self._last = self._reader.last_change()
        self._list_after = None
        self._is_cut_off = False

    def after_crowd(self) -> None:
        """Names what was left out since `leave_to_crowd`, unless it has been planned."""
        self._is_crowded = False
        self.owes_answer = True
        self._list, self._list_after = schema.UNSEEN, schema.BEFORE_ALL_ROWS
        self._is_cut_off = True

    def _name_list(self, sql: str) -> None:
        # First the number, then the list: what changes in between is named twice rather than never.
        self._last = self._reader.last_change()
        self._list, self._list_after = sql, schema.BEFORE_ALL_ROWS
        self._is_cut_off = True

    @property
    def has_more(self) -> bool:
        """Whether the last answer was cut off, and the next one is known already."""
        return self._is_cut_off or self.has_to_search

    @property
    def has_to_search(self) -> bool:
        """Whether what no list names has to be searched for now."""
        return not (self.is_searched or self._is_cut_off or self._is_crowded)

    def has_moved(self) -> bool:
        """Whether anybody has committed since the last list of changes, or it was cut off.

        Raises:
            Replaced: the files at the database's path are others: they would never move again.
        """
        return self._is_cut_off or self._reader.data_version() != self._data_version

    def fetch(self) -> list[tuple[str, int]]:
        """What changed since the last call, at most `FULL_BATCH` rows' worth; for `named`. Blocks.

        Raises:
            SchemaChanged: see there.
            Replaced: see `has_moved`.
        """
        version = self._reader.data_version(BUSY_TIMEOUT)
        if self._reader.schema_version() != self._schema_version:
            raise SchemaChanged
        if self._list_after is not None:
            dids, self._list_after = self._reader.page_of_dids(self._list, self._list_after, FULL_BATCH)
            if self._list_after is None and self._list != schema.UNSEEN:
                self._list, self._list_after = schema.UNSEEN, schema.BEFORE_ALL_ROWS
            changed, self._is_cut_off = [(did, _NO_CHANGE) for did in dids], True
        else:
            changed, self._last, self._is_cut_off = self._reader.changes(self._last, FULL_BATCH)
        self._data_version = version  # a commit since then has moved it again
        return changed

    def named(self, changed: Iterable[tuple[str, int]]) -> list[str]:
        """Whose changes are to be named. Where `add_own` is called, not in another thread."""
        names = [did for did, seq in changed if self._own.get(did) != seq]
        self._own = {did: seq for did, seq in self._own.items() if seq > self._last}
        return names


class DatabaseWatch:
    """Waits for changes, for one task. See `idiolectd.ports.Watch`.

    Args:
        cursor: what was named already.
        has_moved: whether there may be something new; costs microseconds.
        look: asks the cursor what is new.
        hint: hears of writes.
    """

    def __init__(
        self,
        cursor: ChangeCursor,
        has_moved: Callable[[], Awaitable[bool]],
        look: Callable[[], Awaitable[list[str]]],
        hint: WriteHint,
    ) -> None:
        self._cursor = cursor
        self._has_moved = has_moved
        self._look = look
        self._hint = hint
        self._pending = ChangeSet(())

    async def wait_changed(self) -> list[str]:
        """See `idiolectd.ports.Watch.wait_changed`."""
        while True:
            if await self._has_moved():
                await finish(self._collect)
            if self._cursor.has_more and len(self._pending) < FULL_BATCH:
                # A look is finished once begun: a stop gets no other moment.
                await anyio.lowlevel.checkpoint()
                continue
            if self._pending.is_ready:
                return self._pending.take()
            if await self._hint.wait_written(_POLL):
                await anyio.sleep(_AFTER_HINT)
                self._hint.forget()

    async def _collect(self) -> None:
        self._pending.add(await self._look())
        if self._cursor.owes_answer:
            self._cursor.owes_answer = False
            self._pending.answer()
