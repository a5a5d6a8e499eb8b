"""Where sessions are kept: in memory, as files, or in SQLite, with the same meaning."""

from idiolectd.store.durable import replace_file
from idiolectd.store.filesystem import FilesystemOAuthTokenStore
from idiolectd.store.memory import InMemoryOAuthTokenStore
from idiolectd.store.ofd import is_held, try_exclusive
from idiolectd.store.opening import open_store
from idiolectd.store.spill import SpillFolder
from idiolectd.store.sqlite import SqliteOAuthTokenStore
from idiolectd.store.urls import StoreUrl, parse_store_url

__all__ = [
    "FilesystemOAuthTokenStore",
    "InMemoryOAuthTokenStore",
    "SpillFolder",
    "SqliteOAuthTokenStore",
    "StoreUrl",
    "is_held",
    "open_store",
    "parse_store_url",
    "replace_file",
    "try_exclusive",
]
