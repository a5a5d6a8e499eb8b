"""From a store URL to an open store."""

import os
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from idiolectd.clock import Clock
from idiolectd.ports import SharedStore
from idiolectd.store.files.file_store import FilesystemOAuthTokenStore
from idiolectd.store.key_ring import read_keys, read_keys_at_hand
from idiolectd.store.memory import InMemoryOAuthTokenStore
from idiolectd.store.sealing import NO_KEYS, Keys
from idiolectd.store.sqlite.sqlite_store import SqliteOAuthTokenStore
from idiolectd.store_url import parse_store_url

if TYPE_CHECKING:
    from idiolectd.config import StoreConfig


@asynccontextmanager
async def open_store(
    url: str | None = None,
    *,
    group: str | None = None,
    spill_dir: str | None = None,
    looking: bool = False,
    clock: Clock | None = None,
    keys: Keys | None = None,
) -> AsyncIterator[SharedStore]:
    """Opens the store that a URL or a path names.

    Args:
        url: see `idiolectd.store_url.parse_store_url`; None: the configured store, found as the
            commands find it, with its `store.group`, `store.spill_dir` and `store.keys`.
        group: a group whose members may read the records; None: nobody.
        spill_dir: where tokens are spilled that the store would not take; None: where the store says,
            else see `idiolectd.store.spill_places`.
        looking: nothing is changed on disk, and nothing can be written.
        clock: where the time comes from.
        keys: seal and open secrets; not for a store in memory, which seals nothing.

    Raises:
        ConfigError: it is not a store URL, or the configuration is wrong.
        StoreError: it can't be opened.
    """
    if url is None:
        from idiolectd.config import load_config

        configured = load_config(None, os.environ).store
        url, group = configured.url, group or configured.group
        spill_dir = spill_dir or configured.spill_dir
        keys = keys or read_keys(configured)
    keys = keys or NO_KEYS
    parsed = parse_store_url(url)
    place = Path(spill_dir) if spill_dir is not None else None
    match parsed.kind:
        case "memory":
            async with InMemoryOAuthTokenStore.open(clock=clock) as memory:
                yield memory
        case "file":
            async with FilesystemOAuthTokenStore.open(
                parsed.path, group=group, spill_dir=place, looking=looking, clock=clock, keys=keys
            ) as files:
                yield files
        case "sqlite":
            async with SqliteOAuthTokenStore.open(
                parsed.path, group=group, spill_dir=place, looking=looking, clock=clock, keys=keys
            ) as database:
                yield database


def open_configured_store(
    config: "StoreConfig", *, looking: bool = False
) -> AbstractAsyncContextManager[SharedStore]:
    """Opens the store as the daemon and every command open it.

    Args:
        config: the section ``[store]``.
        looking: as `open_store`.

    Raises:
        As `open_store`.
    """
    keys = (read_keys_at_hand if looking else read_keys)(config)
    return open_store(config.url, group=config.group, spill_dir=config.spill_dir, looking=looking, keys=keys)
