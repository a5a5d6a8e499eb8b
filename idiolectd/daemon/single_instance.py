"""Makes this process the only daemon of a store: takes the daemon's lock, and writes the presence note beside it.

`idiolectd.store.presence` reads both for other programs.
"""

import contextlib
import json
import os
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path

from idiolectd import __version__
from idiolectd.clock import rfc3339
from idiolectd.errors import LockBusy, StoreError
from idiolectd.store import (
    PRESENCE_LOCK,
    PRESENCE_NOTE,
    HeldLock,
    Presence,
    read_presence,
    replace_file,
    try_exclusive,
)


class SingleInstance:
    """The daemon's lock on a store, held.

    Args:
        folder: the store's `runtime_dir`; None: a store in memory, which no other process can open.
        lock: the lock; None: as for `folder`.
    """

    def __init__(self, folder: Path | None, lock: HeldLock | None = None) -> None:
        self._folder = folder
        self._lock = lock
        self._noted: Presence | None = None

    def keep(self, presence: Presence) -> None:
        """Takes the lock again if somebody has removed its file: else a second daemon could start. Renews the note.

        Raises:
            LockBusy: a second daemon has started.
            StoreError: the lock can't be taken now.
        """
        if self._folder is None or self._lock is None:
            return
        if not self._lock.is_current():
            if not self._folder.parent.exists():
                return  # the store itself is gone (a disk was unmounted): create nothing there
            lock, self._lock = self._lock, _taken(self._folder)
            lock.release()
        self.note(presence)

    def release(self) -> None:
        """Releases the lock, so that another daemon can start."""
        if self._lock is not None:
            self._lock.release()

    def note(self, presence: Presence) -> None:
        """Replaces the presence note; if it says the same, only its time. A failure is ignored: what counts is the lock."""
        if self._folder is None:
            return
        place = self._folder / PRESENCE_NOTE
        with contextlib.suppress(OSError, StoreError):
            if presence == self._noted:
                with contextlib.suppress(FileNotFoundError):
                    os.utime(place)
                    return
            replace_file(place, json.dumps(asdict(presence)).encode())
            self._noted = presence


@contextlib.contextmanager
def hold_single_instance(folder: Path | None) -> Iterator[SingleInstance]:
    """Holds the daemon's lock on a store during the block.

    Args:
        folder: the store's `runtime_dir`; None: a store in memory, which no other process can open.

    Raises:
        LockBusy: another daemon runs on this store; the message names its pid.
    """
    if folder is None:
        yield SingleInstance(None)
        return
    instance = SingleInstance(folder, _taken(folder))
    try:
        yield instance
    finally:
        instance.release()


def _taken(folder: Path) -> HeldLock:
    try:
        return try_exclusive(folder / PRESENCE_LOCK)
    except LockBusy:
        found = read_presence(folder)
        who = f"with pid {found.pid}, since {found.since}" if found is not None else "that has just started"
        raise LockBusy(f"another idiolectd runs on this store, {who}; stop it first") from None


def clock_behind(folder: Path | None, now: float) -> float:
    """How many seconds the wall clock stands behind the time of the last daemon's presence note.

    A machine without a clock of its own boots in 1970, and an operator may have set the clock back.
    """
    try:
        return max(0.0, (folder / PRESENCE_NOTE).stat().st_mtime - now) if folder is not None else 0.0
    except OSError:
        return 0.0


def own_presence(now: float, config: Path | None) -> Presence:
    """What the presence note says of this process.

    Args:
        now: seconds since the epoch.
        config: its configuration file.
    """
    return Presence(
        pid=os.getpid(), since=rfc3339(now), version=__version__, config=str(config) if config else None
    )
