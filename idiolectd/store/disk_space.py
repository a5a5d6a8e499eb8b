"""Room on the disk and descriptors to write with, made sure of before a token is sent.

The note before the request is a small write that may just fit where the tokens after it do not. What
a quota allows is not asked: it has no portable answer, and for what still fails there is the spill.
Where files can't be opened any more, neither store nor spill takes what arrives.
"""

import contextlib
import errno
import os
import threading
from pathlib import Path

from idiolectd.errors import StoreError
from idiolectd.store.error_translation import translated

# Room for the records of all that can be under way at once, and for a WAL that grows meanwhile.
ROOM = 1024 * 1024


# A commit needs four at a time, its spill two; connections that are begun meanwhile need one each.
DESCRIPTORS = 16

# One at a time tries: else the attempts alone would use up what is left.
_trying = threading.Lock()


def ensure_room(folder: Path) -> None:
    """Makes sure that what a refresh brings can be written. Blocks.

    Raises:
        StoreError: the file system of `folder` has less than `ROOM` left for us, or this process fewer than
            `DESCRIPTORS` descriptors.
    """
    _ensure_descriptors()
    with translated(f"can't look at the room on {folder}"):
        found = os.statvfs(folder)
    free = found.f_bavail * found.f_frsize
    if free < ROOM:
        raise StoreError(
            f"only {free // 1024} KiB are free on {folder}; no refresh is sent below {ROOM // 1024} KiB,"
            " because its tokens might not fit: free some disk space"
        )


def _ensure_descriptors() -> None:
    with _trying, contextlib.ExitStack() as opened, translated("can't tell how many files can be opened"):
        try:
            for _ in range(DESCRIPTORS):
                opened.callback(os.close, os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC))
        except OSError as error:
            if error.errno not in (errno.EMFILE, errno.ENFILE):
                raise
            raise StoreError(
                f"fewer than {DESCRIPTORS} files can be opened still; no refresh is sent, because its tokens"
                " might not be saved: raise the limit of open files (LimitNOFILE= in systemd)"
            ) from None
