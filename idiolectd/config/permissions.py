"""What a user who may not read a path can ask an administrator for."""

import grp
import os
import pwd
import stat
from contextlib import suppress
from pathlib import Path


def user_name(uid: int | None = None) -> str:
    """Returns a user's name, or the number if there is none; None: the user of this process."""
    wanted = os.geteuid() if uid is None else uid
    try:
        return pwd.getpwuid(wanted).pw_name
    except KeyError:
        return str(wanted)


def way_in(path: Path) -> str:
    """Returns what gives this user access to a path that he may not read: sudo, or a group if one may."""
    group = _group_that_may(path)
    if group is None:
        return "type sudo before the command"
    return (
        f"type sudo before the command, or ask an administrator for the group {group}"
        f" (usermod -aG {group} {user_name()}, and a new login)"
    )


def _group_that_may(path: Path) -> str | None:
    """Returns the group that the first path which is closed to this user lets in; None: it lets none in."""
    for place in (*reversed(path.parents), path):
        try:
            found = place.stat()
        except OSError:
            return None
        is_folder = stat.S_ISDIR(found.st_mode)
        if os.access(place, os.X_OK if is_folder and place != path else os.R_OK, effective_ids=True):
            continue
        if found.st_gid != 0 and found.st_mode & (stat.S_IXGRP if is_folder else stat.S_IRGRP):
            with suppress(KeyError):
                return grp.getgrgid(found.st_gid).gr_name
        return None
    return None
