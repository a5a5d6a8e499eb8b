"""Reads a source: a file, a folder of JSON files, or a SQLite database. Changes nothing in it."""

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

from idiolectd.errors import StoreError
from idiolectd.moving.entries import entries_of_rows, entries_of_text
from idiolectd.moving.found import Entry, Unusable
from idiolectd.store import translated

_SQLITE = b"SQLite format 3\0"

# Bytes. A million sessions as JSON are about 2 GB; such a crowd comes in parts, or from a database.
_LARGEST = 512 * 1024 * 1024


def read_source(path: Path) -> list[Entry | Unusable]:
    """Finds the entries of a source. Blocks.

    Raises:
        StoreError: it can't be read.
    """
    with translated(f"can't read {path}"):
        if path.is_dir():
            files = sorted(found for found in path.iterdir() if found.suffix == ".json" and found.is_file())
            return [entry for file in files for entry in entries_of_text(_content(file), file.name)]
        with path.open("rb") as file:
            is_database = file.read(len(_SQLITE)) == _SQLITE
        if not is_database:
            return entries_of_text(_content(path), path.name)
    try:
        return list(_of_database(path))
    except sqlite3.Error as error:
        raise StoreError(f"can't read {path}: {error}") from None


def _content(path: Path) -> bytes:
    with path.open("rb") as file:
        data = file.read(_LARGEST + 1)
    if len(data) > _LARGEST:
        raise StoreError(f"{path} is larger than {_LARGEST // 1024 // 1024} MiB: import it in parts")
    return data


def _of_database(path: Path) -> Iterator[Entry | Unusable]:
    """Reads every table but SQLite's and idiolectd's own."""
    with closing(sqlite3.connect(f"{path.resolve().as_uri()}?{_how_to_open(path)}", uri=True)) as database:
        database.row_factory = sqlite3.Row
        database.text_factory = _text
        names = [row[0] for row in database.execute("SELECT name FROM sqlite_schema WHERE type = 'table'")]
        for name in names:
            if not name.startswith(("sqlite_", "idiolectd_")):
                quoted = '"' + name.replace('"', '""') + '"'
                rows = database.execute(f"SELECT * FROM {quoted}")  # noqa: S608 - quoted above
                yield from entries_of_rows(map(dict, rows), f"{path.name}, table {name}")


def _how_to_open(path: Path) -> str:
    """Chooses how to read a database without a trace.

    One in WAL mode would get new side files, which stay, if nobody has it open; then nobody can change it either.
    """
    with path.open("rb") as file:
        header = file.read(20)
    is_wal = header[18:20] == b"\2\2"  # https://sqlite.org/fileformat.html, section 1.3.3
    has_log = path.resolve().with_name(f"{path.resolve().name}-wal").exists()
    return "immutable=1" if is_wal and not has_log else "mode=ro"


def _text(data: bytes) -> str:
    return data.decode("utf-8", "replace")
