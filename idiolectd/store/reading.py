"""From a store URL to a session, without an event loop. See `idiolectd.store.blocking`."""

import contextlib
import os

from idiolectd.did import parse_did
from idiolectd.errors import ConfigError, NoSessionError, RecordError
from idiolectd.session import OAuthSession
from idiolectd.store.blocking import Reading, shared_reading
from idiolectd.store.claimants import Claimants
from idiolectd.store.sqlite.database_reading import BUSY_PATIENCE
from idiolectd.store.store_url import parse_store_url


def load_session(url: str | None, account: str) -> OAuthSession:
    """The session of an account as it is stored now; blocks for well below a millisecond.

    For programs without an event loop; others have `OAuthTokenStore.load`.

    Args:
        url: a store URL or a path; None: the configured store.
        account: a DID, or a stored session's handle, once confirmed. For a handle every record is read.

    Raises:
        ConfigError: it is not a store URL, or the configuration is wrong.
        NoSessionError: nothing is stored for the account.
        DidError: it starts like a DID and is none.
        HandleError: the handle is confirmed for none of the sessions that carry it, or for several.
        RecordError: the record is unreadable.
        StoreError: the store can't answer.
    """
    reading = open_reading(url)
    did = find_did(reading, account)
    session = reading.load(did, patience=BUSY_PATIENCE)
    if session is None:
        raise NoSessionError(did)
    return session


def open_reading(url: str | None) -> Reading:
    """The reading side of a store; opens nothing yet, so the store may come later. Needs no closing.

    Args:
        url: a store URL or a path; None: the configured store.

    Raises:
        ConfigError: it is not a store URL, names a store in memory, or the configuration is wrong.
    """
    if url is None:
        from idiolectd.config import load_config

        url = load_config(None, os.environ).store.url
    parsed = parse_store_url(url)
    if parsed.kind == "memory":
        raise ConfigError("memory: would be a new and empty store; pass the open store itself")
    return shared_reading(parsed)


def find_did(reading: Reading, account: str) -> str:
    """The DID that is meant by a DID, or by the handle of a stored session.

    Raises:
        As `load_session`.
    """
    if account.startswith("did:"):
        return parse_did(account)
    claimants = Claimants(account)
    for did in reading.dids():
        with contextlib.suppress(RecordError):
            claimants.take(reading.load(did, patience=BUSY_PATIENCE))
    return claimants.the_one()
