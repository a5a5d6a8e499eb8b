"""Finds out whether a daemon runs on a store: reads its lock, and its note for people beside the lock.

The note (``daemon.json``) counts only while the lock (``daemon.lock``) is held, because a killed process
leaves its note behind. The daemon writes both; they are only read here.
"""

import json
import os
from dataclasses import dataclass, field, fields
from pathlib import Path

from idiolectd.store.error_translation import translated
from idiolectd.store.format import FORMAT
from idiolectd.store.locks.ofd import is_held

PRESENCE_LOCK = "daemon.lock"
PRESENCE_NOTE = "daemon.json"


@dataclass(frozen=True)
class Presence:
    """What a running daemon notes about itself.

    Attributes:
        pid: its process ID.
        since: when it started, RFC 3339.
        version: which idiolectd it is.
        config: its configuration file, if it has one.
        format: the store's format; see `idiolectd.store.format`.
        paused: issuers to which nothing is sent for the time being, as of the last note.
        outrun: issuers that allow fewer refreshes than their sessions need, as of the last note.
        unpersisted: sessions whose new tokens could not be saved yet, as of the last note.
        view_trouble: why the clients' view is not as the store is, as of the last note.
    """

    pid: int
    since: str
    version: str
    config: str | None = None
    format: int = FORMAT
    paused: list[str] = field(default_factory=list)
    outrun: list[str] = field(default_factory=list)
    unpersisted: list[str] = field(default_factory=list)
    view_trouble: str | None = None


def read_presence(folder: Path | None) -> Presence | None:
    """The running daemon of a store; None if there is none, or this user may not see it."""
    if folder is None or not is_held(folder / PRESENCE_LOCK):
        return None
    try:
        found = json.loads((folder / PRESENCE_NOTE).read_bytes())
        # A newer daemon may note more fields.
        return Presence(**{f.name: found[f.name] for f in fields(Presence) if f.name in found})
    except (OSError, ValueError, TypeError):
        return None


def is_daemon_running(folder: Path | None) -> bool | None:
    """Whether a daemon runs on a store; None: this user may not see it.

    Args:
        folder: the store's `runtime_dir`; None: a store in memory has no daemon.

    Raises:
        StoreError: it can't be told.
    """
    if folder is None:
        return False
    lock = folder / PRESENCE_LOCK
    with translated(f"can't look at {lock}"):
        try:
            lock.stat()
        except FileNotFoundError:
            return False
        except PermissionError:  # a reader of the store, who may not enter its private folder
            return None
    return is_held(lock) if os.access(lock, os.R_OK) else None
