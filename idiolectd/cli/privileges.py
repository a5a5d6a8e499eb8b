"""A command that runs as root becomes the store's owner before it opens the store.

Two things could go wrong otherwise. Files that root creates in the store (a side file of SQLite, a lock)
would be closed to the store's owner, the daemon. And a user can replace whatever lies in his folders by a
link into root's folders, which root would follow: see `idiolectd.cli.named_place`.
"""

import os
import pwd
from collections.abc import Mapping, MutableMapping
from pathlib import Path

from idiolectd.cli.exits import CommandFailed, ExitCode
from idiolectd.cli.named_place import NamedPlace, StoreOwner, look_at, refused
from idiolectd.config import Config, user_name
from idiolectd.errors import ConfigError
from idiolectd.store_url import parse_store_url

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


def owner_to_become(url: str) -> StoreOwner | None:
    """Returns the user that this process has to become before it opens a store; None: no change is needed.

    A store that does not exist yet belongs to the owner of the nearest folder above it.

    Raises:
        ConfigError: `url` is no store URL.
        CommandFailed: the path can't be examined, or somebody else than its owner can replace it.
    """
    store = parse_store_url(url)
    if os.geteuid() != 0 or store.kind == "memory":
        return None
    owner = _looked_at(store.path).owner
    return owner if owner.uid != 0 else None


def service_user(config: Config, *, making: bool) -> StoreOwner | None:
    """Returns the user that root becomes if the place of the configured store is root's: ``service.user``.

    Call it only with a configuration that is root's, or that root has named: root makes a folder for this user.

    Args:
        config: names the store, and the service's user.
        making: for a command that stores sessions: makes the store's folder, as the service's unit does.

    Raises:
        ConfigError: ``service.user`` does not exist.
        CommandFailed: there is a store, and it is root's; or the folder can't be made.
    """
    store, user = parse_store_url(config.store.url), config.service.user
    if os.geteuid() != 0 or store.kind == "memory" or user is None or config.store_named_by == "--store":
        return None
    try:
        account = pwd.getpwnam(user)
    except KeyError:
        raise ConfigError(
            f"service.user: there is no user {user}; make it, or name the one that runs the service"
        ) from None
    if account.pw_uid == 0:
        return None
    if not _looked_at(store.path).missing:
        all_of_it = store.path if store.kind == "file" else f"{store.path}*"  # side files, and our folder
        raise refused(
            store.path, f"it belongs to root, and the service runs as {user}: chown -R {user}: {all_of_it}"
        )
    owner = StoreOwner(account.pw_uid, account.pw_gid)
    if making:
        _make_folder(store.path if store.kind == "file" else store.path.parent, owner)
    return owner


def _make_folder(folder: Path, owner: StoreOwner) -> None:
    """Makes a folder of another user's below folders that only root can change."""
    above = [path for path in (folder, *folder.parents) if not path.exists()]
    try:
        for path in reversed(above):
            path.mkdir(0o750 if path == folder else 0o755)
        if above:
            os.chown(folder, owner.uid, owner.gid, follow_symlinks=False)
    except OSError as error:
        raise CommandFailed(ExitCode.FAILED, f"can't make {folder}: {error.strerror}") from None


def _looked_at(path: Path) -> NamedPlace:
    try:
        return look_at(path)
    except OSError as error:
        raise CommandFailed(ExitCode.FAILED, f"can't look at {path}: {error.strerror}") from None


def refuse_foreign_configuration(file: Path, owner: StoreOwner | None) -> None:
    """Refuses a configuration file that belongs neither to root nor to the store's owner, if root found it.

    The file is searched in ``$HOME``, and `sudo` may have kept the caller's.

    Raises:
        CommandFailed: the file belongs to another user.
    """
    if os.geteuid() != 0:
        return
    found = _looked_at(file).owner.uid
    if found not in (0, owner.uid if owner is not None else 0):
        raise CommandFailed(
            ExitCode.USAGE,
            f"{file} belongs to {user_name(found)}, and root would use it; if that is right: --config {file}",
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
            ExitCode.FAILED, f"can't become {user_name(owner.uid)}: {error.strerror}; run this as that user"
        ) from None
    environ.clear()
    environ.update(changed)
