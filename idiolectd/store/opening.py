"""From a store URL to an open store."""

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from idiolectd.clock import Clock
from idiolectd.ports import SharedStore
from idiolectd.store.files.store import FilesystemOAuthTokenStore
from idiolectd.store.memory import InMemoryOAuthTokenStore
from idiolectd.store.sqlite.store import SqliteOAuthTokenStore
from idiolectd.store.urls import parse_store_url


@asynccontextmanager
async def open_store(
    url: str | None = None, *, group: str | None = None, clock: Clock | None = None
) -> AsyncIterator[SharedStore]:
    """Opens the store that a URL or a path names.

    Args:
        url: see `idiolectd.store.urls.parse_store_url`; None: the configured store, found as the
            commands find it, with its `store.group`.
        group: a group whose members may read the records; None: nobody.
        clock: where the time comes from.

    Raises:
        ConfigError: it is not a store URL, or the configuration is wrong.
        StoreError: it can't be opened.
    """
    if url is None:
        from idiolectd.config import load_config

        configured = load_config(None, os.environ).store
        url, group = configured.url, group or configured.group
    parsed = parse_store_url(url)
    match parsed.kind:
        case "memory":
            async with InMemoryOAuthTokenStore.open(clock=clock) as memory:
                yield memory
        case "file":
            async with FilesystemOAuthTokenStore.open(parsed.path, group=group, clock=clock) as files:
                yield files
        case "sqlite":
            async with SqliteOAuthTokenStore.open(parsed.path, group=group, clock=clock) as database:
                yield database
