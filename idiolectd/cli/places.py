"""Which store and configuration a command uses, as messages name them; and those that it does not use.

A host can have two stores: the service's, which /etc/idiolectd/config.toml names, and a user's own. A login
into the other one than the daemon's would keep nothing alive, so both are named.
"""

import os
from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path

from idiolectd.cli.exits import CommandFailed, ExitCode
from idiolectd.config import SYSTEM_FILE, Config, default_store, user_name, way_in
from idiolectd.errors import ConfigError
from idiolectd.store_url import StoreUrl, parse_store_url


def named_store(config: Config) -> str:
    """Returns the store's URL and what names it, as in ``sqlite:///… (/etc/idiolectd/config.toml)``."""
    return f"{config.store.url} ({config.store_named_by or 'the default: no configuration names one'})"


def about_store(config: Config) -> str:
    """Returns what to add to an error of the store: which one it is, and sudo if it is another user's."""
    path = parse_store_url(config.store.url).path
    try:
        owner = path.stat().st_uid
    except OSError:
        owner = os.geteuid()
    todo = (
        "" if owner == os.geteuid() else f"; it belongs to {user_name(owner)}: type sudo before the command"
    )
    return f" [the store: {named_store(config)}{todo}]"


def unused_places(config: Config, environ: Mapping[str, str]) -> list[str]:
    """Returns the service's configuration and the user's own store if they exist and are not used."""
    with suppress(ConfigError):  # without a home folder there is no store in it
        return [*_unused_file(config), *_unused_store(config, default_store(environ))]
    return []


def _unused_file(config: Config) -> Iterator[str]:
    try:
        is_there = SYSTEM_FILE.exists()
    except OSError:  # its folder is closed to this user
        is_there = True
    if is_there and config.path != SYSTEM_FILE:
        yield f"the service's configuration {SYSTEM_FILE} is not used: {config.path} is"


def _unused_store(config: Config, folder: Path) -> Iterator[str]:
    other = StoreUrl("file", folder)
    if parse_store_url(config.store.url) == other:
        return
    with suppress(OSError), os.scandir(folder) as entries:
        if any(entry.name.endswith(".json") for entry in entries):
            yield f"sessions are in {folder} too, which is not used; to use it: --store {other}"


def require_access(config: Config) -> None:
    """Refuses a store that this user may not read, and names what to ask for.

    Raises:
        CommandFailed: the store exists, or can't be looked for, and is closed to this user.
    """
    store = parse_store_url(config.store.url)
    try:
        store.path.stat()
        is_open = os.access(store.path, os.R_OK, effective_ids=True)
    except PermissionError:
        is_open = False
    except OSError:  # there is none, or opening it reports the error
        return
    if not is_open and store.kind != "memory":
        todo = way_in(store.path)
        if config.store.group is None:
            todo += "; for a group of readers set store.group in the configuration"
        raise CommandFailed(
            ExitCode.FAILED, f"{user_name()} may not read the store {named_store(config)}: {todo}"
        )
