"""A store in this process's memory: for tests and for programs without a disk.

The same promises as the others' as far as one process goes. It keeps the text of records, not the
objects, so that whatever can't be stored elsewhere can't be stored here either.
"""

from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Self

import anyio
import anyio.lowlevel

from idiolectd.clock import Clock, SystemClock
from idiolectd.did import parse_did
from idiolectd.errors import RecordError
from idiolectd.ports import (
    FULL_BATCH,
    Called,
    Committed,
    FirstPlan,
    Overview,
    ScheduleEntry,
    Spill,
    StoredCopy,
    StoredSession,
    Survey,
)
from idiolectd.session import OAuthSession, Tokens
from idiolectd.state import RefreshState
from idiolectd.store.change_set import ChangeSet
from idiolectd.store.due_index import DueIndex
from idiolectd.store.locks.queues import Queues
from idiolectd.store.merge import (
    Merged,
    decode_state,
    encode_record,
    is_as_read,
    merge_commit,
    merge_restore,
    merge_save,
)
from idiolectd.store.record_text import KnownRecord, decode_record
from idiolectd.store.sealing import NO_KEYS


class InMemoryOAuthTokenStore:
    """Sessions that last as long as the object. See `idiolectd.ports.SharedStore`."""

    url = "memory:"
    runtime_dir = None
    spill: Spill | None = None

    def __init__(self, *, clock: Clock | None = None) -> None:
        self._clock = clock or SystemClock()
        self._records: dict[str, bytes] = {}
        self._states: dict[str, str] = {}
        self._schedule = DueIndex()
        self._claims = Queues(alone=True)
        self._watches: set[ChangeSet] = set()

    def __repr__(self) -> str:
        return f"<InMemoryOAuthTokenStore sessions={len(self._records)}>"

    @classmethod
    @asynccontextmanager
    async def open(cls, *, clock: Clock | None = None) -> AsyncIterator[Self]:
        """An empty store; what it holds is gone afterwards."""
        await anyio.lowlevel.checkpoint()
        yield cls(clock=clock)

    async def save(self, session: OAuthSession) -> None:
        """See `OAuthTokenStore.save`."""
        await anyio.lowlevel.checkpoint()
        did = parse_did(session.did)
        merged = merge_save(
            session, self._stored(did, damaged_is_none=True), self._state(did), self._clock.now()
        )
        self._put(did, merged)

    def _put(self, did: str, merged: Merged) -> None:
        self._records[did] = encode_record(merged.session, place=self._place(did), keys=NO_KEYS)
        self._states[did] = merged.state.to_json()
        self._schedule.put_saved(did, merged.entry, keep=merged.keeps_entry)
        self._report(did)

    async def change_number(self, *, renew: bool) -> int:
        """See `SharedStore.change_number`; nobody can put it back."""
        await anyio.lowlevel.checkpoint()
        return 0

    def witnesses(self) -> None:
        """See `SharedStore.witnesses`."""

    async def copies(self) -> AsyncGenerator[list[StoredCopy], None]:
        """See `SharedStore.copies`."""
        await anyio.lowlevel.checkpoint()
        yield [
            StoredCopy(did, text, state.encode() if (state := self._states.get(did)) is not None else None)
            for did, text in self._records.items()
        ]

    async def restore(self, copy: StoredCopy) -> Committed:
        """See `SharedStore.restore`."""
        await anyio.lowlevel.checkpoint()
        did = parse_did(copy.did)
        merged = merge_restore(
            copy, self._stored(did, damaged_is_none=True), self._state(did), self._clock.now(), NO_KEYS
        )
        if merged is None:
            return Committed.SUPERSEDED
        self._put(did, merged)
        return Committed.DONE

    async def load(self, did: str) -> OAuthSession | None:
        """See `OAuthTokenStore.load`."""
        await anyio.lowlevel.checkpoint()
        return self._stored(parse_did(did))

    async def delete(self, did: str) -> None:
        """See `OAuthTokenStore.delete`."""
        await anyio.lowlevel.checkpoint()
        self._forget(parse_did(did))
        self._report(did)

    async def list_dids(self) -> list[str]:
        """See `OAuthTokenStore.list_dids`."""
        return (await self.survey()).dids

    async def survey(self) -> Survey:
        """See `SharedStore.survey`."""
        await anyio.lowlevel.checkpoint()
        return self._survey()

    async def pages(self) -> AsyncGenerator[list[str], None]:
        """See `SharedStore.pages`."""
        await anyio.lowlevel.checkpoint()
        if self._records:
            yield list(self._records)

    async def count(self) -> int:
        """See `SharedStore.count`."""
        await anyio.lowlevel.checkpoint()
        return len(self._records)

    async def overview(self, now: float, *, limit: int) -> Overview | None:
        """See `SharedStore.overview`; there is no index."""
        await anyio.lowlevel.checkpoint()
        return None

    async def called(self, handle: str) -> Called:
        """See `SharedStore.called`; there is no index."""
        await anyio.lowlevel.checkpoint()
        return Called()

    @asynccontextmanager
    async def claim(self, did: str, *, patience: float) -> AsyncIterator[None]:
        """See `SharedStore.claim`; only tasks of this process can be rivals."""
        async with self._claims.hold(parse_did(did), patience):
            yield

    async def claim_holder(self, did: str) -> str | None:
        """See `SharedStore.claim_holder`; no other process can."""
        await anyio.lowlevel.checkpoint()
        return None

    async def ensure_room(self) -> None:
        """See `SharedStore.ensure_room`; memory is not a disk."""
        await anyio.lowlevel.checkpoint()

    async def ensure_writable(self) -> None:
        """See `SharedStore.ensure_writable`."""
        await anyio.lowlevel.checkpoint()

    async def secure(self) -> None:
        """See `SharedStore.secure`."""
        await anyio.lowlevel.checkpoint()

    async def read(self, did: str) -> StoredSession:
        """See `SharedStore.read`."""
        await anyio.lowlevel.checkpoint()
        return StoredSession(self._stored(parse_did(did)), self._state(did))

    async def commit(
        self,
        read: OAuthSession,
        state: RefreshState,
        *,
        tokens: Tokens | None = None,
        due: ScheduleEntry | None = None,
    ) -> Committed:
        """See `SharedStore.commit`."""
        await anyio.lowlevel.checkpoint()
        did = parse_did(read.did)
        stored = self._stored(did)
        merged = merge_commit(stored, read, state, tokens)
        if isinstance(merged, Committed):
            return merged
        if tokens is not None:
            self._records[did] = encode_record(merged, place=self._place(did), keys=NO_KEYS)
        self._states[did] = state.to_json()
        self._schedule.put(did, due)
        if stored is not None and not is_as_read(stored, read, state):
            self._report(did)
        return Committed.DONE

    @asynccontextmanager
    async def new_sessions(self) -> AsyncIterator[None]:
        """See `SharedStore.new_sessions`; a watch names them."""
        yield None

    async def commit_first(self, plans: Sequence[FirstPlan]) -> list[str]:
        """See `SharedStore.commit_first`; nothing comes from `new_sessions`."""
        await anyio.lowlevel.checkpoint()
        raise NotImplementedError(f"{self.url}: {len(plans)} first states")

    async def unplanned(self) -> list[str]:
        """See `SharedStore.unplanned`."""
        await anyio.lowlevel.checkpoint()
        return [did for did in self._records if did not in self._schedule][:FULL_BATCH]

    def reopened(self) -> list[str]:
        """See `SharedStore.reopened`; nobody can replace it."""
        return []

    async def forget(self, did: str) -> bool:
        """See `SharedStore.forget`."""
        await anyio.lowlevel.checkpoint()
        did = parse_did(did)
        if did in self._records:
            return False
        self._forget(did)
        return True

    async def reseal(self, did: str) -> bool:
        """See `SharedStore.reseal`; in memory nothing is sealed."""
        await anyio.lowlevel.checkpoint()
        return parse_did(did) in self._records

    async def due(
        self, before: float, *, limit: int, after: ScheduleEntry | None = None
    ) -> list[ScheduleEntry]:
        """See `SharedStore.due`."""
        await anyio.lowlevel.checkpoint()
        return self._schedule.before(before, limit, after)

    def schedule(self, did: str, due: ScheduleEntry | None) -> None:
        """See `SharedStore.schedule`."""
        self._schedule.put(did, due)

    @asynccontextmanager
    async def watch(self) -> AsyncIterator[ChangeSet]:
        """See `SharedStore.watch`."""
        await anyio.lowlevel.checkpoint()
        pending = ChangeSet(did for did in self._records if not self._schedule.is_planned(did))
        self._watches.add(pending)
        try:
            yield pending
        finally:
            self._watches.discard(pending)

    # Without an event loop: see `idiolectd.store.reading.MemoryReading`.

    def record_now(self, did: str, known: KnownRecord | None) -> KnownRecord | None:
        """As `load`; `known`: the record as it was last read."""
        text = self._records.get(parse_did(did))
        if text is None or (known is not None and known.text == text):
            return None if text is None else known
        return KnownRecord(text, decode_record(text, place=self._place(did), did=did, keys=NO_KEYS))

    def state_now(self, did: str) -> RefreshState:
        """The state, as `read` tells it."""
        return self._state(parse_did(did))

    def dids_now(self) -> list[str]:
        """As `list_dids`."""
        return self._survey().dids

    def _place(self, did: str) -> str:
        return f"{self.url} {did}"

    def _stored(self, did: str, *, damaged_is_none: bool = False) -> OAuthSession | None:
        text = self._records.get(did)
        if text is None:
            return None
        try:
            return decode_record(text, place=self._place(did), did=did, keys=NO_KEYS)
        except RecordError:
            if damaged_is_none:
                return None
            raise

    def _survey(self) -> Survey:
        dids, broken = [], []
        for did in sorted(self._records):
            try:
                self._stored(did)
            except RecordError as damage:
                broken.append(damage)
            else:
                dids.append(did)
        return Survey(dids, broken)

    def _state(self, did: str) -> RefreshState:
        return decode_state(self._states.get(did), self._clock.now(), did=did, keys=NO_KEYS)

    def _forget(self, did: str) -> None:
        self._records.pop(did, None)
        self._states.pop(did, None)
        self._schedule.put(did, None)

    def _report(self, did: str) -> None:
        for pending in self._watches:
            pending.add([did])
