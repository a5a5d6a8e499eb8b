"""Reads a client's session, from a store that is named by its URL or from one that is already open.

An open store belongs to its event loop and is read there. Synchronous programs read the files of the same
store without a loop, if it is one of our stores.
"""

import os
from typing import Protocol

from idiolectd.auth.signing import Credentials
from idiolectd.did import is_meant_as_did, parse_did
from idiolectd.errors import ConfigError, LockBusy, NoSessionError, StoreError
from idiolectd.jose import token_hash
from idiolectd.session import OAuthSession
from idiolectd.store import KnownRecord, MemoryReading, Reading, find_did, open_reading


class OpenStore(Protocol):
    """What is read of an open store (`idiolectd.OAuthTokenStore`)."""

    async def load(self, did: str) -> OAuthSession | None:
        """See `idiolectd.ports.OAuthTokenStore.load`."""
        ...


# The forms in which a client program may name a store.
Store = OpenStore | str | os.PathLike[str] | None

_MEMORY = "memory:"


class SessionSource:
    """Reads one account's record in one store. Any number of tasks and threads may share it.

    Args:
        store: an open store, a store URL or path, or None: the configured view of clients, or store if there
            is no view.
        account: a DID, or the confirmed handle of a stored session. A handle is looked up once, at the
            first request, by reading every record; later requests use its DID.

    Raises:
        ConfigError: there is no such store, or the configuration is wrong.
        DidError: the account begins like a DID but is not one.
    """

    def __init__(self, store: Store, account: str) -> None:
        self._store: OpenStore | None = None
        self.reading: Reading | None
        if store is None or isinstance(store, str | os.PathLike):
            self.reading = open_reading(None if store is None else os.fspath(store))
        else:
            self._store = store
            self.reading = _reading_of(store)
        # The record as it was last read, and what was made of it: most often it is the same again.
        self._last: tuple[KnownRecord, Credentials] | None = None
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
        return self.reading is not None and self.reading.url != _MEMORY

    def load(self) -> Credentials:
        """Those of the session as it is stored now. Blocks.

        Raises:
            NoSessionError: nothing is stored for the account.
            HandleError: the handle is confirmed for none of the sessions that carry it, or for several.
            RecordError: the record is unreadable.
            StoreError: the store can't answer, or not without an event loop.
        """
        if self.reading is None:
            raise StoreError(
                f"{self.place} can be read in an event loop only; use an async client, or name the store by its URL"
            )
        did = self._did = self._did or find_did(self.reading, self._account)
        return self._read(self.reading, did, waiting=True)

    async def aload(self) -> Credentials:
        """As `load`, without blocking."""
        if self._store is not None and self._did is not None:
            session = await self._store.load(self._did)
            if session is None:
                raise NoSessionError(self._did)
            return Credentials(session)
        try:
            if self.reading is not None and self._did is not None:
                # In the event loop: see `idiolectd.store.reading`.
                return self._read(self.reading, self._did, waiting=False)
        except LockBusy:
            pass
        # A handle is looked up, or a foreign program is committing: a thread waits, so that the event loop goes on.
        import anyio.to_thread

        return await anyio.to_thread.run_sync(self.load)

    def tell_refusal(self, session: OAuthSession) -> None:
        """Leaves a word for the daemon that the session's access token is refused, if it listens to clients."""
        from idiolectd.store import tell_refusal  # rarely needed

        if self.reading is not None and self.reading.refusals is not None:
            tell_refusal(self.reading.refusals, session.did, token_hash(session.access_jwt))

    def _read(self, reading: Reading, did: str, *, waiting: bool) -> Credentials:
        last = self._last
        found = reading.record(did, None if last is None else last[0], waiting=waiting)
        if found is None:
            raise NoSessionError(did)
        if last is None or found is not last[0]:
            last = self._last = found, Credentials(found.session)
        return last[1]


def _reading_of(store: OpenStore) -> Reading | None:
    from idiolectd.store import InMemoryOAuthTokenStore

    if isinstance(store, InMemoryOAuthTokenStore):
        return MemoryReading(store)
    try:
        from idiolectd.store import FilesystemOAuthTokenStore, SqliteOAuthTokenStore
    except ModuleNotFoundError:  # without the extra "daemon" it can be none of them
        return None
    if isinstance(store, FilesystemOAuthTokenStore | SqliteOAuthTokenStore):
        return open_reading(store.url, keys=store.keys)
    return None
