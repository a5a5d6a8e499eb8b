"""How the operating system's and SQLite's errors become `StoreError`: in one place, with advice."""

import errno
import sqlite3
from types import TracebackType

from idiolectd.errors import LockBusy, StoreError

_NO_SPACE = "free some disk space, or raise the quota"
_NO_PERMISSION = "run as the store's owner; clients that only read need the group of store.group"
_READ_ONLY = "make the file system writable"
_OPEN_FILES = "raise the limit of open files (LimitNOFILE= in systemd)"
_BROKEN_DISK = "look at the disk and the kernel's log"

_BY_ERRNO = {
    errno.ENOSPC: _NO_SPACE,
    errno.EDQUOT: _NO_SPACE,
    errno.EFBIG: "raise the file size limit (ulimit -f)",
    errno.EACCES: _NO_PERMISSION,
    errno.EPERM: _NO_PERMISSION,
    errno.EROFS: _READ_ONLY,
    errno.EMFILE: _OPEN_FILES,
    errno.ENFILE: _OPEN_FILES,
    errno.EIO: _BROKEN_DISK,
    errno.ENOENT: "check the store's path, and that its disk is mounted",
    errno.ENOTDIR: "check the store's path: a part of it is not a folder",
    errno.ELOOP: "a symbolic link stands where the store keeps a file of its own; remove it",
}

# To write all the same would be a mistake of ours.
ONLY_LOOKING = "the store was opened to look at it only"

# A reader without write permission, and nobody keeps the side files there for him.
_SIDE_FILES = (
    "a client that may only read needs the -wal and -shm files beside the database, which are there while "
    "idiolectd runs and after it has stopped in order; whoever may write runs this as the store's owner"
)

# By the primary result code (https://www.sqlite.org/rescode.html).
_BY_SQLITE_CODE = {
    sqlite3.SQLITE_NOTADB: "it is not an SQLite database; check the store's path. It was left as it is",
    sqlite3.SQLITE_CORRUPT: (
        "it is damaged and was left as it is; stop its users and restore a backup, "
        "or save what is readable with sqlite3's .recover"
    ),
    sqlite3.SQLITE_FULL: _NO_SPACE,
    sqlite3.SQLITE_READONLY: _SIDE_FILES,
    sqlite3.SQLITE_PERM: _NO_PERMISSION,
    sqlite3.SQLITE_IOERR: _BROKEN_DISK + ", and whether it is full",
    sqlite3.SQLITE_CANTOPEN: "check the path and its permissions; " + _SIDE_FILES,
}
_BUSY = (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED)


class translated:  # noqa: N801 -- used as the function that `contextlib` would make, at a quarter of its cost
    """Raises what goes wrong inside as `StoreError`: what was tried, what was found, what to do.

    Args:
        what: what was tried, with the path, as in "can't write /srv/x".
    """

    __slots__ = ("_what",)

    def __init__(self, what: str) -> None:
        self._what = what

    def __enter__(self) -> None:
        pass

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if isinstance(error, OSError):
            raise StoreError(described(self._what, error)) from error
        if isinstance(error, sqlite3.Error):
            # An error of Python's own module (a wrong thread, say) has no code.
            code = getattr(error, "sqlite_errorcode", 0) & 0xFF
            if code in _BUSY:
                message = _sentence(self._what, str(error), "another program keeps it locked; try again")
                raise LockBusy(message) from error
            raise StoreError(_sentence(self._what, str(error), _BY_SQLITE_CODE.get(code))) from error


def described(what: str, error: OSError) -> str:
    """What was tried, what the operating system said, and what to do."""
    return _sentence(what, error.strerror or str(error), _BY_ERRNO.get(error.errno or 0))


def _sentence(what: str, found: str, advice: str | None) -> str:
    return f"{what}: {found}" + (f"; {advice}" if advice else "")
