"""Reads a database of sessions without an event loop. See `idiolectd.store.reading`."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from idiolectd.did import parse_did
from idiolectd.errors import StoreError
from idiolectd.store.error_translation import translated
from idiolectd.store.record_text import KnownRecord, decode_record
from idiolectd.store.sealing import NO_KEYS, Keys
from idiolectd.store.sqlite.columns import place_of
from idiolectd.store.sqlite.database import BUSY_TIMEOUT, DatabaseFile, Replaced, runtime_dir_of
from idiolectd.store.sqlite.row_reader import RowReader
from idiolectd.store.telling import refusals_place
from idiolectd.store_url import StoreUrl

if TYPE_CHECKING:
    from idiolectd.ports import Called
    from idiolectd.state import RefreshState
    from idiolectd.store.sqlite.reader import DatabaseReader

T = TypeVar("T")


class DatabaseReading:
    """Reads a database of sessions. See `idiolectd.store.reading.Reading`.

    Its reader is kept, because opening a connection costs 300 µs; where the database's files are others by
    now, another one takes its place.

    Args:
        path: the database.
        untouched: see `RowReader`.
        keys: open secrets.
    """

    def __init__(self, path: Path, *, untouched: bool = False, keys: Keys = NO_KEYS) -> None:
        self.url = str(StoreUrl("sqlite", path))
        self._path = path
        self._keys = keys
        self._untouched = untouched
        self._real: Path | None = None
        self._rows: RowReader | None = None

    def __repr__(self) -> str:
        return f"<DatabaseReading {self.url}>"

    @property
    def runtime_dir(self) -> Path | None:
        """See `Reading.runtime_dir`."""
        return runtime_dir_of(self._real_path())

    @property
    def refusals(self) -> Path:
        """See `Reading.refusals`."""
        return refusals_place(self._path, is_folder=False)

    def record(
        self, did: str, known: KnownRecord | None = None, *, waiting: bool = False
    ) -> KnownRecord | None:
        """See `Reading.record`."""
        with translated(f"can't read {did} from {self.url}"):
            text = self._text(parse_did(did), BUSY_TIMEOUT if waiting else 0.0)
        if text is None or (known is not None and known.text == text):
            return None if text is None else known
        place = place_of(self._path, did)
        session = decode_record(text, place=place, did=did, viewed=True, keys=self._keys)
        return KnownRecord(text, session)

    def state(self, did: str, now: float) -> "RefreshState":
        """See `Reading.state`."""
        from idiolectd.store.merge import decode_state

        text = self._read(did, lambda reader: reader.state(parse_did(did)))
        return decode_state(text, now, did=did, keys=self._keys)

    def called(self, handle: str) -> "Called":
        """See `Reading.called`."""
        return self._read("all sessions", lambda reader: reader.called(handle))

    def dids(self) -> list[str]:
        """See `Reading.dids`."""
        return self._read("all sessions", lambda reader: reader.survey()).dids

    def _text(self, did: str, patience: float) -> bytes | None:
        rows = self._rows
        if rows is None:
            rows = self._rows = RowReader(DatabaseFile(self._real_path()), untouched=self._untouched)
        try:
            return rows.record(did, patience)
        except Replaced:
            # Closed before another is opened: SQLite would share its side files.
            rows.close()
            self._rows = RowReader(DatabaseFile(self._real_path()), untouched=self._untouched)
            return self._rows.record(did, patience)

    def _read(self, what: str, read: "Callable[[DatabaseReader], T]") -> T:
        # Rare: what only a person's question needs is neither imported nor kept before it is asked.
        from idiolectd.store.sqlite.reader import DatabaseReader

        with translated(f"can't read {what} from {self.url}"):
            if self._rows is not None:  # as below: the files it has open may be gone from their path
                self._rows.exchange(lambda: None)
            reader = DatabaseReader(DatabaseFile(self._real_path()), untouched=self._untouched, viewed=True)
            try:
                return read(reader)
            finally:
                reader.close()

    def _real_path(self) -> Path:
        if self._real is None:
            with translated(f"can't open {self._path}"):
                real = Path(os.path.realpath(self._path, strict=True))
            if real.is_dir():
                raise StoreError(f"{real} is a folder, and an SQLite store is a file; is it file:///FOLDER?")
            self._real = real
        return self._real
