"""Keeps every stored ATProto session of a host alive.

What a client program needs is here; the daemon is ``idiolectd run``. Names and meaning follow the
Rust crate idiolect-oauth, whose stores this package shares::

    auth = SessionAuth("sqlite:///var/lib/idiolectd/sessions.sqlite", "did:plc:...")
    async with httpx.AsyncClient(auth=auth) as http:
        await http.post(url, json=...)

    async with open_store() as store:
        session = await store.load("did:plc:...")
        headers = auth_headers(session, "GET", url)

Each name is imported when it is first used: a program that only reads a store pays for no HTTP. The
distribution without extras has what reads a store and signs requests; stores that are written, refreshing and
the command line need ``idiolectd[daemon]``.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

__version__ = "0.5.0"

if TYPE_CHECKING:
    from idiolectd.adapters.httpx import SessionAuth
    from idiolectd.auth import auth_headers
    from idiolectd.errors import (
        BodyUsedUp,
        ConfigError,
        DidError,
        HandleError,
        IdiolectError,
        LockBusy,
        NoSessionError,
        NothingSent,
        RecordError,
        RefreshError,
        RefreshFailed,
        SessionError,
        SessionRefused,
        StoreError,
        TokenRefused,
        TokenWithheld,
        TryLater,
    )
    from idiolectd.ports import OAuthTokenStore, Refresher, SharedStore
    from idiolectd.refresh import refresh_if_needed
    from idiolectd.session import OAuthSession
    from idiolectd.store import (
        FilesystemOAuthTokenStore,
        InMemoryOAuthTokenStore,
        SqliteOAuthTokenStore,
        load_session,
        open_store,
    )

__all__ = [
    "BodyUsedUp",
    "ConfigError",
    "DidError",
    "FilesystemOAuthTokenStore",
    "HandleError",
    "IdiolectError",
    "InMemoryOAuthTokenStore",
    "LockBusy",
    "NoSessionError",
    "NothingSent",
    "OAuthSession",
    "OAuthTokenStore",
    "RecordError",
    "RefreshError",
    "RefreshFailed",
    "Refresher",
    "SessionAuth",
    "SessionError",
    "SessionRefused",
    "SharedStore",
    "SqliteOAuthTokenStore",
    "StoreError",
    "TokenRefused",
    "TokenWithheld",
    "TryLater",
    "auth_headers",
    "load_session",
    "open_store",
    "refresh_if_needed",
]

_HOMES = {
    "SessionAuth": "adapters.httpx",
    "auth_headers": "auth",
    "OAuthTokenStore": "ports",
    "Refresher": "ports",
    "SharedStore": "ports",
    "refresh_if_needed": "refresh",
    "OAuthSession": "session",
    "FilesystemOAuthTokenStore": "store",
    "InMemoryOAuthTokenStore": "store",
    "SqliteOAuthTokenStore": "store",
    "load_session": "store",
    "open_store": "store",
}


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    try:
        return getattr(import_module(f"{__name__}.{_HOMES.get(name, 'errors')}"), name)
    except ModuleNotFoundError as missing:
        from idiolectd.errors import missing_extra

        raise ImportError(f"idiolectd.{name} can't be used: {missing_extra(missing)}") from missing


def __dir__() -> list[str]:
    return [*__all__, "__version__"]
