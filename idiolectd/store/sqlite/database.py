"""What every connection to the SQLite store has in common, whoever opens it: no event loop, no thread.

Rules: nobody here opens the database's files by himself while SQLite has them open: closing any
descriptor of theirs would drop SQLite's own locks (fcntl(2)).
"""

import os
import sqlite3
from pathlib import Path
from typing import Any, Literal
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


def identity_of(path: Path) -> tuple[int, int]:
    """Which file it is now.

    Raises:
        OSError: there is none.
    """
    found = path.stat()
    return found.st_dev, found.st_ino


def runtime_dir_of(path: Path) -> Path:
    """The folder beside a database for what belongs to the store but is not a session."""
    return path.with_name(path.name + ".idiolectd")
