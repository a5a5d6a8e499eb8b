"""A command that runs as root becomes the store's owner before it opens the store.

Two things could go wrong otherwise. Files that root creates in the store (a side file of SQLite, a lock)
would be closed to the store's owner, the daemon. And a user can replace whatever lies in his folders by a
link into root's folders, which root would follow.

So `owner_of` walks the path from the root folder and follows only links that belong to root. At the first
link of another user it stops, and the command becomes that user: the kernel then checks his permissions
wherever the link leads.
"""

import os
import pwd
import stat
from collections import deque
from collections.abc import Mapping, MutableMapping
from dataclasses import dataclass
from pathlib import Path

from idiolectd.cli.exits import CommandFailed, ExitCode
from idiolectd.store_url import parse_store_url

# As the kernel's own limit: path_resolution(7).
_MOST_LINKS = 40

# The variables that a command keeps when it becomes another user: those about the terminal, about idiolectd,
# and of the service manager's protocol. The others name root's folders, sockets and agents.
_KEPT = frozenset(
    {
        "COLUMNS",
        "CREDENTIALS_DIRECTORY",
        "FORCE_COLOR",
        "LANG",
        "LANGUAGE",
        "LINES",
        "NOTIFY_SOCKET",
        "NO_COLOR",
        "PATH",
        "SSL_CERT_DIR",
        "SSL_CERT_FILE",
        "TERM",
        "TZ",
        "WATCHDOG_PID",
        "WATCHDOG_USEC",
    }
)
_KEPT_PREFIXES = ("ATPROTO_", "IDIOLECTD_", "IDIOLECT_", "LC_", "PYTHON")


@dataclass(frozen=True)
class StoreOwner:
    """The user who owns the store's path.

    Attributes:
        uid: the user.
        gid: the group of the file found there; used only if the user has no entry in the user database.
    """

    uid: int
    gid: int


def owner_to_become(url: str) -> StoreOwner | None:
    """Returns the user that this process has to become before it opens a store; None: no change is needed.

    A store that does not exist yet belongs to the owner of the nearest folder above it.

    Raises:
        ConfigError: `url` is no store URL.
        CommandFailed: the path can't be examined, or belongs to root where another user can replace it.
    """
    store = parse_store_url(url)
    if os.geteuid() != 0 or store.kind == "memory":
        return None
    try:
        owner = owner_of(store.path)
    except OSError as error:
        raise CommandFailed(ExitCode.FAILED, f"can't look at {store.path}: {error.strerror}") from None
    return owner if owner.uid != 0 else None


def owner_of(path: Path) -> StoreOwner:
    """Returns the owner of a path, as the module's docstring describes.

    Raises:
        CommandFailed: the path belongs to root, in a folder of another user.
        OSError: the path can't be examined.
    """
    here, rest = Path("/"), deque(path.parts[1:])
    found = here.lstat()
    replaceable_by: int | None = None  # the user who can replace it during the walk
    links = 0
    while rest:
        name = rest.popleft()
        if name == "..":
            here = here.parent
            continue
        if found.st_mode & stat.S_IWOTH and not found.st_mode & stat.S_ISVTX:
            raise _refused(here, f"every user can replace what lies in {here}")
        try:
            below = (here / name).lstat()
        except (FileNotFoundError, NotADirectoryError):
            break
        found = below
        if found.st_uid != 0 and stat.S_ISLNK(found.st_mode):
            return StoreOwner(found.st_uid, found.st_gid)
        if stat.S_ISLNK(found.st_mode):
            if replaceable_by is not None:
                break
            links += 1
            if links > _MOST_LINKS:
                raise OSError(40, os.strerror(40), str(path))
            target = (here / name).readlink()
            rest.extendleft(reversed(target.parts[1:] if target.is_absolute() else target.parts))
            here = Path("/") if target.is_absolute() else here
            found = here.lstat()
            continue
        here /= name
        if found.st_uid != 0:
            replaceable_by = found.st_uid
    if found.st_uid == 0 and replaceable_by is not None:
        raise _refused(
            path,
            f"it belongs to root, in a folder of {name_of(replaceable_by)}, who can replace it;"
            f" to give it to that user: chown -h {name_of(replaceable_by)} {here}",
        )
    return StoreOwner(found.st_uid, found.st_gid)


def refuse_foreign_configuration(file: Path, owner: StoreOwner | None) -> None:
    """Refuses a configuration file that belongs neither to root nor to the store's owner, if root found it.

    The file is searched in ``$HOME``, and `sudo` may have kept the caller's.

    Raises:
        CommandFailed: the file belongs to another user.
    """
    if os.geteuid() != 0:
        return
    try:
        found = owner_of(file).uid
    except OSError as error:
        raise CommandFailed(ExitCode.FAILED, f"can't look at {file}: {error.strerror}") from None
    if found not in (0, owner.uid if owner is not None else 0):
        raise CommandFailed(
            ExitCode.USAGE,
            f"{file} belongs to {name_of(found)}, and root would use it; if that is right: --config {file}",
        )


def environment_of(owner: StoreOwner, environ: Mapping[str, str]) -> dict[str, str]:
    """Returns the environment in which the command runs as that user."""
    kept = {
        name: value
        for name, value in environ.items()
        if name in _KEPT or (name.startswith(_KEPT_PREFIXES) and name != "IDIOLECT_SESSION_DIR")
    }
    try:
        account = pwd.getpwuid(owner.uid)
    except KeyError:  # a user without a name, as in containers
        return kept | {"HOME": "/"}
    return kept | {"HOME": account.pw_dir, "USER": account.pw_name, "LOGNAME": account.pw_name}


def become(owner: StoreOwner, environ: MutableMapping[str, str]) -> None:
    """Changes this process's groups, user and environment to that user's, irrevocably.

    Raises:
        CommandFailed: the change is refused.
    """
    changed = environment_of(owner, environ)
    try:
        try:
            account = pwd.getpwuid(owner.uid)
        except KeyError:
            gid = owner.gid
            os.setgroups([gid])
        else:
            gid = account.pw_gid
            os.initgroups(account.pw_name, gid)
        os.setresgid(gid, gid, gid)
        os.setresuid(owner.uid, owner.uid, owner.uid)
    except OSError as error:
        raise CommandFailed(
            ExitCode.FAILED, f"can't become {name_of(owner.uid)}: {error.strerror}; run this as that user"
        ) from None
    environ.clear()
    environ.update(changed)


def name_of(uid: int) -> str:
    """Returns a user's name, or the number if there is none."""
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return str(uid)


def _refused(place: Path, why: str) -> CommandFailed:
    return CommandFailed(ExitCode.FAILED, f"{place} is not opened as root: {why}")
