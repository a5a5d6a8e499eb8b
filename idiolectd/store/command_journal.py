"""What commands have done, for the daemon's log: a small file beside the daemon's lock.

A command appends a line when it is done; the daemon takes the lines with its next sign of life. While no daemon
runs the lines stay, the newest of them, for the log of the next one. A line that can't be written, or is lost with
a crash, is missing in the log and nowhere else: nothing is decided by them.
"""

import fcntl
import json
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, fields
from pathlib import Path

from idiolectd.events import SessionCommand

JOURNAL = "commands.jsonl"

# Bytes. A full journal loses its older half.
_MOST = 64 * 1024

# How often, and how many seconds apart, a command tries to get the file for itself.
_TRIES, _PAUSE = 20, 0.05

_FIELDS = frozenset(field.name for field in fields(SessionCommand))


def note_command(folder: Path | None, event: SessionCommand) -> None:
    """Appends a line. Never raises: the command has done its work.

    Args:
        folder: the store's `runtime_dir`; None: it has none.
        event: what was done.
    """
    if folder is None:
        return
    line = json.dumps({name: value for name, value in asdict(event).items() if value is not None}).encode()
    with suppress(OSError), _opened(folder / JOURNAL, os.O_RDWR | os.O_CREAT | os.O_APPEND) as descriptor:
        if not _locked(descriptor, tries=_TRIES):
            return
        size = os.fstat(descriptor).st_size
        if size + len(line) > _MOST:
            kept = os.pread(descriptor, size, 0)[-_MOST // 2 :].partition(b"\n")[2]
            os.ftruncate(descriptor, 0)
            os.write(descriptor, kept)
        os.write(descriptor, line + b"\n")


def take_commands(folder: Path | None) -> list[SessionCommand]:
    """Takes all lines, oldest first. A journal that can't be read, or is being written, has none.

    Args:
        folder: the store's `runtime_dir`; None: it has none.
    """
    if folder is None:
        return []
    with suppress(OSError):
        if os.stat(folder / JOURNAL).st_size == 0:  # noqa: PTH116 - asked every few seconds
            return []
        with _opened(folder / JOURNAL, os.O_RDWR) as descriptor:
            if _locked(descriptor, tries=1):
                text = os.pread(descriptor, 2 * _MOST, 0)
                os.ftruncate(descriptor, 0)
                return [event for line in text.splitlines() if (event := _event(line)) is not None]
    return []


def _event(line: bytes) -> SessionCommand | None:
    try:
        found = json.loads(line)
        known = {name: value for name, value in found.items() if name in _FIELDS}
        return SessionCommand(**known)
    except (ValueError, TypeError, AttributeError, RecursionError):  # torn, or a newer program's
        return None


@contextmanager
def _opened(path: Path, flags: int) -> Iterator[int]:
    descriptor = os.open(path, flags | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    try:
        yield descriptor
    finally:
        os.close(descriptor)  # and unlocked


def _locked(descriptor: int, *, tries: int) -> bool:
    for _ in range(tries):
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            time.sleep(_PAUSE)
        else:
            return True
    return False
