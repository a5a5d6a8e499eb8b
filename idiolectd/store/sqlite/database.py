"""An SQLite database as a file: how a connection to it is opened, and whether it still is the one at its path.

No event loop, no thread. Rules: nobody here opens the database's files by himself while SQLite has them
open: closing any descriptor of theirs would drop SQLite's own locks (fcntl(2)).
"""

import os
import sqlite3
from contextlib import closing, suppress
from pathlib import Path
from typing import Any, Literal, NamedTuple, Self
from urllib.parse import quote

from idiolectd.errors import StoreError
from idiolectd.store.durable import remove
from idiolectd.store.record_text import MAX_RECORD

Row = tuple[Any, ...]

# The longest row that SQLite may hand out at all: a state with two records as escaped text.
_MAX_ROW = 8 * MAX_RECORD

# Stands for what SQLite did not hand out. As a state it is a damaged one.
TOO_LARGE = b"too large"

# How many seconds a connection waits for a foreign program's commit.
BUSY_TIMEOUT = 5.0

# Whoever can write the schema must not make us run functions that do more than compute.
HARDEN = "PRAGMA trusted_schema = OFF"

# Which content a database file had.
Stamp = tuple[int, int, int]


class Replaced(StoreError):
    """The files that connections hold open are not those at the database's path any more.

    What is read through them is out of date, and what is written goes nowhere: open them anew.
    """


class DatabaseConnection(sqlite3.Connection):
    """A connection that hands out text as bytes: what is stored need not be UTF-8, nor short.

    It is closed at the latest when nobody uses it any more.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.setlimit(sqlite3.SQLITE_LIMIT_LENGTH, _MAX_ROW)
        self.text_factory = bytes
        self.execute(HARDEN)

    def __del__(self) -> None:
        self.close()


def connect(
    path: Path,
    mode: Literal["ro", "rw"],
    *,
    timeout: float,
    frozen: bool = False,
) -> DatabaseConnection:
    """Opens a database that is there, for use by one thread at a time; makes none. Whoever gets it closes it.

    Args:
        path: the database.
        mode: whether it may be written.
        timeout: how many seconds a statement waits for a foreign program's lock.
        frozen: see `uri_of`.
    """
    # No isolation level: Python would begin transactions by itself.
    return sqlite3.connect(
        uri_of(path, mode, frozen=frozen),
        uri=True,
        timeout=timeout,
        isolation_level=None,
        check_same_thread=False,
        factory=DatabaseConnection,
    )


def uri_of(path: Path, mode: Literal["ro", "rw"], *, frozen: bool = False) -> str:
    """How SQLite is told to open a database that is there, and to make none.

    Args:
        path: the database.
        mode: whether it may be written.
        frozen: the file is taken as it is, without a lock or a side file (``immutable``): for a database
            that nobody has open.
    """
    return f"file:{quote(os.fsencode(path))}?mode={mode}" + ("&immutable=1" if frozen else "")


class Files(NamedTuple):
    """Which files a database is at one moment, each by device and inode.

    Attributes:
        main: the database itself.
        wal: its write-ahead log; None: there is none.
        shm: the index of that, which all its users share.
    """

    main: tuple[int, int]
    wal: tuple[int, int] | None
    shm: tuple[int, int] | None

    @classmethod
    def of(cls, path: str) -> Self:
        """The files at a path now.

        Raises:
            OSError: there is no database.
        """
        found = os.stat(path)  # noqa: PTH116 - before each read: a Path would cost more than the call
        return cls((found.st_dev, found.st_ino), _side(path + "-wal"), _side(path + "-shm"))

    def lost_to(self, now: "Files") -> str | None:
        """What whoever holds these files open has lost, in words, if `now` is what lies there instead.

        None: nothing. Side files may appear: the first user makes them.
        """
        if now.main != self.main:
            return "another file has taken its place"
        for side, before, after in (("-wal", self.wal, now.wal), ("-shm", self.shm, now.shm)):
            if before is not None and after != before:
                return f"its {side} file was removed or replaced"
        return None


def _side(path: str) -> tuple[int, int] | None:
    try:
        found = os.stat(path)  # noqa: PTH116 - as above
    except FileNotFoundError:
        return None
    return found.st_dev, found.st_ino


class DatabaseFile:
    """The database, by path; knows which files this store's connections hold open.

    Attributes:
        path: its real path.
        generation: how often another database has taken its place.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.generation = 0
        self._name = str(path)
        self._files = Files.of(self._name)

    def stamp(self) -> Stamp | None:
        """What shows that somebody writes; None: somebody has the database open, or had."""
        if any(self.path.with_name(self.path.name + end).exists() for end in ("-wal", "-journal")):
            return None
        found = self.path.stat()
        return found.st_ino, found.st_size, found.st_mtime_ns

    def check(self) -> None:
        """Makes sure that the files held open are those at the path.

        Raises:
            Replaced: they are not.
            OSError: there is no database now.
        """
        now = Files.of(self._name)
        if now == self._files:
            return
        lost = self._files.lost_to(now)
        if lost is not None:
            raise Replaced(f"{self.path}: {lost} while it was open")
        self._files = now

    def is_another(self) -> bool:
        """Whether another database has taken its place, not only side files of it.

        Raises:
            OSError: there is none now.
        """
        return Files.of(self._name).main != self._files.main

    def renew(self) -> None:
        """From now on the files that are at the path count: nobody holds the others any more.

        Raises:
            OSError: there is no database now.
            StoreError: somebody does.
        """
        if self.is_another():
            self.generation += 1
        else:
            self._check_let_go()
        self._files = Files.of(self._name)

    def begin_new_log(self) -> None:
        """Moves the log into the database and leaves its file, when side files were removed.

        A foreign program may still have the removed index of this log. It would write over what others
        add: nobody sees that while they run, but whoever opens the database afterwards finds a broken log
        and ignores the rest of it. What it writes from now on goes into a file that nobody reads, as with
        a log that was removed. Under the write lock, when no connection of ours is open.

        Raises:
            OSError, sqlite3.Error: there is no database now, or it can't be written.
            StoreError: this process still holds removed files.
        """
        self._check_let_go()
        with closing(connect(self.path, "rw", timeout=BUSY_TIMEOUT)) as connection:
            ((busy, *_),) = connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
            if not busy:  # else somebody reads or writes here: he has the present index
                for suffix in ("-wal", "-shm"):
                    remove(self.path.with_name(self.path.name + suffix))

    def _check_let_go(self) -> None:
        if _holds_removed_files(self.path):
            raise StoreError(
                f"{self.path}: another part of this program still uses side files that were removed; try again"
            )


def _holds_removed_files(path: Path) -> bool:
    """Whether this process has the database open, and side files of it that were removed.

    A new connection would share them with the old one (SQLite finds them by the database's inode), and
    so mix up two logs.
    """
    targets = set()
    for descriptor in Path("/proc/self/fd").iterdir():
        with suppress(OSError):
            targets.add(str(descriptor.readlink()))
    return str(path) in targets and not targets.isdisjoint({f"{path}-wal (deleted)", f"{path}-shm (deleted)"})


def runtime_dir_of(path: Path) -> Path:
    """The folder beside a database for what belongs to the store but is not a session."""
    return path.with_name(path.name + ".idiolectd")
