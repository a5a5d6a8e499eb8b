"""Root becomes the store's owner before it opens the store.

Files that root creates in a folder of somebody else (a side file of SQLite, a lock) would lock their
owner, the daemon, out of its own store. And whatever lies in a place of somebody else's he can replace
by a link to somewhere else: followed by root, it leads into root's own folders.

So the *named* place decides: the path is walked from the root folder, and only what belongs to root is
believed. The first link of somebody else's ends the walk; its owner is who the command becomes, and
where the link leads is then between him and the kernel.
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

# What a command keeps of root's environment: what the person at the terminal sees and has said about
# idiolectd, and the service manager's own protocol. Everything else is root's: folders, sockets, agents.
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
    """The user to whom the named place belongs.

    Attributes:
        uid: the user.
        gid: the group of what was found there; the user's own one counts, where he has a name.
    """

    uid: int
    gid: int


def owner_to_become(url: str) -> StoreOwner | None:
    """Whom this process has to become before it opens a store; None: it is the right user already.

    A store that does not exist yet belongs to the owner of the nearest folder above it.

    Raises:
        ConfigError: it is no store URL.
        CommandFailed: it can't be told, or the place is root's where somebody else can replace it.
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
    """The user whose place a path names. See the module.

    Raises:
        CommandFailed: it is root's, in a place of somebody else's.
        OSError: it can't be told.
    """
    here, rest = Path("/"), deque(path.parts[1:])
    found = here.lstat()
    replaceable_by: int | None = None  # who can put something else there while we look
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
            f"it is root's, in a folder of {name_of(replaceable_by)}, who can replace it;"
            f" if it is meant to be his: chown -h {name_of(replaceable_by)} {here}",
        )
    return StoreOwner(found.st_uid, found.st_gid)


def refuse_foreign_configuration(file: Path, owner: StoreOwner | None) -> None:
    """Raises if root found a configuration that is neither root's nor the store owner's.

    It is found in a home folder; and `sudo` may have kept that of the person who called it.

    Raises:
        CommandFailed: it is somebody else's.
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
            f"{file} is a configuration of {name_of(found)}'s, found by root; if it is meant: --config {file}",
        )


def environment_of(owner: StoreOwner, environ: Mapping[str, str]) -> dict[str, str]:
    """The environment in which a command of root's runs as that user."""
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
    """Turns this process into that user's, for good: groups, user, environment.

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
    """A user's name, or the number of one who has none."""
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return str(uid)


def _refused(place: Path, why: str) -> CommandFailed:
    return CommandFailed(ExitCode.FAILED, f"{place} is not opened as root: {why}")
