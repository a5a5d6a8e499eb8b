"""Reading a store without an event loop: for synchronous programs, and for whoever reads often.

A look at one record costs some dozen microseconds (a file: 50, half of it parsing; a row: 30), a hop
to a worker thread 100 to 170: so async programs, too, read in place. Nothing here waits, unless it
is asked to; nothing takes a lock of the store's, writes, or makes a store that is not there.

Errors are those of the stores' own reading: `RecordError` for one record, `StoreError` for all else.
A `Reading` may be used by many threads at once.
"""

import os
from pathlib import Path
from typing import Protocol
from weakref import WeakValueDictionary

from idiolectd.did import parse_did
from idiolectd.errors import StoreError
from idiolectd.session import OAuthSession
from idiolectd.state import RefreshState
from idiolectd.store.access import RecordAccess
from idiolectd.store.error_translation import translated
from idiolectd.store.files.folder import Folder
from idiolectd.store.memory import InMemoryOAuthTokenStore
from idiolectd.store.sqlite.database_reading import DatabaseReading
from idiolectd.store.store_url import StoreUrl


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

    def dids(self) -> list[str]:
        """See `Reading.dids`."""
        return self._store.dids_now()


# One for each store, as long as somebody uses it: ten thousand accounts of one database are read
# through one connection. Should two threads come first at the same moment, there are two: no harm.
_readings: WeakValueDictionary[StoreUrl, FolderReading | DatabaseReading] = WeakValueDictionary()


def shared_reading(url: StoreUrl) -> Reading:
    """The one `Reading` of a store on disk in this process. Opens nothing yet."""
    found = _readings.get(url)
    if found is None:
        found = FolderReading(url.path) if url.kind == "file" else DatabaseReading(url.path)
        _readings[url] = found
    return found
