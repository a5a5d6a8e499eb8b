"""Whose a named path is, found without following a link that another user made.

A user can replace whatever lies in his folders by a link into root's folders, or into a third user's, at any
moment. So the path is walked from the root folder by descriptors, each name opened without following it
(``O_NOFOLLOW``). Links that belong to root are followed. At the first link of another user the walk ends: the
place is that user's, whatever the link names, and the kernel checks his permissions wherever it leads.
"""

import errno
import os
import stat
from collections import deque
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from idiolectd.cli.exits import CommandFailed, ExitCode
from idiolectd.config import user_name

# As the kernel's own limit: path_resolution(7).
_MOST_LINKS = 40


@dataclass(frozen=True)
class StoreOwner:
    """The user who owns the store's path.

    Attributes:
        uid: the user.
        gid: the group of the file found there; used only if the user has no entry in the user database.
    """

    uid: int
    gid: int


@dataclass(frozen=True)
class NamedPlace:
    """What a path names.

    Attributes:
        owner: the owner of what lies there, or of the nearest folder above it.
        missing: the names at the end of the path that do not exist yet.
    """

    owner: StoreOwner
    missing: tuple[str, ...]


def look_at(path: Path) -> NamedPlace:
    """Walks a path as the module's docstring describes.

    Raises:
        CommandFailed: a user other than the owner can replace what the path names.
        OSError: the path can't be examined.
    """
    with ExitStack() as stack:
        walk = _Walk(stack)
        rest = deque(path.parts[1:])
        links = 0
        while rest:
            name = rest.popleft()
            try:
                found = walk.enter(name)
            except (FileNotFoundError, NotADirectoryError):
                rest.appendleft(name)
                break
            if not stat.S_ISLNK(found.st_mode):
                continue
            if found.st_uid != 0 or walk.replaceable_by:
                rest.clear()
                break
            links += 1
            if links > _MOST_LINKS:
                raise OSError(errno.ELOOP, os.strerror(errno.ELOOP), str(path))
            target = Path(os.readlink("", dir_fd=walk.here))
            walk.leave_link(absolute=target.is_absolute())
            rest.extendleft(reversed(target.parts[1:] if target.is_absolute() else target.parts))
        owner = StoreOwner(walk.found.st_uid, walk.found.st_gid)
        for uid in walk.replaceable_by - {owner.uid}:
            by, to = user_name(uid), user_name(owner.uid)
            raise refused(
                path,
                f"it belongs to {to}, in a folder of {by}, who can replace it;"
                f" to give it to {by}: chown -h {by} {walk.path}",
            )
        return NamedPlace(owner, tuple(rest))


class _Walk:
    """A walk down from the root folder. Descriptors are closed with `stack`.

    Attributes:
        here: the descriptor of what was entered last.
        path: its path.
        found: what it is.
        replaceable_by: the users other than root in whose folders the walk has been: they can replace it.
    """

    def __init__(self, stack: ExitStack) -> None:
        self._stack = stack
        self.replaceable_by: set[int] = set()
        self.path = Path("/")
        self.here = self._above = self._opened("/")
        self.found = os.fstat(self.here)

    def enter(self, name: str) -> os.stat_result:
        """Enters a name in the present folder, which may be a link.

        Raises:
            CommandFailed: every user can replace what lies in the present folder.
            OSError: the name can't be opened.
        """
        mode, owner = self.found.st_mode, self.found.st_uid
        if name != ".." and mode & stat.S_IWOTH and not mode & stat.S_ISVTX:
            raise refused(self.path, f"every user can replace what lies in {self.path}")
        below = self._opened(name, self.here)
        if name != ".." and owner != 0:
            self.replaceable_by.add(owner)
        self._above, self.here = self.here, below
        self.path = self.path.parent if name == ".." else self.path / name
        self.found = os.fstat(below)
        return self.found

    def leave_link(self, *, absolute: bool) -> None:
        """Goes back to the folder in which the link was entered; `absolute`: to the root folder."""
        self.here = self._opened("/") if absolute else self._above
        self.path = Path("/") if absolute else self.path.parent
        self.found = os.fstat(self.here)

    def _opened(self, name: str, folder: int | None = None) -> int:
        descriptor = os.open(name, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=folder)
        self._stack.callback(os.close, descriptor)
        return descriptor


def refused(place: Path, why: str) -> CommandFailed:
    """Returns the error for a place that root does not open."""
    return CommandFailed(ExitCode.FAILED, f"{place} is not opened as root: {why}")
