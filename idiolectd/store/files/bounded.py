"""Reads a file that any program may have put there: regular files only, up to a size limit."""

import errno
import os
import stat
from dataclasses import dataclass, field
from pathlib import Path

from idiolectd.errors import RecordError
from idiolectd.store.durable import Stamp, stamp_of
from idiolectd.store.record_text import too_large

# Errors that concern one file and not the whole store.
_OF_ONE_FILE = (errno.EACCES, errno.EPERM, errno.ELOOP, errno.EISDIR, errno.ENXIO)


@dataclass(frozen=True)
class Content:
    """What a file holds, and which file that is."""

    text: bytes = field(repr=False)
    stamp: Stamp


def read_bounded(path: Path, limit: int, did: str | None) -> Content | None:
    """A file's content; None if there is none.

    Raises:
        RecordError: it is larger than the limit, not a regular file, or not readable for this user.
        OSError: the store itself can't be read.
    """
    try:
        # Without O_NONBLOCK a FIFO would wait for its writer.
        fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except FileNotFoundError:
        return None
    except OSError as error:
        if error.errno in _OF_ONE_FILE and os.access(path.parent, os.X_OK):
            raise RecordError(str(path), error.strerror or "can't be opened", did=did) from error
        raise
    try:
        found = os.fstat(fd)
        if not stat.S_ISREG(found.st_mode):
            raise RecordError(str(path), "not a regular file", did=did)
        if found.st_size > limit:
            raise too_large(str(path), did)
        parts = []
        left = limit + 1  # it may grow while it is read
        while left and (part := os.read(fd, left)):
            parts.append(part)
            left -= len(part)
    finally:
        os.close(fd)
    if not left:
        raise too_large(str(path), did)
    return Content(b"".join(parts), stamp_of(found))


def fingerprint(record: Stamp, state: Stamp | None) -> str:
    """Names the two files of a session; None: nothing is known of it."""
    return ".".join(map(str, (*record, *(state or ()))))
