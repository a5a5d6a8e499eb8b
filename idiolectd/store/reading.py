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
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Protocol
from weakref import WeakValueDictionary

from idiolectd.did import is_meant_as_did, parse_did
from idiolectd.errors import ConfigError, NoSessionError, RecordError, SealedError
from idiolectd.session import OAuthSession, normal_handle
from idiolectd.store.claimants import Claimants
from idiolectd.store.record_text import KnownRecord
from idiolectd.store.sealing import NO_KEYS, Keys
from idiolectd.store_url import StoreUrl, is_plain_path, parse_store_url

if TYPE_CHECKING:
    from idiolectd.ports import Called
    from idiolectd.state import RefreshState
    from idiolectd.store.memory import InMemoryOAuthTokenStore


class Reading(Protocol):
    """The reading side of a store. See the module.

    Attributes:
        url: the store URL, for people.
        runtime_dir: the folder for what belongs to a running daemon; None: no place on disk.
        refusals: where a client says that a token is refused, if this is a clients' view; None: nowhere.
    """

    @property
    def url(self) -> str:
        """See above."""
        ...

    @property
    def runtime_dir(self) -> Path | None:
        """See above."""
        ...

    @property
    def refusals(self) -> Path | None:
        """See above."""
        ...

    def record(
        self, did: str, known: KnownRecord | None = None, *, waiting: bool = False
    ) -> KnownRecord | None:
        """The record of a DID as it is stored now, or None if nothing is stored for it.

        Args:
            did: whose session.
            known: the record as the caller last read it: if it is the same, so is the result.
            waiting: wait some seconds for a foreign program that keeps an SQLite database locked; no other
                store ever waits.

        Raises:
            LockBusy: it keeps it, or kept it for longer.
            RecordError: the record is unreadable.
            StoreError: the store can't answer; never "no session".
        """
        ...

    def state(self, did: str, now: float) -> "RefreshState":
        """What is known of a session's refreshing; empty if nothing is.

        Raises:
            StoreError: the store can't answer, or this user may read records only.
        """
        ...

    def called(self, handle: str) -> "Called":
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


class MemoryReading:
    """Reads an open store in memory. See `Reading`."""

    runtime_dir = None
    refusals = None

    def __init__(self, store: "InMemoryOAuthTokenStore") -> None:
        self.url = store.url
        self._store = store

    def record(
        self, did: str, known: KnownRecord | None = None, *, waiting: bool = False
    ) -> KnownRecord | None:
        """See `Reading.record`."""
        return self._store.record_now(did, known)

    def state(self, did: str, now: float) -> "RefreshState":
        """See `Reading.state`."""
        return self._store.state_now(did)

    def called(self, handle: str) -> "Called":
        """See `Reading.called`; a store in memory has no index."""
        from idiolectd.ports import Called

        return Called()

    def dids(self) -> list[str]:
        """See `Reading.dids`."""
        return self._store.dids_now()


# One for each store and its keys, as long as somebody uses it: ten thousand accounts of one database are read
# through one connection. Should two threads come first at the same moment, there are two: no harm.
_readings: WeakValueDictionary[tuple[StoreUrl, Keys], Reading] = WeakValueDictionary()

# Those that `load_session` used last, by the URL that it was given: its callers keep nothing, and come back.
_kept: OrderedDict[str, Reading] = OrderedDict()
_MOST_KEPT = 8


def _kept_reading(url: str | None) -> Reading:
    # Each step by itself is safe among threads. What a path means depends on the folder that one is in.
    name = None if url is None or is_plain_path(url) else url
    found = None if name is None else _kept.get(name)
    if found is not None:
        return found
    found = open_reading(url)
    _kept[name or found.url] = found
    if len(_kept) > _MOST_KEPT:
        with contextlib.suppress(KeyError):
            _kept.popitem(last=False)
    return found


def load_session(url: str | None, account: str) -> OAuthSession:
    """The session of an account as it is stored now; blocks for well below a millisecond.

    For programs without an event loop; others have `OAuthTokenStore.load`.

    Args:
        url: a store URL or a path; None: the configured view of clients, or store if there is no view.
        account: a DID, or a stored session's handle, once confirmed. For a handle every record is read.

    Raises:
        ConfigError: it is not a store URL, or the configuration is wrong.
        NoSessionError: nothing is stored for the account.
        DidError: it starts like a DID and is none.
        HandleError: the handle is confirmed for none of the sessions that carry it, or for several.
        RecordError: the record is unreadable.
        StoreError: the store can't answer.
    """
    return session_of(_kept_reading(url), account)


def session_of(reading: Reading, account: str) -> OAuthSession:
    """The session of an account as it is stored now. Blocks.

    Raises:
        As `load_session`, but for `ConfigError`.
    """
    did = find_did(reading, account)
    found = reading.record(did, waiting=True)
    if found is None:
        raise NoSessionError(did)
    return found.session


def open_reading(url: str | None, *, looking: bool = False, keys: Keys = NO_KEYS) -> Reading:
    """The reading side of a store; opens nothing yet, so the store may come later. Needs no closing.

    Args:
        url: a store URL or a path; None: the configured view of clients, or store if there is no view.
        looking: nothing is changed on disk: a database that nobody has open gets no side files.
        keys: open secrets; those of the configuration, if `url` is None.

    Raises:
        ConfigError: it is not a store URL, names a store in memory, or the configuration is wrong.
    """
    if url is None:
        from idiolectd.config import clients_place
        from idiolectd.store.key_ring import read_keys

        url, store = clients_place(os.environ)
        if store is not None and store.keys:
            keys = read_keys(store)
    parsed = parse_store_url(url)
    if parsed.kind == "memory":
        raise ConfigError("memory: would be a new and empty store; pass the open store itself")
    if looking:
        return _reading_at(parsed, keys, looking=True)
    found = _readings.get((parsed, keys))
    if found is None:
        found = _readings[parsed, keys] = _reading_at(parsed, keys)
    return found


def _reading_at(place: StoreUrl, keys: Keys, *, looking: bool = False) -> Reading:
    # Imported here: who reads files has no use for sqlite3.
    if place.kind == "file":
        from idiolectd.store.files.folder_reading import FolderReading

        return FolderReading(place.path, keys=keys)
    from idiolectd.store.sqlite.database_reading import DatabaseReading

    return DatabaseReading(place.path, untouched=looking, keys=keys)


def find_did(reading: Reading, account: str) -> str:
    """The DID that is meant by a DID, or by the handle of a stored session.

    Raises:
        As `load_session`.
    """
    if is_meant_as_did(account):
        return parse_did(account)
    called = reading.called(normal_handle(account))
    claimants = _read_claimants(reading, account, called.dids)
    if not (claimants.confirmed or called.is_all):
        claimants = _read_claimants(reading, account, reading.dids())
    return claimants.the_one()


def _read_claimants(reading: Reading, account: str, dids: Sequence[str]) -> Claimants:
    claimants = Claimants(account)
    for did in dids:
        with contextlib.suppress(RecordError, SealedError):
            found = reading.record(did, waiting=True)
            claimants.take(None if found is None else found.session)
    return claimants
