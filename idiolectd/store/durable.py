"""Files that survive a crash whole: the old one or the new one, never a part.

A new file is written under a name of its own, made durable, and renamed over the old one; then the
folder is made durable. A failed fsync is final for that copy (the kernel may have dropped the pages
and would call the next one a success): whoever tries again calls `replace_file` again, which writes anew.

Everything here blocks; call it from a worker thread. It raises `OSError`.
"""

import os
import secrets
import stat
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

# No reader takes it for a record: it doesn't end in ".json". One can tell whose it is.
_TEMPORARY = ".idiolectd-"
_TEMPORARY_END = ".tmp"

# No write takes that long; a younger one may belong to a process that is writing now.
_ABANDONED = 3600.0


@dataclass(frozen=True)
class Access:
    """Who may read.

    Attributes:
        mode: the file's permission bits.
        gid: its group; None: whatever the system gives.
    """

    mode: int = 0o600
    gid: int | None = None


PRIVATE = Access()

# Distinguishes contents of a file without reading it: inode, time of change, size. A rename doesn't change it.
Stamp = tuple[int, int, int]


def stamp_of(found: os.stat_result) -> Stamp:
    """The stamp of a file."""
    return found.st_ino, found.st_mtime_ns, found.st_size


class NewFile:
    """New content for a file, which lies under a temporary name until it takes the file's place.

    `write`, `sync`, `take_place` and then `sync_folder`, in this order, make it durable. `discard` ends it
    wherever that stopped.

    Args:
        path: the file that will be replaced.
        data: what it will hold.
        access: who may read it. Until it is complete nobody but the owner can.

    Attributes:
        path: as given.
        stamp: which file the new one is, once it was synced.
    """

    stamp: Stamp

    def __init__(self, path: Path, data: bytes, access: Access = PRIVATE) -> None:
        self.path = path
        self._data = data
        self._access = access
        self._temporary: Path | None = None
        self._fd = -1

    def write(self) -> None:
        """Writes the content under its temporary name."""
        temporary = self.path.with_name(f"{_TEMPORARY}{secrets.token_hex(8)}{_TEMPORARY_END}")
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
        self._fd = os.open(temporary, flags, 0o600)
        self._temporary = temporary
        _write_all(self._fd, self._data)
        grant(self._fd, self._access)

    def sync(self) -> None:
        """Makes the content durable."""
        os.fsync(self._fd)
        self.stamp = stamp_of(os.fstat(self._fd))

    def take_place(self) -> None:
        """Replaces the file. Durable after `sync_folder` only."""
        if self._temporary is None:
            raise RuntimeError("write() first")
        self._close()
        self._temporary.rename(self.path)
        self._temporary = None

    def discard(self) -> None:
        """Removes what has not taken its place. Never raises; harmless when repeated."""
        with suppress(OSError):
            self._close()
        if self._temporary is not None:
            with suppress(OSError):
                self._temporary.unlink()
            self._temporary = None

    def _close(self) -> None:
        fd, self._fd = self._fd, -1
        if fd >= 0:
            os.close(fd)


def replace_file(path: Path, data: bytes, access: Access = PRIVATE) -> None:
    """Replaces a file durably. Readers see the old one or the new one.

    Args:
        path: the file.
        data: what it will hold.
        access: who may read it.
    """
    new = NewFile(path, data, access)
    try:
        new.write()
        new.sync()
        new.take_place()
    finally:
        new.discard()
    sync_folder(path.parent)


def remove(path: Path) -> bool:
    """Removes a file durably; returns whether there was one."""
    try:
        path.unlink()
    except FileNotFoundError:
        return False
    sync_folder(path.parent)
    return True


def is_older(path: Path, than: Path) -> bool:
    """Whether a file was last touched before another, by the time of change, which no program can set.

    False also if one of them can't be looked at.
    """
    with suppress(OSError):
        return path.stat().st_ctime_ns < than.stat().st_ctime_ns
    return False


def grant(fd: int, access: Access) -> None:
    """Gives an open file its group and mode, in that order: never readable by another group."""
    found = os.fstat(fd)
    # Only what it has not: the service's system calls are filtered, and it may neither give groups nor setgid bits.
    if access.gid not in (None, found.st_gid):
        os.fchown(fd, -1, access.gid)
    # Also without a group: the umask had a say in the mode that it was made with.
    if stat.S_IMODE(found.st_mode) != access.mode:
        os.fchmod(fd, access.mode)


def sync_folder(folder: Path) -> None:
    """Makes renames and removals in a folder durable."""
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def make_private_folder(folder: Path) -> None:
    """Makes a folder that only its owner can enter, and whatever is missing above it; durably.

    An existing one is closed to others, unless it is not a folder (a symbolic link isn't one) or not ours.
    """
    try:
        found = os.lstat(folder)
    except FileNotFoundError:
        if not folder.parent.exists():
            make_private_folder(folder.parent)
        with suppress(FileExistsError):  # another process was faster
            folder.mkdir(0o700)
            sync_folder(folder.parent)
        found = os.lstat(folder)
    if not stat.S_ISDIR(found.st_mode):
        raise NotADirectoryError(20, "is not a folder", str(folder))
    if found.st_uid != os.geteuid():  # whoever owns it can look into it
        raise PermissionError(1, "belongs to another user", str(folder))
    if stat.S_IMODE(found.st_mode) != 0o700:
        folder.chmod(0o700)


def sweep(folder: Path) -> None:
    """Removes temporary files that a crash has left behind: they hold tokens."""
    with os.scandir(folder) as entries:
        left = [e for e in entries if e.name.startswith(_TEMPORARY) and e.name.endswith(_TEMPORARY_END)]
    for entry in left:
        with suppress(FileNotFoundError):
            # File times are wall-clock; a clock that jumps can only make a sweep late or too eager
            # by an hour, and then the other process' rename fails and is tried again.
            if time.time() - entry.stat(follow_symlinks=False).st_mtime > _ABANDONED:
                Path(entry.path).unlink()


def _write_all(fd: int, data: bytes) -> None:
    rest = memoryview(data)
    while rest:  # a short write is legal (write(2))
        rest = rest[os.write(fd, rest) :]
