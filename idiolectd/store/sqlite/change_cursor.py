"""Changes in the SQLite store, whoever makes them. Needs asyncio.

`PRAGMA data_version` says cheaply that somebody committed, the change table then says what. The first
answers leave out what is scheduled already, so that a restart does not look at every record.
"""

from idiolectd.ports import FULL_BATCH
from idiolectd.store.sqlite.reader import Reader


class SchemaChanged(Exception):
    """Somebody changed the schema, so our triggers may be gone: see to the tables, then `restart`."""


class ChangeCursor:
    """Where one look-out stands. It starts with what can't be relied on."""

    def __init__(self, reader: Reader) -> None:
        self._reader = reader
        # What our own commits changed: the number of the change, by DID.
        self._own: dict[str, int] = {}
        self._data_version: int | None = None
        self._schema_version: int | None = None
        self._last = 0
        self._unscheduled = True
        # Whether the last answer was cut off, and `poll` should be called again.
        self.has_more = False

    def add_own(self, did: str, seq: int) -> None:
        """A change that need not be named."""
        self._own[did] = seq

    def forget_own(self) -> None:
        """Changes that were added may not have happened."""
        self._own.clear()

    async def restart(self, *, everything: bool = False) -> None:
        """Starts over, with the tables in order.

        Args:
            everything: name every session: nothing that is known of this database can be relied on.
        """
        self._schema_version = await self._reader.schema_version()
        self._data_version = None
        self._last = 0
        self._unscheduled = not everything
        self._own.clear()
        self.has_more = True

    async def poll(self) -> list[str]:
        """What changed since the last call, at most `FULL_BATCH` rows' worth; soon more, if there is more.

        Raises:
            SchemaChanged: see there.
            Replaced: the files at the database's path are others: they would never move again.
        """
        version = await self._reader.data_version()
        if version == self._data_version and not self.has_more:
            return []
        if await self._reader.schema_version() != self._schema_version:
            raise SchemaChanged
        changed, self._last, self.has_more = await self._reader.changes(
            self._last, FULL_BATCH, unscheduled=self._unscheduled
        )
        self._data_version = version  # a commit since then has moved it again
        if not self.has_more:
            self._unscheduled = False
        names = [did for did, seq in changed if self._own.get(did) != seq]
        self._own = {did: seq for did, seq in self._own.items() if seq > self._last}
        return names
