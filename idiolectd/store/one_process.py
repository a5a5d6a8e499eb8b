"""A store of the caller's own, for a program that is the only one that uses it.

A store with the four methods of `OAuthTokenStore` has no claims and keeps no notes, so two processes on it would end
sessions. In one process both can live in memory: tasks queue, and after a lost answer the session waits as it does
elsewhere. What is in memory is gone with the process; a crash between the server's answer and the save loses a
session, as it would without us.
"""

from collections.abc import Awaitable
from typing import TypeVar
from weakref import WeakKeyDictionary

from idiolectd.clock import Clock
from idiolectd.errors import IdiolectError, StoreError
from idiolectd.ports import Committed, OAuthTokenStore, ScheduleEntry, StoredSession
from idiolectd.session import OAuthSession, Tokens
from idiolectd.state import RefreshState
from idiolectd.store.memory import InMemoryOAuthTokenStore
from idiolectd.store.merge import encode_record, merge_commit
from idiolectd.store.sealing import NO_KEYS

T = TypeVar("T")


class OneProcessStore(InMemoryOAuthTokenStore):
    """Keeps claims and states in memory, and records in the caller's store.

    Args:
        theirs: the caller's store. What it raises becomes `StoreError`.
        clock: wall-clock time, if not the machine's.
    """

    def __init__(self, theirs: OAuthTokenStore, *, clock: Clock | None = None) -> None:
        super().__init__(clock=clock)
        self.url = type(theirs).__name__
        self._theirs = theirs

    @classmethod
    def over(cls, theirs: OAuthTokenStore, *, clock: Clock | None = None) -> "OneProcessStore":
        """The one for this store: all of a program's calls share claims and states."""
        found = _known.get(theirs)
        if found is None:
            found = _known[theirs] = cls(theirs, clock=clock)
        return found

    async def read(self, did: str) -> StoredSession:
        """See `SharedStore.read`."""
        await self._look(did)
        return await super().read(did)

    async def commit(
        self,
        read: OAuthSession,
        state: RefreshState,
        *,
        tokens: Tokens | None = None,
        due: ScheduleEntry | None = None,
    ) -> Committed:
        """See `SharedStore.commit`; new tokens are saved before they count here."""
        await self._look(read.did)
        if tokens is not None:
            merged = merge_commit(self._stored(read.did), read, state, tokens)
            if isinstance(merged, Committed):
                return merged
            await self._asked("save", self._theirs.save(merged))
        return await super().commit(read, state, tokens=tokens, due=due)

    async def save(self, session: OAuthSession) -> None:
        """See `OAuthTokenStore.save`."""
        await self._asked("save", self._theirs.save(session))
        await super().save(session)

    async def _look(self, did: str) -> None:
        """Takes over the record as their store has it."""
        session = await self._asked("load", self._theirs.load(did))
        if session is None:
            self._records.pop(did, None)
        else:
            self._records[did] = encode_record(session, place=self._place(did), keys=NO_KEYS)

    async def _asked(self, what: str, answer: Awaitable[T]) -> T:
        try:
            return await answer
        except IdiolectError:
            raise
        except Exception as error:
            # Its text may quote tokens; its type can't.
            raise StoreError(f"{self.url}.{what} raised {type(error).__name__}") from error


_known: WeakKeyDictionary[OAuthTokenStore, OneProcessStore] = WeakKeyDictionary()
