"""Reading a database of sessions without an event loop. See `idiolectd.store.blocking`."""

import os
import sqlite3
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from weakref import WeakSet

from idiolectd.did import parse_did
from idiolectd.errors import LockBusy, RecordError, StoreError
from idiolectd.session import OAuthSession
from idiolectd.state import RefreshState
from idiolectd.store.error_translation import translated
from idiolectd.store.merge import decode_record, decode_state, too_large
from idiolectd.store.sqlite import schema
from idiolectd.store.sqlite.database import (
    HARDEN,
    TOO_LARGE,
    Connection,
    Files,
    runtime_dir_of,
    uri_of,
)
from idiolectd.store.sqlite.operations import did_of, place_of, text_of
from idiolectd.store.store_url import StoreUrl

# As long as the stores' own connections wait for a foreign program's commit.
BUSY_PATIENCE = 5.0


class DatabaseReading:
    """Reads a database of sessions. See `idiolectd.store.blocking.Reading`.

    One connection for all threads, each of which has it for the microseconds of one look. It is kept
    because opening one costs 300; a new one takes its place when the database's files are others.
    """

    def __init__(self, path: Path) -> None:
        self.url = str(StoreUrl("sqlite", path))
        self._path = path
        self._real: Path | None = None
        self._lock = threading.RLock()  # a signal handler that forks must not wait for its own thread
        self._connection: _Kept | None = None
        self._files: Files | None = None
        with _all_lock:
            _all.add(self)

    def __repr__(self) -> str:
        return f"<DatabaseReading {self.url}>"

    @property
    def runtime_dir(self) -> Path | None:
        """See `Reading.runtime_dir`."""
        return runtime_dir_of(self._real_path())

    def load(self, did: str, *, patience: float = 0.0) -> OAuthSession | None:
        """See `Reading.load`."""
        place = place_of(self._path, did)
        with self._reading(did, patience) as connection:
            try:
                found = connection.execute(schema.LOAD, (parse_did(did),)).fetchone()
            except sqlite3.DataError as error:
                raise too_large(place, did) from error
        text = None if found is None else text_of(found[0])
        return None if text is None else decode_record(text, place=place, did=did)

    def state(self, did: str, now: float) -> RefreshState:
        """See `Reading.state`."""
        with self._reading(did, 0.0) as connection:
            if not connection.execute(schema.HAS_TABLE, ("idiolectd_state",)).fetchone()[0]:
                return RefreshState()  # a database that only upstream has written so far
            try:
                found = connection.execute(schema.LOAD_STATE, (parse_did(did),)).fetchone()
            except sqlite3.DataError:
                found = (TOO_LARGE,)
        return decode_state(None if found is None else text_of(found[0]), now)

    def dids(self) -> list[str]:
        """See `Reading.dids`."""
        with self._reading("all sessions", BUSY_PATIENCE) as connection:
            keys = [did_of(key) for key in _keys(connection)]
        return sorted(did for did in keys if did is not None and self._is_readable(did))

    def _is_readable(self, did: str) -> bool:
        try:
            return self.load(did, patience=BUSY_PATIENCE) is not None
        except RecordError:
            return False

    @contextmanager
    def _reading(self, what: str, patience: float) -> Iterator[Connection]:
        if not self._lock.acquire(timeout=patience):
            raise LockBusy(f"can't read {what} from {self.url}: other threads are reading; try again")
        try:
            with translated(f"can't read {what} from {self.url}"):
                connection = self._open()
                connection.execute(f"PRAGMA busy_timeout = {patience * 1000:.0f}")
                yield connection
        finally:
            self._lock.release()

    def _open(self) -> Connection:
        path = self._real_path()
        files = Files.of(path)
        if self._files is not None and self._files.lost_to(files) is not None:
            self._connection = None  # closed before another is opened: SQLite would share its side files
        if self._connection is None:
            # No isolation level: Python would begin transactions by itself.
            self._connection = sqlite3.connect(
                uri_of(path, "ro"),
                uri=True,
                timeout=0,
                isolation_level=None,
                check_same_thread=False,
                factory=_Kept,
            )
            self._connection.execute(HARDEN)
        self._files = files
        return self._connection

    def hold(self) -> None:
        """Keeps all threads out, before a fork."""
        self._lock.acquire()

    def let_go(self) -> None:
        """Lets them in again."""
        self._lock.release()

    def forget_connection(self) -> None:
        """In a forked child: leaves the parent's connection alone."""
        if self._connection is not None:
            _inherited.append(self._connection)
            self._connection = None

    def _real_path(self) -> Path:
        if self._real is None:
            with translated(f"can't open {self._path}"):
                real = Path(os.path.realpath(self._path, strict=True))
            if real.is_dir():
                raise StoreError(f"{real} is a folder, and an SQLite store is a file; is it file:///FOLDER?")
            self._real = real
        return self._real


def _keys(connection: Connection) -> list[object]:
    try:
        return [key for (key,) in connection.execute(schema.KEYS)]
    except sqlite3.DataError:  # among them is one that is too large to be a DID
        pass
    keys: list[object] = []
    for (rowid,) in connection.execute(schema.KEY_ROWIDS).fetchall():
        with suppress(sqlite3.DataError):
            keys += connection.execute(schema.KEY, (rowid,)).fetchone() or ()
    return keys


class _Kept(Connection):
    """A connection that is closed when nobody uses it any more."""

    def __del__(self) -> None:
        self.close()


# A parent's connections are neither used nor closed in a child
# (https://www.sqlite.org/howtocorrupt.html, section 2.6): they are kept until it ends.
_inherited: list[_Kept] = []

_all: WeakSet[DatabaseReading] = WeakSet()
_all_lock = threading.RLock()
_held_over_fork: list[DatabaseReading] = []


def _before_fork() -> None:
    # A thread inside SQLite now would leave a mutex of SQLite's own locked in the child, for good.
    _all_lock.acquire()
    for reading in _all:
        reading.hold()
        _held_over_fork.append(reading)


def _after_fork_in_parent() -> None:
    while _held_over_fork:
        _held_over_fork.pop().let_go()
    _all_lock.release()


def _after_fork_in_child() -> None:
    while _held_over_fork:
        reading = _held_over_fork.pop()
        reading.forget_connection()
        reading.let_go()
    _all_lock.release()


os.register_at_fork(
    before=_before_fork, after_in_parent=_after_fork_in_parent, after_in_child=_after_fork_in_child
)
