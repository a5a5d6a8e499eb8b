"""Who runs on this store: a lock that the kernel frees, and a note for people beside it.

The note (``daemon.json``) is believed only while the lock (``daemon.lock``) is held: a process that
was killed can't tidy up.
"""

import contextlib
import json
import os
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path

from idiolectd import __version__
from idiolectd.clock import rfc3339
from idiolectd.errors import LockBusy, StoreError
from idiolectd.store import is_held, replace_file, try_exclusive

_LOCK = "daemon.lock"
_NOTE = "daemon.json"


@dataclass(frozen=True)
class Presence:
    """What a running daemon says of itself.

    Attributes:
        pid: its process.
        since: when it started, RFC 3339.
        version: which idiolectd it is.
        config: its configuration file, if it has one.
        paused: issuers that nothing is sent to now, as of the last note.
        unpersisted: sessions whose new tokens could not be saved yet, as of the last note.
    """

    pid: int
    since: str
    version: str
    config: str | None = None
    paused: list[str] = field(default_factory=list)
    unpersisted: list[str] = field(default_factory=list)


class Daemonship:
    """Being the one daemon of a store; `note` tells others about it."""

    def __init__(self, folder: Path | None) -> None:
        self._folder = folder

    def note(self, presence: Presence) -> None:
        """Replaces the note. Failing to is no reason to stop: the lock is what counts."""
        if self._folder is not None:
            with contextlib.suppress(OSError, StoreError):
                replace_file(self._folder / _NOTE, json.dumps(asdict(presence)).encode())


@contextlib.contextmanager
def hold_daemonship(folder: Path | None) -> Iterator[Daemonship]:
    """Becomes the one daemon of a store.

    Args:
        folder: the store's `runtime_dir`; None: a store in memory has no rivals.

    Raises:
        LockBusy: another daemon runs on this store; the message names its pid.
    """
    if folder is None:
        yield Daemonship(None)
        return
    try:
        lock = try_exclusive(folder / _LOCK)
    except LockBusy:
        found = read_presence(folder)
        who = f"with pid {found.pid}, since {found.since}" if found is not None else "that has just started"
        raise LockBusy(f"another idiolectd runs on this store, {who}; stop it first") from None
    with lock:
        yield Daemonship(folder)


def read_presence(folder: Path | None) -> Presence | None:
    """The running daemon of a store; None if there is none, or this user may not know."""
    if folder is None or not is_held(folder / _LOCK):
        return None
    try:
        found = json.loads((folder / _NOTE).read_bytes())
        return Presence(**found)
    except (OSError, ValueError, TypeError):
        return None


def clock_behind(folder: Path | None, now: float) -> float:
    """How many seconds the wall clock stands behind the one that the last daemon's note was written by.

    A machine that boots without a clock starts in 1970, and an operator may have set it back.
    """
    try:
        return max(0.0, (folder / _NOTE).stat().st_mtime - now) if folder is not None else 0.0
    except OSError:
        return 0.0


def own_presence(now: float, config: Path | None) -> Presence:
    """What this process says of itself.

    Args:
        now: seconds since the epoch.
        config: its configuration file.
    """
    return Presence(
        pid=os.getpid(), since=rfc3339(now), version=__version__, config=str(config) if config else None
    )
