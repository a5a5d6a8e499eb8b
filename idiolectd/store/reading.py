"""Reading a store without an event loop: for synchronous programs, and for whoever reads often.

A look at one record costs some dozen microseconds (a file: 50, half of it parsing; a row: 30), a hop
to a worker thread 100 to 170: so async programs, too, read in place. Nothing here waits, unless it
is asked to; nothing takes a lock of the store's, writes, or makes a store that is not there.

Errors are those of the stores' own reading: `RecordError` for one record, `StoreError` for all else.
A `Reading` may be used by many threads at once.
"""

import contextlib
import os
from collections import OrderedDict
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Protocol, TypeVar
from weakref import WeakValueDictionary

from idiolectd.did import is_meant_as_did, parse_did
from idiolectd.errors import ConfigError, NoSessionError, RecordError, StoreError
from idiolectd.session import OAuthSession, normal_handle
from idiolectd.state import RefreshState
from idiolectd.store.access import RecordAccess
from idiolectd.store.claimants import Claimants
from idiolectd.store.error_translation import translated
from idiolectd.store.files.folder import Folder
from idiolectd.store.memory import InMemoryOAuthTokenStore
from idiolectd.store.merge import decode_state
from idiolectd.store.record_text import decode_record
from idiolectd.store.sqlite.columns import place_of
from idiolectd.store.sqlite.database import BUSY_TIMEOUT, DatabaseFile, Replaced, runtime_dir_of
from idiolectd.store.sqlite.reader import DatabaseReader
from idiolectd.store_url import StoreUrl, parse_store_url

T = TypeVar("T")


class Reading(Protocol):
    """The reading side of a store. See the module.

    Attributes:
        url: the store URL, for people.
        runtime_dir: the folder for what belongs to a running daemon; None: no place on disk.
    """

    @property
    def url(self) -> str:
        """See above."""
        ...

    @property
    def runtime_dir(self) -> Path | None:
        """See above."""
        ...

    def load(self, did: str, *, patience: float = 0.0) -> OAuthSession | None:
        """The session of a DID as it is stored now, or None if nothing is stored for it.

        Args:
            did: whose session.
            patience: how many seconds to wait for a foreign program that keeps an SQLite database
                locked; no other store ever waits.

        Raises:
            LockBusy: it kept it for longer.
            RecordError: the record is unreadable.
            StoreError: the store can't answer; never "no session".
        """
        ...

    def state(self, did: str, now: float) -> RefreshState:
        """What is known of a session's refreshing; empty if nothing is.

        Raises:
            StoreError: the store can't answer, or this user may read records only.
        """
        ...

    def called(self, handle: str) -> list[str]:
        """As `idiolectd.ports.SharedStore.called`.

        Raises:
            StoreError: the store can't answer.
        """
        ...

    def dids(self) -> list[str]:
        """The DIDs of all readable sessions, sorted. Reads every record.

        Raises:
            StoreError: the store can't answer.
        """
        ...


class FolderReading:
    """Reads a folder of sessions. See `Reading`."""

    def __init__(self, path: Path) -> None:
        self.url = str(StoreUrl("file", path))
        self._path = path
        self._opened: Folder | None = None

    def __repr__(self) -> str:
        return f"<FolderReading {self.url}>"

    @property
    def runtime_dir(self) -> Path | None:
        """See `Reading.runtime_dir`."""
        return self._folder().runtime_dir

    def load(self, did: str, *, patience: float = 0.0) -> OAuthSession | None:
        """See `Reading.load`. Records are replaced whole: there is nobody to wait for."""
        with translated(f"can't load {did} from {self.url}"):
            return self._folder().locate(parse_did(did)).readable()

    def state(self, did: str, now: float) -> RefreshState:
        """See `Reading.state`."""
        with translated(f"can't read {did} from {self.url}"):
            return self._folder().state(parse_did(did), now)

    def called(self, handle: str) -> list[str]:
        """See `Reading.called`; a folder has no index."""
        return []

    def dids(self) -> list[str]:
        """See `Reading.dids`."""
        with translated(f"can't list {self.url}"):
            return self._folder().survey().dids

    def _folder(self) -> Folder:
        # Kept: it remembers which folder it was, so that an unmounted disk is not "no session".
        if self._opened is None:
            with translated(f"can't open {self._path}"):
                root = Path(os.path.realpath(self._path))
                if root.is_file():
                    raise StoreError(
                        f"{root} is a file, and a filesystem store is a folder; is it sqlite:///PATH?"
                    )
                self._opened = Folder(root, RecordAccess(None))
        return self._opened


class DatabaseReading:
    """Reads a database of sessions. See `Reading`.

    Its reader is kept, because opening a connection costs 300 µs; where the database's files are others by
    now, another one takes its place.
    """

    def __init__(self, path: Path) -> None:
        self.url = str(StoreUrl("sqlite", path))
        self._path = path
        self._real: Path | None = None
        self._reader: DatabaseReader | None = None

    def __repr__(self) -> str:
        return f"<DatabaseReading {self.url}>"

    @property
    def runtime_dir(self) -> Path | None:
        """See `Reading.runtime_dir`."""
        return runtime_dir_of(self._real_path())

    def load(self, did: str, *, patience: float = 0.0) -> OAuthSession | None:
        """See `Reading.load`."""
        text = self._read(did, lambda reader: reader.record(parse_did(did), patience))
        return None if text is None else decode_record(text, place=place_of(self._path, did), did=did)

    def state(self, did: str, now: float) -> RefreshState:
        """See `Reading.state`."""
        return decode_state(self._read(did, lambda reader: reader.state(parse_did(did))), now)

    def called(self, handle: str) -> list[str]:
        """See `Reading.called`."""
        return self._read("all sessions", lambda reader: reader.called(handle))

    def dids(self) -> list[str]:
        """See `Reading.dids`."""
        return self._read("all sessions", DatabaseReader.survey).dids

    def _read(self, what: str, read: Callable[[DatabaseReader], T]) -> T:
        with translated(f"can't read {what} from {self.url}"):
            reader = self._reader
            if reader is None:
                reader = self._reader = DatabaseReader(DatabaseFile(self._real_path()))
            try:
                return read(reader)
            except Replaced:
                # Closed before another is opened: SQLite would share its side files.
                reader.close()
                self._reader = DatabaseReader(DatabaseFile(self._real_path()))
                return read(self._reader)

    def _real_path(self) -> Path:
        if self._real is None:
            with translated(f"can't open {self._path}"):
                real = Path(os.path.realpath(self._path, strict=True))
            if real.is_dir():
                raise StoreError(f"{real} is a folder, and an SQLite store is a file; is it file:///FOLDER?")
            self._real = real
        return self._real


class MemoryReading:
    """Reads an open store in memory. See `Reading`."""

    runtime_dir = None

    def __init__(self, store: InMemoryOAuthTokenStore) -> None:
        self.url = store.url
        self._store = store

    def load(self, did: str, *, patience: float = 0.0) -> OAuthSession | None:
        """See `Reading.load`."""
        return self._store.load_now(did)

    def state(self, did: str, now: float) -> RefreshState:
        """See `Reading.state`."""
        return self._store.state_now(did)

    def called(self, handle: str) -> list[str]:
        """See `Reading.called`; a store in memory has no index."""
        return []

    def dids(self) -> list[str]:
        """See `Reading.dids`."""
        return self._store.dids_now()


# One for each store, as long as somebody uses it: ten thousand accounts of one database are read
# through one connection. Should two threads come first at the same moment, there are two: no harm.
_readings: WeakValueDictionary[StoreUrl, FolderReading | DatabaseReading] = WeakValueDictionary()

# Those that `load_session` used last: its callers keep nothing, and come back.
_kept: OrderedDict[Reading, None] = OrderedDict()
_MOST_KEPT = 8


def _keep(reading: Reading) -> None:
    # Each step by itself is safe among threads.
    _kept.pop(reading, None)
    _kept[reading] = None
    if len(_kept) > _MOST_KEPT:
        with contextlib.suppress(KeyError):
            _kept.popitem(last=False)


def load_session(url: str | None, account: str) -> OAuthSession:
    """The session of an account as it is stored now; blocks for well below a millisecond.

    For programs without an event loop; others have `OAuthTokenStore.load`.

    Args:
        url: a store URL or a path; None: the configured store.
        account: a DID, or a stored session's handle, once confirmed. For a handle every record is read.

    Raises:
        ConfigError: it is not a store URL, or the configuration is wrong.
        NoSessionError: nothing is stored for the account.
        DidError: it starts like a DID and is none.
        HandleError: the handle is confirmed for none of the sessions that carry it, or for several.
        RecordError: the record is unreadable.
        StoreError: the store can't answer.
    """
    reading = open_reading(url)
    _keep(reading)
    did = find_did(reading, account)
    session = reading.load(did, patience=BUSY_TIMEOUT)
    if session is None:
        raise NoSessionError(did)
    return session


def open_reading(url: str | None) -> Reading:
    """The reading side of a store; opens nothing yet, so the store may come later. Needs no closing.

    Args:
        url: a store URL or a path; None: the configured store.

    Raises:
        ConfigError: it is not a store URL, names a store in memory, or the configuration is wrong.
    """
    if url is None:
        from idiolectd.config import load_config

        url = load_config(None, os.environ).store.url
    parsed = parse_store_url(url)
    if parsed.kind == "memory":
        raise ConfigError("memory: would be a new and empty store; pass the open store itself")
    found = _readings.get(parsed)
    if found is None:
        found = FolderReading(parsed.path) if parsed.kind == "file" else DatabaseReading(parsed.path)
        _readings[parsed] = found
    return found


def find_did(reading: Reading, account: str) -> str:
    """The DID that is meant by a DID, or by the handle of a stored session.

    Raises:
        As `load_session`.
    """
    if is_meant_as_did(account):
        return parse_did(account)
    claimants = Claimants(account)
    for dids in (partial(reading.called, normal_handle(account)), reading.dids):
        claimants = Claimants(account)
        for did in dids():
            with contextlib.suppress(RecordError):
                claimants.take(reading.load(did, patience=BUSY_TIMEOUT))
        if claimants.confirmed:  # by the index: nobody else has to be read
            break
    return claimants.the_one()
