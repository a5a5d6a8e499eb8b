"""What every connection to the SQLite store has in common, whoever opens it: no event loop, no thread.

Rules: nobody here opens the database's files by himself while SQLite has them open: closing any
descriptor of theirs would drop SQLite's own locks (fcntl(2)).
"""

import os
import sqlite3
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Self
from urllib.parse import quote

from idiolectd.store.merge import MAX_RECORD

# The longest row that SQLite may hand out at all: a state with two records as escaped text.
_MAX_ROW = 8 * MAX_RECORD

# Stands for what SQLite did not hand out. As a state it is a damaged one.
TOO_LARGE = b"too large"

# Whoever can write the schema must not make us run functions that do more than compute.
HARDEN = "PRAGMA trusted_schema = OFF"


class Connection(sqlite3.Connection):
    """A connection that hands out text as bytes: what is stored need not be UTF-8, nor short."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.setlimit(sqlite3.SQLITE_LIMIT_LENGTH, _MAX_ROW)
        self.text_factory = bytes


def uri_of(path: Path, mode: Literal["ro", "rw"], *, frozen: bool = False) -> str:
    """How SQLite is told to open a database that is there, and to make none.

    Args:
        path: the database.
        mode: whether it may be written.
        frozen: nothing is locked and no side file is made or looked at (``immutable``).
    """
    return f"file:{quote(os.fsencode(path))}?mode={mode}" + ("&immutable=1" if frozen else "")


@dataclass(frozen=True)
class Files:
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
    def of(cls, path: Path) -> Self:
        """The files at a path now.

        Raises:
            OSError: there is no database.
        """
        found = path.stat()
        return cls((found.st_dev, found.st_ino), _side(path, "-wal"), _side(path, "-shm"))

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


def _side(path: Path, suffix: str) -> tuple[int, int] | None:
    try:
        found = Path(f"{path}{suffix}").stat()
    except FileNotFoundError:
        return None
    return found.st_dev, found.st_ino


def holds_removed_files(path: Path) -> bool:
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
