"""The first start on a crowd of sessions that other programs have stored."""

import sqlite3
from collections.abc import AsyncGenerator, AsyncIterator, Iterable
from contextlib import asynccontextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path

import anyio
import pytest

from idiolectd.clock import rfc3339
from idiolectd.events import SessionFound
from idiolectd.ports import FULL_BATCH, NewRecord
from idiolectd.refresh import RefreshEngine
from idiolectd.scheduler import IssuerLimits, Scheduler
from idiolectd.store import SqliteOAuthTokenStore
from tests.clock import VirtualClock
from tests.support import FakeServer, Recorder, did, planner

pytestmark = pytest.mark.anyio

_CROWD = FULL_BATCH + 200


@pytest.fixture
def anyio_backend() -> str:
    """Real time: this store works in threads."""
    return "trio"


class Crowd:
    """A database with many sessions and no states; number n has the n-th soonest expiry of all, backwards."""

    def __init__(self, folder: Path) -> None:
        self.clock = VirtualClock()
        self.server = FakeServer(self.clock.now)
        self.events = Recorder()
        self.path = folder / "sessions.sqlite"
        self.claims = 0
        self.is_offered = anyio.Event()
        # Until then nobody who was offered the crowd gets to read it.
        self.may_be_read = anyio.Event()
        self.may_be_read.set()

    def write(self, numbers: Iterable[int]) -> None:
        """Stores records as a foreign program does."""
        now = self.clock.now()
        rows = [
            (
                did(number),
                replace(self.server.login(did(number)), expires_at=rfc3339(now + 9000 - number)).to_json(),
            )
            for number in numbers
        ]
        with sqlite3.connect(self.path) as foreign:
            foreign.executemany("INSERT OR REPLACE INTO sessions (did, body_json) VALUES (?, ?)", rows)
        foreign.close()

    @asynccontextmanager
    async def store(self) -> AsyncIterator[SqliteOAuthTokenStore]:
        """The database, opened."""
        crowd = self

        class Counting(SqliteOAuthTokenStore):
            @asynccontextmanager
            async def claim(self, did: str, *, patience: float) -> AsyncIterator[None]:
                crowd.claims += 1
                async with super().claim(did, patience=patience):
                    yield

            @asynccontextmanager
            async def new_sessions(self) -> AsyncIterator[AsyncGenerator[list[NewRecord], None] | None]:
                async with super().new_sessions() as pages:
                    yield None if pages is None else self._held_up(pages)

            async def _held_up(
                self, pages: AsyncGenerator[list[NewRecord], None]
            ) -> AsyncGenerator[list[NewRecord], None]:
                crowd.is_offered.set()
                await crowd.may_be_read.wait()
                async for page in pages:
                    yield page

        async with Counting.open(self.path, clock=self.clock) as store:
            yield store

    def scheduler(self, store: SqliteOAuthTokenStore) -> Scheduler:
        """A scheduler on it."""
        engine = self.engine(store)
        return Scheduler(
            store,
            lambda: engine,
            clock=self.clock,
            emit=self.events,
            limits=IssuerLimits(),
            jitter=lambda: 0.5,
        )

    def engine(self, store: SqliteOAuthTokenStore) -> RefreshEngine:
        """An engine on it."""
        return RefreshEngine(
            store, {"dpop": self.server}, planner=planner(), clock=self.clock, events=self.events
        )


async def all_pages(store: SqliteOAuthTokenStore) -> list[list[NewRecord]]:
    async with store.new_sessions() as pages:
        assert pages is not None
        return [page async for page in pages]


@pytest.fixture
async def crowd(tmp_path: Path) -> Crowd:
    """A database that was opened once, and then filled by somebody else."""
    crowd = Crowd(tmp_path)
    async with crowd.store():
        pass
    crowd.write(range(_CROWD))
    return crowd


async def test_a_crowd_is_scheduled_without_a_claim_each(crowd: Crowd) -> None:
    """All of them, each once; the few claims are those of accounts whose servers are looked up."""
    async with crowd.store() as store, anyio.create_task_group() as tg:
        scheduler = crowd.scheduler(store)
        with anyio.fail_after(60):
            await tg.start(partial(scheduler.run))
            while not scheduler.statistics().is_caught_up:
                await anyio.sleep(0.05)
        assert {entry.did for entry in await store.due(1e12, limit=9999)} == {
            did(number) for number in range(_CROWD)
        }
        tg.cancel_scope.cancel()
    assert len(crowd.events.of("session.found")) == _CROWD
    assert crowd.claims < _CROWD / 10


async def test_a_login_does_not_wait_for_the_crowd(crowd: Crowd) -> None:
    """It is looked at while the crowd is read, and only afterwards everything is."""
    crowd.may_be_read = anyio.Event()
    async with crowd.store() as store, anyio.create_task_group() as tg:
        scheduler = crowd.scheduler(store)
        tg.start_soon(partial(scheduler.run))
        with anyio.fail_after(60):
            await crowd.is_offered.wait()
            crowd.write([_CROWD])
            while not (found := crowd.events.of("session.found")):
                await anyio.sleep(0.01)
            assert not scheduler.statistics().is_caught_up
            crowd.may_be_read.set()
            while not scheduler.statistics().is_caught_up:
                await anyio.sleep(0.01)
        tg.cancel_scope.cancel()
    assert [event.did for event in found if isinstance(event, SessionFound)] == [did(_CROWD)]


async def test_the_soonest_expiry_comes_first(crowd: Crowd) -> None:
    """Whatever the order of the rows."""
    async with crowd.store() as store:
        pages = [{record.session.did for record in page} for page in await all_pages(store)]
    backwards = [did(number) for number in reversed(range(_CROWD))]
    assert sum(map(len, pages)) == _CROWD
    assert pages[0] == set(backwards[: len(pages[0])])
    assert 0 < len(pages[0]) < _CROWD


async def test_what_changed_since_it_was_read_gets_no_state(crowd: Crowd) -> None:
    """A record that was replaced is left to the watch, and a state that is there stays as it is."""
    async with crowd.store() as store:
        engine = crowd.engine(store)
        pages = await all_pages(store)
        crowd.write([1])
        await engine.reconcile(did(2))
        await engine.pause(did(2), paused=True)
        adopted = {name for page in pages for name in await engine.adopt(page)}
        assert adopted == {did(number) for number in range(_CROWD)} - {did(1), did(2)}
        assert (await store.read(did(2))).state.paused
        assert (await engine.reconcile(did(1))).token is not None


async def test_a_few_new_sessions_are_left_to_the_watch(tmp_path: Path) -> None:
    """Reading the whole database for them would cost more than it saves."""
    crowd = Crowd(tmp_path)
    async with crowd.store() as store:
        crowd.write(range(9))
        async with store.new_sessions() as pages:
            assert pages is None
