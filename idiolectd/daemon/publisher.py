"""Keeps the clients' view as the store is, beside the work and never in its way.

Whoever has changed or looked at a session says so by `Publisher.changed`, which costs a set entry. One task then
reads each from the store, as it is by then, and writes its entry. A view that can't be written is reported, tried
again, and delays nobody but its readers.
"""

import sqlite3
from collections.abc import Callable, Collection
from contextlib import aclosing, suppress
from functools import partial
from itertools import islice
from typing import TypeVar

import anyio

from idiolectd import events
from idiolectd.clock import Clock
from idiolectd.config import ClientsConfig
from idiolectd.errors import RecordError, SealedError, SessionError, StoreError
from idiolectd.events import EventSink
from idiolectd.parts import Parts
from idiolectd.policy import reminder_gap
from idiolectd.ports import SharedStore
from idiolectd.state import reconcile
from idiolectd.store import Standing, View, encode_entry, make_view, translated
from idiolectd.threads import Errand

T = TypeVar("T")

# How many entries are written at a time: few enough that a rotation's is never far behind.
_BATCH = 100

# How many sessions may wait for their entries. Beyond, the oldest is dropped, and everything written once more:
# a first start on very many sessions must not hold all their names.
_MOST_WAITING = 10_000

# Seconds until a view that could not be written is tried again: at first, and at most. A client waits ten.
_FIRST_PAUSE, _LAST_PAUSE = 1.0, 30.0


class Publisher:
    """Writes one view of one store.

    Args:
        store: the sessions.
        view: where their entries go.
        clock: wall-clock time.
        emit: who is told.

    Attributes:
        view: see above.
        trouble: why the view is not as the store is; None: it is, or will be in a moment.
    """

    def __init__(self, store: SharedStore, view: View, *, clock: Clock, emit: EventSink) -> None:
        self.trouble: str | None = None
        self._store = store
        self.view = view
        self._clock = clock
        self._emit = emit
        self._is_whole = False
        self._changed: dict[str, None] = {}
        self._wake_up = anyio.Event()
        self._failing_since: float | None = None
        self._report_at, self._reports = 0.0, 0

    def changed(self, did: str) -> None:
        """A session may not be as its entry says. Never waits."""
        self._changed[did] = None
        if len(self._changed) > _MOST_WAITING:
            self._is_whole = False
            del self._changed[next(iter(self._changed))]
        self._wake_up.set()

    async def run(self) -> None:
        """Writes all entries anew, and from then on those that changed, until it is cancelled."""
        pause = _FIRST_PAUSE
        while True:
            try:
                if not self._is_whole:
                    await self._rebuild()
                await self._write_changed()
            except (OSError, sqlite3.Error, StoreError) as error:
                # A view that fails may be a new and empty one when it is back.
                self._is_whole = self._is_whole and isinstance(error, StoreError)
                self._report_trouble(error)
                await anyio.sleep(pause)
                pause = min(2 * pause, _LAST_PAUSE)
                continue
            if self._failing_since is not None:
                lasted = anyio.current_time() - self._failing_since
                self._emit(events.ViewAvailable(lasted=round(lasted, 3)))
            self.trouble = self._failing_since = None
            pause = _FIRST_PAUSE
            if not self._changed and self._is_whole:
                await self._wake_up.wait()
            self._wake_up = anyio.Event()

    async def _rebuild(self) -> None:
        self._is_whole = True  # unless names are dropped meanwhile
        try:
            await _beside(self.view.open)
            async with aclosing(self._store.pages()) as pages:
                async for page in pages:
                    await self._write_all(page)
            await self._write_all(await _beside(self.view.left_over))
        except BaseException:
            self._is_whole = False
            raise

    async def _write_all(self, dids: list[str]) -> None:
        for start in range(0, len(dids), _BATCH):
            await self._write_changed()  # a rotation's entry first
            await self._write(dids[start : start + _BATCH])

    async def _write_changed(self) -> None:
        while self._changed:
            batch = list(islice(self._changed, _BATCH))
            await self._write(batch)

    async def _write(self, dids: Collection[str]) -> None:
        for did in dids:  # who changes while it is written is written again
            self._changed.pop(did, None)
        entries, refused = {}, {}
        try:
            for did in dids:
                try:
                    entries[did] = await self._entry(did)
                except (
                    RecordError,
                    SealedError,
                    SessionError,
                ) as error:  # the last entry stays: the store has no better one
                    refused[did] = str(error)
            refused |= await _beside(partial(self.view.write, entries))
        except BaseException:
            self._changed.update(dict.fromkeys(dids))
            raise
        for did, why in refused.items():
            session = None
            with suppress(StoreError):  # that may be why
                session = await self._store.load(did)
            self._emit(events.SessionNotPublished(**events.about_did(did, session), error=why))

    async def _entry(self, did: str) -> bytes | None:
        stored = await self._store.read(did)
        if stored.session is None:
            return None
        found = reconcile(stored.session, stored.state, self._clock.now())
        return encode_entry(found.session, Standing.of(found.state))

    def _report_trouble(self, error: Exception) -> None:
        now = anyio.current_time()
        if self._failing_since is None:
            self._failing_since, self._report_at, self._reports = now, now, 0
        self.trouble = _in_words(self.view, error)
        if now >= self._report_at:
            self._reports += 1
            self._report_at = now + reminder_gap(self._reports)
            lasting = round(now - self._failing_since, 3)
            self._emit(events.ViewUnavailable(error=self.trouble, lasting=lasting))


def make_publisher(clients: ClientsConfig, parts: Parts, *, emit: EventSink) -> Publisher | None:
    """What keeps the configured view; None: none is configured.

    Raises:
        StoreError: there is no such group.
    """
    if clients.url is None:
        return None
    view = make_view(clients.url, group=clients.group)
    return Publisher(parts.store, view, clock=parts.clock, emit=emit)


def _in_words(view: View, error: Exception) -> str:
    try:
        with translated(f"can't write {view.place}"):
            raise error
    except StoreError as said:
        return str(said)


async def _beside(work: Callable[[], T]) -> T:
    """Runs work on the view in a thread of its own: its file system may hang, and then nobody waits for it."""
    return await Errand(work, "idiolectd-view").wait()
