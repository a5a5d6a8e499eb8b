"""Who may read a store's records: nobody but its owner, or a group."""

import grp
import os
import stat
import time
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

from idiolectd.errors import StoreError
from idiolectd.store.durable import PRIVATE, Access, grant

# How often the group database is asked (it may be a server in the network): a group that is made anew
# has another number, and a daemon runs for years.
_ASK_AGAIN = 60.0


class RecordAccess:
    """Who may read the records now. Group members may read, never write.

    Args:
        group: a group's name; None: nobody but the owner.
        key: the key of the configuration that names it, for messages.

    Raises:
        StoreError: there is no such group.
    """

    def __init__(self, group: str | None, key: str = "store.group") -> None:
        self._group = group
        self._known = PRIVATE
        self._asked_at = time.monotonic()
        if group is not None:
            try:
                self._known = Access(0o640, grp.getgrnam(group).gr_gid)
            except KeyError:
                raise StoreError(f"there is no group {group!r} ({key}); make it, or name another") from None

    def now(self) -> Access:
        """What files should be given; as before while the group can't be found. May block."""
        if self._group is not None and time.monotonic() - self._asked_at > _ASK_AGAIN:
            self._asked_at = time.monotonic()
            with suppress(KeyError, OSError):
                self._known = Access(0o640, grp.getgrnam(self._group).gr_gid)
        return self._known

    def within(self, folder: Path) -> Access:
        """As `now`, for what is made in a folder that root may have made for the group. May block.

        In a user namespace (the service's ``PrivateUsers``) no other group can be given. A folder with the setgid
        bit passes its own on, and only the mode is left to give.

        Raises:
            OSError: there is no such folder.
        """
        access = self.now()
        if access.gid is None or _can_be_named(access.gid) or not folder.stat().st_mode & stat.S_ISGID:
            return access
        return replace(access, gid=None)


def secure_file(path: Path, access: Access) -> None:
    """Gives a file of ours the permissions that it should have; of nobody else's.

    Raises:
        OSError: it is gone, a link, or refused.
    """
    fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        found = os.fstat(fd)
        is_as_it_should_be = stat.S_IMODE(found.st_mode) == access.mode and access.gid in (None, found.st_gid)
        if stat.S_ISREG(found.st_mode) and found.st_uid == os.geteuid() and not is_as_it_should_be:
            grant(fd, access)
    finally:
        os.close(fd)


def _can_be_named(gid: int) -> bool:
    """Whether the group exists in this process' user namespace (user_namespaces(7))."""
    ranges = [map(int, line.split()) for line in Path("/proc/self/gid_map").read_text().splitlines()]
    return any(first <= gid < first + count for first, _, count in ranges)
