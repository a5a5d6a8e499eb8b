"""Reads the rows of an SQLite store by one connection that is opened read-only, and kept.

A single row costs some ten microseconds, so it is read where it is asked for, without waiting; a foreign program
that has the database locked is waited for only if the caller says so, which he does in a thread.

The store closes this connection last: a read-only last connection leaves the -wal and -shm files in place,
without which a program that may not write can't open the database. It takes no lock of ours, raises
sqlite3's errors as they are, and `Replaced` if its files are not the present ones.
"""

import atexit
import os
import sqlite3
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import TypeVar
from weakref import WeakSet

from idiolectd.errors import LockBusy
from idiolectd.store.record_text import too_large
from idiolectd.store.sqlite import schema
from idiolectd.store.sqlite.columns import Value, place_of, text_of
from idiolectd.store.sqlite.database import (
    BUSY_TIMEOUT,
    DatabaseConnection,
    DatabaseFile,
    Row,
    Stamp,
    connect,
)

T = TypeVar("T")


class RowReader:
    """Reads records; for any number of threads, each of which has the connection for one statement.

    Args:
        file: the database.
        untouched: make no side files. A database that nobody has open (it has neither a -wal nor a
            -journal file) is read as it lies there; should somebody begin to use it meanwhile, what was
            read is read again.
    """

    def __init__(self, file: DatabaseFile, *, untouched: bool = False) -> None:
        self._file = file
        self._untouched = untouched
        self._frozen_at: Stamp | None = None
        self._connection: DatabaseConnection | None = None
        self._is_closed = False
        self._waits = 0.0
        self._lock = threading.RLock()  # a signal handler that forks must not wait for its own thread
        with _all_lock:
            _all.add(self)

    def record(self, did: str, timeout: float = 0.0) -> bytes | None:
        """The text of a record.

        Args:
            did: whose.
            timeout: how many seconds to wait for a foreign program's lock, or for our other threads.

        Raises:
            RecordError: it is too large, or not text.
            LockBusy, sqlite3.OperationalError: it was locked for longer.
        """
        try:
            found = self._read(schema.LOAD, did, timeout=timeout)
        except sqlite3.DataError as error:
            raise too_large(self._place(did), did) from error
        return text_of(found[0][0]) if found else None

    def close(self) -> None:
        """Closes the connection for good; harmless when there is none."""
        with self._lock:
            self._is_closed = True
            self._drop()

    def __del__(self) -> None:
        # A client's reader lives as long as the client, and nobody closes it. Left to the collector, the
        # connection would warn of that (Python 3.13).
        if self._connection is not None:
            self._connection.close()

    def exchange(self, renew: Callable[[], None]) -> None:
        """Closes the connection and calls `renew`, while nobody reads; what is read then is what is there then."""
        with self._turn(BUSY_TIMEOUT):
            self._drop()
            renew()

    # The connection ---------------------------------------------------------------------------

    def _read(self, sql: str, *values: Value, timeout: float = BUSY_TIMEOUT) -> list[Row]:
        return self._steadily(lambda connection: connection.execute(sql, values).fetchall(), timeout)

    def _number(self, sql: str, *values: Value, timeout: float = BUSY_TIMEOUT) -> int:
        ((number,),) = self._read(sql, *values, timeout=timeout)
        return int(number)

    def _steadily(self, read: Callable[[DatabaseConnection], T], timeout: float) -> T:
        """Reads once; again if it was a database that nobody used, and somebody does now."""
        # Without a context manager: this is half of what a client's look at its record costs.
        self._take_turn(timeout)
        try:
            while True:
                connection = self._opened(timeout)
                try:
                    found = read(connection)
                except sqlite3.Error:
                    if not self._has_moved():
                        raise
                else:
                    if not self._has_moved():
                        return found
                self._drop()
        finally:
            self._lock.release()

    def _take_turn(self, timeout: float) -> None:
        if not self._lock.acquire(timeout=timeout):
            raise LockBusy(f"other threads are reading {self._file.path}; try again")

    @contextmanager
    def _turn(self, timeout: float) -> Iterator[None]:
        self._take_turn(timeout)
        try:
            yield
        finally:
            self._lock.release()

    def _opened(self, timeout: float) -> DatabaseConnection:
        if self._is_closed:
            raise RuntimeError("the store is closed")
        if self._connection is None:
            self._frozen_at = self._file.stamp() if self._untouched else None
            self._connection = connect(
                self._file.path,
                "ro",
                timeout=timeout,
                frozen=self._frozen_at is not None,
            )
            self._waits = timeout
        elif self._waits != timeout:
            self._connection.execute(f"PRAGMA busy_timeout = {timeout * 1000:.0f}")
            self._waits = timeout
        self._file.check()  # else a missing row would prove nothing
        return self._connection

    def _drop(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.close()

    def _has_moved(self) -> bool:
        return self._frozen_at is not None and self._file.stamp() != self._frozen_at

    def _place(self, did: str) -> str:
        return place_of(self._file.path, did)

    # Around a fork ----------------------------------------------------------------------------

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


# A parent's connections are neither used nor closed in a child
# (https://www.sqlite.org/howtocorrupt.html, section 2.6): they are kept until it ends.
_inherited: list[DatabaseConnection] = []

_all: WeakSet[RowReader] = WeakSet()
_all_lock = threading.RLock()
_held_over_fork: list[RowReader] = []


def _before_fork() -> None:
    # A thread inside SQLite now would leave a mutex of SQLite's own locked in the child, for good.
    _all_lock.acquire()
    for reader in _all:
        reader.hold()
        _held_over_fork.append(reader)


def _after_fork_in_parent() -> None:
    while _held_over_fork:
        _held_over_fork.pop().let_go()
    _all_lock.release()


def _after_fork_in_child() -> None:
    while _held_over_fork:
        reader = _held_over_fork.pop()
        reader.forget_connection()
        reader.let_go()
    _all_lock.release()


os.register_at_fork(
    before=_before_fork, after_in_parent=_after_fork_in_parent, after_in_child=_after_fork_in_child
)


@atexit.register
def _close_all() -> None:
    for reader in tuple(_all):
        with suppress(sqlite3.Error, LockBusy):
            reader.exchange(lambda: None)  # whoever still reads opens another
