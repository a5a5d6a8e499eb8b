"""Keeps every stored ATProto session of a host alive.

What a client program needs is here; the daemon is ``idiolectd run``. Names and meaning follow the
Rust crate idiolect-oauth, whose stores this package shares::

    async with open_store("sqlite:///var/lib/idiolectd/sessions.sqlite") as store:
        session = await store.load("did:plc:...")
        headers = auth_headers(session, "GET", url)
"""

__version__ = "0.1.0"

from idiolectd.auth import auth_headers
from idiolectd.errors import (
    DidError,
    IdiolectError,
    LockBusy,
    NoSessionError,
    RecordError,
    RefreshError,
    RefreshFailed,
    SessionError,
    StoreError,
)
from idiolectd.ports import OAuthTokenStore, Refresher, SharedStore
from idiolectd.refresh import refresh_if_needed
from idiolectd.session import OAuthSession
from idiolectd.store import (
    FilesystemOAuthTokenStore,
    InMemoryOAuthTokenStore,
    SqliteOAuthTokenStore,
    open_store,
)

__all__ = [
    "DidError",
    "FilesystemOAuthTokenStore",
    "IdiolectError",
    "InMemoryOAuthTokenStore",
    "LockBusy",
    "NoSessionError",
    "OAuthSession",
    "OAuthTokenStore",
    "RecordError",
    "RefreshError",
    "RefreshFailed",
    "Refresher",
    "SessionError",
    "SharedStore",
    "SqliteOAuthTokenStore",
    "StoreError",
    "auth_headers",
    "open_store",
    "refresh_if_needed",
]
