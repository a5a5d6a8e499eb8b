"""Room on the disk and descriptors to write with, made sure of before a token is sent.

The note before the request is a small write that may just fit where the tokens after it do not. What
a quota allows is not asked: it has no portable answer, and for what still fails there is the spill.
Where files can't be opened any more, neither store nor spill takes what arrives.
"""

import contextlib
import errno
import os
import threading
import time
from collections.abc import Callable
from pathlib import Path

from idiolectd.errors import StoreError
from idiolectd.finish import in_thread
from idiolectd.store.error_translation import translated
from idiolectd.store.in_place import InPlace

# Room for the records of all that can be under way at once, and for a WAL that grows meanwhile.
ROOM = 1024 * 1024

# What one refresh may write until the next look: two commits' pages, each once more at a checkpoint.
_ROOM_EACH = 128 * 1024

# A commit needs four at a time, its spill two; connections that are begun meanwhile need one each.
DESCRIPTORS = 16

# So many refreshes may begin after one look, each with a connection of its own.
_REFRESHES = 16

# How long one look counts, in seconds.
_GOOD_FOR = 1.0

# One at a time tries: else the attempts alone would use up what is left.
_trying = threading.Lock()


class RoomCheck:
    """Makes sure that what a refresh brings can be written, with few looks at the disk.

    One look counts for a second, and for as many refreshes (`_REFRESHES` at most) as what it found beyond
    the reserve has room for. Of many refreshes at once, those that it has no room for count again in place,
    and wait for nobody.

    Args:
        folder: where the store lies.
        also: what has to be in order besides, on another disk perhaps; called in a thread, about once a
            second, after a look that found enough. May block.
    """

    def __init__(self, folder: Path, also: Callable[[], None]) -> None:
        self._folder = folder
        self._also = also
        self._in_place = InPlace()
        self._left = 0
        self._until = 0.0
        self._is_looking = False

    async def ensure(self) -> None:
        """Makes sure for one refresh.

        Raises:
            StoreError: see `ensure_room`. The next call looks again.
        """
        is_new = time.monotonic() < self._until
        if is_new and self._left > 0:
            self._left -= 1
        elif is_new or (self._is_looking and self._until):
            await self._in_place.run(self._count)
        else:
            self._is_looking = True
            try:
                await in_thread(self._look)
            finally:
                self._is_looking = False

    def _count(self) -> None:
        self._left = 0
        self._left = ensure_room(self._folder) - 1

    def _look(self) -> None:
        self._count()
        self._also()
        self._until = time.monotonic() + _GOOD_FOR


def ensure_room(folder: Path) -> int:
    """Looks whether what a refresh brings can be written; returns for how many refreshes it can. Blocks.

    Raises:
        StoreError: the file system of `folder` has less than `ROOM` left for us, or this process fewer than
            `DESCRIPTORS` descriptors.
    """
    spare = _spare_descriptors()
    with translated(f"can't look at the room on {folder}"):
        found = os.statvfs(folder)
    free = found.f_bavail * found.f_frsize
    if free < ROOM:
        raise StoreError(
            f"only {free // 1024} KiB are free on {folder}; no refresh is sent below {ROOM // 1024} KiB,"
            " because its tokens might not fit: free some disk space"
        )
    return 1 + min(spare, (free - ROOM) // _ROOM_EACH)


def _spare_descriptors() -> int:
    """How many files can be opened beyond `DESCRIPTORS`; more than `_REFRESHES` are not counted."""
    opened = 0
    with _trying, contextlib.ExitStack() as files, translated("can't tell how many files can be opened"):
        try:
            for opened in range(DESCRIPTORS + _REFRESHES):  # noqa: B007 - counted when it fails
                files.callback(os.close, os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC))
        except OSError as error:
            if error.errno not in (errno.EMFILE, errno.ENFILE):
                raise
            if opened < DESCRIPTORS:
                raise StoreError(
                    f"fewer than {DESCRIPTORS} files can be opened still; no refresh is sent, because its tokens"
                    " might not be saved: raise the limit of open files (LimitNOFILE= in systemd)"
                ) from None
            return opened - DESCRIPTORS
    return _REFRESHES - 1
