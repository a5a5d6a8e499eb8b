"""A backup of a store: one file, private, whole or not there.

::

    {"format": "idiolectd-backup", "version": 1, "needs": "0.5.0", "taken_at": "2026-01-31T12:00:00.000Z"}
    {"did": "did:plc:abc", "record": "{…}", "state": "{…}"}        one line a session, as it lies in its store
    {"spill": "0f3c….json", "text": "{…}"}                         tokens that the store would not take
    {"sessions": 1, "spills": 1, "sha256": "…"}                    of all bytes above

Everything here blocks. A backup holds what its store holds: whoever reads it has the sessions.
"""

import errno
import hashlib
import json
import os
import secrets
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from idiolectd.errors import StoreError
from idiolectd.ports import StoredCopy
from idiolectd.store.durable import sweep, sync_folder

_FORMAT = "idiolectd-backup"
_VERSION = 1
# The first release that reads this version.
_NEEDS = "0.5.0"


@dataclass(frozen=True)
class BackupSummary:
    """What a backup holds.

    Attributes:
        taken_at: when it was begun, in RFC 3339.
        sessions: how many.
        spills: how many sessions' tokens waited for their store beside it.
    """

    taken_at: str
    sessions: int
    spills: int


class BackupWriter:
    """Writes a backup under a temporary name; `finish` makes it durable and gives it its own.

    Whoever uses it calls `discard` at the end, wherever it stopped.

    Args:
        path: where it will be.
        taken_at: the time, in RFC 3339.

    Raises:
        OSError: it can't be made.
    """

    def __init__(self, path: Path, taken_at: str) -> None:
        self._path = path
        self._taken_at = taken_at
        self._sessions = self._spills = 0
        self._sum = hashlib.sha256()
        sweep(path.parent)  # what a backup that was killed has left
        # A name that `sweep` knows.
        self._temporary: Path | None = path.with_name(f".idiolectd-{secrets.token_hex(8)}.tmp")
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
        self._file = os.fdopen(os.open(self._temporary, flags, 0o600), "wb")
        self._line({"format": _FORMAT, "version": _VERSION, "needs": _NEEDS, "taken_at": taken_at})

    def put(self, copy: StoredCopy) -> None:
        """Adds a session."""
        self._line({"did": copy.did, "record": _text(copy.record), "state": _text(copy.state)})
        self._sessions += 1

    def put_spill(self, name: str, text: bytes) -> None:
        """Adds tokens that wait for their store."""
        self._line({"spill": name, "text": _text(text)})
        self._spills += 1

    def finish(self, *, overwrite: bool) -> BackupSummary:
        """Makes it durable, and puts it where it belongs.

        Raises:
            FileExistsError: something is there, and `overwrite` is not set.
        """
        if self._temporary is None:
            raise RuntimeError("it was discarded")
        summary = BackupSummary(self._taken_at, self._sessions, self._spills)
        digest = self._sum.hexdigest()
        self._line({"sessions": self._sessions, "spills": self._spills, "sha256": digest})
        self._file.flush()
        os.fsync(self._file.fileno())
        if not overwrite:
            try:
                os.link(self._temporary, self._path)  # unlike a rename it replaces nothing
            except FileExistsError:
                raise
            except OSError:  # a file system without links, as on a memory stick
                _refuse_existing(self._path)
                overwrite = True
        if overwrite:
            self._temporary.rename(self._path)
            self._temporary = None
        self.discard()
        sync_folder(self._path.parent)
        return summary

    def discard(self) -> None:
        """Removes what did not get its name. Never raises; harmless when repeated."""
        with suppress(OSError):
            self._file.close()
        if self._temporary is not None:
            with suppress(OSError):
                self._temporary.unlink()
            self._temporary = None

    def _line(self, content: dict[str, Any]) -> None:
        line = json.dumps(content, separators=(",", ":")).encode() + b"\n"
        self._sum.update(line)
        self._file.write(line)


class Backup:
    """A whole backup that this program can read.

    Attributes:
        summary: what it holds.
    """

    def __init__(self, path: Path, summary: BackupSummary) -> None:
        self._path = path
        self.summary = summary

    @classmethod
    def open(cls, path: Path) -> Self:
        """Reads a backup once, to know that it is whole.

        Raises:
            StoreError: it is none, or not whole, or of a newer version.
            OSError: it can't be read.
        """
        digest, last, taken_at = hashlib.sha256(), b"", None
        with path.open("rb") as file:
            for line in file:
                if taken_at is None:
                    taken_at = _header(path, line)
                digest.update(last)
                last = line
        found = _parsed(last)
        if taken_at is None or found.get("sha256") != digest.hexdigest():
            raise StoreError(
                f"{path} is not whole: its checksum is missing or wrong; nothing was restored from it"
            )
        return cls(path, BackupSummary(taken_at, found["sessions"], found["spills"]))

    def sessions(self) -> Iterator[StoredCopy]:
        """The sessions."""
        for found in self._lines():
            if "did" in found:
                yield StoredCopy(found["did"], _bytes(found["record"]) or b"", _bytes(found["state"]))

    def spills(self) -> Iterator[tuple[str, bytes]]:
        """Name and text of what waited for its store."""
        for found in self._lines():
            if "spill" in found:
                yield found["spill"], _bytes(found["text"]) or b""

    def _lines(self) -> Iterator[dict[str, Any]]:
        with self._path.open("rb") as file:
            yield from map(_parsed, file)


def _refuse_existing(path: Path) -> None:
    if path.exists():
        raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), str(path))


def _header(path: Path, line: bytes) -> str:
    found = _parsed(line)
    if found.get("format") != _FORMAT:
        raise StoreError(f"{path} is not a backup of idiolectd; nothing was restored from it")
    version = found.get("version")
    if version != _VERSION:
        needs = str(found.get("needs"))[:20]
        raise StoreError(
            f"{path} is a backup of version {version!a}, and this program knows version {_VERSION}: it needs idiolectd"
            f" {needs!a} or newer; nothing was restored from it"
        )
    return str(found.get("taken_at"))


def _parsed(line: bytes) -> dict[str, Any]:
    try:
        found = json.loads(line)
    except (ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}


def _text(stored: bytes | None) -> str | None:
    # What is stored need not be UTF-8.
    return None if stored is None else stored.decode("utf-8", "surrogateescape")


def _bytes(text: str | None) -> bytes | None:
    return None if text is None else text.encode("utf-8", "surrogateescape")
