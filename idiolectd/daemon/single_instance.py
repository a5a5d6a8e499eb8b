"""Being the one daemon of a store: taking its lock, and keeping the note for people beside it.

What others see of it is read by `idiolectd.store.presence`.
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
    """Being the one daemon of a store; `note` tells others about it.

    Args:
        folder: the store's `runtime_dir`; None: a store in memory has no rivals.
        lock: what keeps others from being it.
    """

    def __init__(self, folder: Path | None, lock: HeldLock | None = None) -> None:
        self._folder = folder
        self._lock = lock

    def keep(self) -> None:
        """Takes the lock again if somebody removed its file: else a second daemon could start.

        Raises:
            LockBusy: one has.
            StoreError: the lock can't be taken now.
        """
        if self._folder is None or self._lock is None or self._lock.is_current():
            return
        if not self._folder.parent.exists():
            return  # the store itself is gone (a disk that was unmounted): nothing is made there
        lock, self._lock = self._lock, _taken(self._folder)
        lock.release()

    def give_up(self) -> None:
        """Lets another daemon start."""
        if self._lock is not None:
            self._lock.release()

    def note(self, presence: Presence) -> None:
        """Replaces the note. Failing to is no reason to stop: the lock is what counts."""
        if self._folder is not None:
            with contextlib.suppress(OSError, StoreError):
                replace_file(self._folder / PRESENCE_NOTE, json.dumps(asdict(presence)).encode())


@contextlib.contextmanager
def hold_single_instance(folder: Path | None) -> Iterator[SingleInstance]:
    """Becomes the one daemon of a store.

    Args:
        folder: the store's `runtime_dir`; None: a store in memory has no rivals.

    Raises:
        LockBusy: another daemon runs on this store; the message names its pid.
    """
    if folder is None:
        yield SingleInstance(None)
        return
    daemonship = SingleInstance(folder, _taken(folder))
    try:
        yield daemonship
    finally:
        daemonship.give_up()


def _taken(folder: Path) -> HeldLock:
    try:
        return try_exclusive(folder / PRESENCE_LOCK)
    except LockBusy:
        found = read_presence(folder)
        who = f"with pid {found.pid}, since {found.since}" if found is not None else "that has just started"
        raise LockBusy(f"another idiolectd runs on this store, {who}; stop it first") from None


def clock_behind(folder: Path | None, now: float) -> float:
    """How many seconds the wall clock stands behind the one that the last daemon's note was written by.

    A machine that boots without a clock starts in 1970, and an operator may have set it back.
    """
    try:
        return max(0.0, (folder / PRESENCE_NOTE).stat().st_mtime - now) if folder is not None else 0.0
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
