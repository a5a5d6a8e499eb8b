"""Room on the disk, made sure of before a token is sent.

The note before the request is a small write that may just fit where the tokens after it do not. What
a quota allows is not asked: it has no portable answer, and for what still fails there is the spill.
"""

import os
from pathlib import Path

from idiolectd.errors import StoreError
from idiolectd.store.trouble import translated

# Room for the records of all that can be under way at once, and for a WAL that grows meanwhile.
ROOM = 1024 * 1024


def ensure_room(folder: Path) -> None:
    """Raises `StoreError` if the file system of `folder` has less than `ROOM` left for us. Blocks."""
    with translated(f"can't look at the room on {folder}"):
        found = os.statvfs(folder)
    free = found.f_bavail * found.f_frsize
    if free < ROOM:
        raise StoreError(
            f"only {free // 1024} KiB are free on {folder}; no refresh is sent below {ROOM // 1024} KiB,"
            " because its tokens might not fit: free some disk space"
        )
