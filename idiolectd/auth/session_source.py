"""Reads a client's session, from a store that is named by its URL or from one that is already open.

An open store belongs to its event loop and is read there. Synchronous programs read the files of the same
store without a loop, if it is one of our stores.
"""

import os
from functools import partial

import anyio.lowlevel
import anyio.to_thread

from idiolectd.did import is_meant_as_did, parse_did
from idiolectd.errors import ConfigError, LockBusy, NoSessionError, StoreError
from idiolectd.ports import OAuthTokenStore
from idiolectd.session import OAuthSession
from idiolectd.store import (
    BUSY_TIMEOUT,
    InMemoryOAuthTokenStore,
    MemoryReading,
    Reading,
    find_did,
    open_reading,
)

# The forms in which a client program may name a store.
Store = OAuthTokenStore | str | os.PathLike[str] | None


class SessionSource:
    """Reads one account's record in one store. Any number of tasks and threads may share it.

    Args:
        store: an open store, a store URL or path, or None: the configured store.
        account: a DID, or the confirmed handle of a stored session. A handle is looked up once, at the
            first request, by reading every record; later requests use its DID.

    Raises:
        ConfigError: there is no such store, or the configuration is wrong.
        DidError: the account begins like a DID but is not one.
    """

    def __init__(self, store: Store, account: str) -> None:
        self._store: OAuthTokenStore | None = None
        self.reading: Reading | None
        if store is None or isinstance(store, str | os.PathLike):
            self.reading = open_reading(None if store is None else os.fspath(store))
        else:
            self._store = store
            self.reading = _reading_of(store)
        self._account = account
        self._did = parse_did(account) if is_meant_as_did(account) else None
        if self._did is None and self.reading is None:
            raise ConfigError(f"{self.place} can't be searched for the handle {account}; name the DID")

    @property
    def place(self) -> str:
        """The store's name in messages."""
        return self.reading.url if self.reading is not None else type(self._store).__name__

    @property
    def account(self) -> str:
        """The account's DID, or the handle that was given as long as that has not been looked up."""
        return self._did or self._account

    @property
    def is_shared(self) -> bool:
        """Whether other processes can open this store by its URL, which is then `place`."""
        return self.reading is not None and self.reading.url != InMemoryOAuthTokenStore.url

    def load(self) -> OAuthSession:
        """The session as it is stored now. Blocks.

        Raises:
            NoSessionError: nothing is stored for the account.
            HandleError: the handle is confirmed for none of the sessions that carry it, or for several.
            RecordError: the record is unreadable.
            StoreError: the store can't answer, or not without an event loop.
        """
        if self.reading is None:
            raise StoreError(
                f"{self.place} can be read in an event loop only; use httpx.AsyncClient, or name the store"
                " by its URL"
            )
        did = self._did = self._did or find_did(self.reading, self._account)
        return _found(did, self.reading.load(did, patience=BUSY_TIMEOUT))

    async def aload(self) -> OAuthSession:
        """The session as it is stored now.

        Raises:
            As `load`.
        """
        if self._did is None:
            assert self.reading is not None  # noqa: S101 - see the constructor
            self._did = await anyio.to_thread.run_sync(find_did, self.reading, self._account)
        if self._store is not None:
            return _found(self._did, await self._store.load(self._did))
        return _found(self._did, await self._read(self._did))

    async def _read(self, did: str) -> OAuthSession | None:
        assert self.reading is not None  # noqa: S101 - see the constructor
        await anyio.lowlevel.checkpoint()
        try:
            return self.reading.load(did)  # in the event loop: see `idiolectd.store.reading`
        except LockBusy:
            # A foreign program is committing. Wait for it in a thread, so that the event loop goes on.
            wait = partial(self.reading.load, did, patience=BUSY_TIMEOUT)
            return await anyio.to_thread.run_sync(wait)


def _found(did: str, session: OAuthSession | None) -> OAuthSession:
    if session is None:
        raise NoSessionError(did)
    return session


def _reading_of(store: OAuthTokenStore) -> Reading | None:
    from idiolectd.store import FilesystemOAuthTokenStore, SqliteOAuthTokenStore

    match store:
        case InMemoryOAuthTokenStore():
            return MemoryReading(store)
        case FilesystemOAuthTokenStore(url=url) | SqliteOAuthTokenStore(url=url):
            return open_reading(url)
        case _:
            return None
