"""Root becomes the store's owner before it opens the store.

Files that root creates in a folder of somebody else (a side file of SQLite, a lock) would lock their
owner, the daemon, out of its own store.
"""

import os
import pwd
from pathlib import Path

from idiolectd.cli.exits import CommandFailed, ExitCode
from idiolectd.store import parse_store_url


def become_owner(store_url: str) -> None:
    """Changes to the user who owns the store, if this is root and the owner is somebody else.

    A store that does not exist yet belongs to the owner of the nearest folder above it.

    Raises:
        ConfigError: it is no store URL.
        CommandFailed: the owner can't be told, or the change is refused.
    """
    store = parse_store_url(store_url)
    if os.geteuid() != 0 or store.kind == "memory":
        return
    try:
        uid, gid = owner(store.path)
        if uid == 0:
            return
        try:
            account = pwd.getpwuid(uid)
        except KeyError:  # a user without a name, as in containers
            os.setgroups([gid])
        else:
            gid = account.pw_gid
            os.initgroups(account.pw_name, gid)
        os.setgid(gid)
        os.setuid(uid)
    except OSError as error:
        raise CommandFailed(
            ExitCode.FAILED, f"can't become the owner of {store_url}: {error.strerror}; run this as that user"
        ) from None


def owner(path: Path) -> tuple[int, int]:
    """User and group IDs of a path, or of the nearest existing folder above it."""
    for existing in (path, *path.parents):
        try:
            found = existing.stat()
        except (FileNotFoundError, NotADirectoryError):
            continue
        return found.st_uid, found.st_gid
    raise FileNotFoundError(2, os.strerror(2), str(path))
