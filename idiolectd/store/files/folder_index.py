"""What the sessions of a folder were when the daemon last looked at them, so that nobody need read each again.

::

    STORE/.idiolectd/index     a line of JSON for each look: what was found, and in which files

A look counts while record and state still are the files that it names (inode, time of change, size); of two
looks at the same files the later one counts. So whatever other programs did meanwhile is seen by listing the folder.
The index is derived, and written without fsync: if it is missing, damaged or of another version, all
sessions are read.

Only the process that watches the store writes it. Everything but `add` blocks.
"""

import json
import os
import threading
from collections.abc import Iterator, Mapping, Set
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

from idiolectd.ports import ScheduleEntry
from idiolectd.session import OAuthSession, normal_handle
from idiolectd.state import RefreshState, attention
from idiolectd.store.durable import NewFile, Stamp
from idiolectd.store.files.bounded import fingerprint

_HEADER = b'["idiolectd folder index", 1]\n'

# What the fields of a look are in JSON.
_KINDS = (str, str, str, str, str, float | int | None, float | int, str)

# The file is written anew when so many of its lines count no more for each one that does, and some.
_SPARE, _SOME = 2, 10_000


class Look(NamedTuple):
    """What a look at one session found.

    Attributes:
        name: of the record's file.
        files: the `fingerprint` of record and state.
        did: whose.
        attention: see `idiolectd.state.attention`.
        handle: as it is compared; empty: none.
        at: of the session's schedule entry, as are the next two; None: it has none.
        expires_at: see `ScheduleEntry`.
        server: see `ScheduleEntry`.
    """

    name: str
    files: str
    did: str
    attention: str
    handle: str
    at: float | None = None
    expires_at: float = 0.0
    server: str = ""

    def planned(self, entry: ScheduleEntry | None) -> "Look":
        """The look with the schedule entry that followed from it."""
        if entry is None:
            return self
        return self._replace(at=entry.at, expires_at=entry.expires_at, server=entry.server)

    @property
    def entry(self) -> ScheduleEntry | None:
        """The session's schedule entry."""
        if self.at is None:
            return None
        return ScheduleEntry(self.at, self.did, self.expires_at, self.server)


def look(name: str, session: OAuthSession, state: RefreshState, files: tuple[Stamp, Stamp]) -> Look:
    """What was found in a record of this name and its state."""
    handle = normal_handle(session.known_as or "")
    return Look(name, fingerprint(*files), session.did, attention(state), handle)


class FolderIndex:
    """The index of one folder.

    Args:
        runtime_dir: the store's private folder.
    """

    def __init__(self, runtime_dir: Path) -> None:
        self._path = runtime_dir / "index"
        self._guard = threading.Lock()
        self._new: list[Look] = []
        self._lines = 0

    def add(self, look: Look) -> None:
        """Takes a look along; `flush` writes it."""
        self._new.append(look)

    def flush(self, names: Set[str]) -> None:
        """Appends what was added. What can't be written is looked at again by the next process.

        Args:
            names: the names in the folder, as far as known: the others are left out when the file is written anew.
        """
        new, self._new = self._new, []
        if not new:
            return
        with self._guard, suppress(OSError):
            flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW
            fd = os.open(self._path, flags, 0o600)
            try:
                # A line break first: the last line may have been cut short, as this write may be.
                os.write(fd, (b"\n" if os.fstat(fd).st_size else _HEADER) + b"".join(map(_line, new)))
            finally:
                os.close(fd)
            self._lines += len(new)
            if self._lines > _SPARE * len(names) + _SOME:
                last = {each.name: each for each in self._read() if each.name in names}
                again = NewFile(self._path, _HEADER + b"".join(map(_line, last.values())))
                try:
                    again.write()
                    again.take_place()
                finally:
                    again.discard()
                self._lines = len(last)

    def looks(self, listed: Mapping[str, str]) -> dict[str, Look]:
        """The looks that count, by file name.

        Args:
            listed: the `fingerprint` of what the folder holds, by file name.
        """
        with self._guard:
            self._lines = 0
            return {each.name: each for each in self._read() if listed.get(each.name) == each.files}

    def find(self, handle: str) -> list[str]:
        """DIDs of sessions that had a handle when they were looked at."""
        with self._guard:
            return list({each.did for each in self._read() if each.handle == handle})

    def _read(self) -> Iterator[Look]:
        with suppress(OSError), self._path.open("rb") as file:
            if file.readline() != _HEADER:
                return
            for line in file:
                self._lines += 1
                found = _look(line)
                if found is not None:
                    yield found


def _line(of: Look) -> bytes:
    return json.dumps(of, separators=(",", ":")).encode() + b"\n"


def _look(line: bytes) -> Look | None:
    """What a line says; None: it was cut short, or damaged."""
    try:
        row = json.loads(line)
        is_whole = len(row) == len(Look._fields) and all(map(isinstance, row, _KINDS))
    except (ValueError, TypeError, RecursionError):
        return None
    return Look(*row) if is_whole else None
