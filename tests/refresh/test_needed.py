"""`refresh_if_needed`: upstream's meaning, under the claim."""

import json
import sqlite3
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import anyio
import pytest

from idiolectd.clock import rfc3339
from idiolectd.errors import NoSessionError, RefreshFailed
from idiolectd.refresh import refresh_if_needed
from idiolectd.session import OAuthSession
from idiolectd.store import InMemoryOAuthTokenStore, open_store
from tests.clock import START, VirtualClock
from tests.support import FakeServer, did

pytestmark = pytest.mark.anyio

DID = did(1)


class Refresher:
    """A client's own refresher."""

    def __init__(self, clock: VirtualClock, error: Exception | None = None) -> None:
        self.clock = clock
        self.error = error
        self.calls = 0

    async def refresh(self, session: OAuthSession) -> OAuthSession:
        self.calls += 1
        await anyio.sleep(0.01)
        if self.error is not None:
            raise self.error
        return replace(
            session,
            access_jwt="new",
            refresh_jwt=f"{session.refresh_jwt}+",
            issued_at=rfc3339(self.clock.now()),
            expires_at=rfc3339(self.clock.now() + 3600),
        )


async def test_it_returns_a_live_session_as_it_is() -> None:
    """61 seconds before its end a session is not refreshed, 60 seconds before it is."""
    clock = VirtualClock()
    store, refresher = InMemoryOAuthTokenStore(clock=clock), Refresher(clock)
    session = FakeServer(clock.now).login(DID)
    await store.save(session)
    clock.advance_to(START + 3600 - 61)
    assert await refresh_if_needed(store, refresher, DID, clock=clock) == session
    clock.advance(1)
    assert (await refresh_if_needed(store, refresher, DID, clock=clock)).access_jwt == "new"
    assert refresher.calls == 1


async def test_it_saves_what_it_got_and_asks_once_for_many() -> None:
    """Twenty clients at once call the refresher once, and all get the new session."""
    clock = VirtualClock()
    store, refresher = InMemoryOAuthTokenStore(clock=clock), Refresher(clock)
    await store.save(FakeServer(clock.now).login(DID))
    clock.advance_to(START + 3600)
    got: list[str] = []

    async def client() -> None:
        got.append((await refresh_if_needed(store, refresher, DID, clock=clock)).refresh_jwt)

    async with anyio.create_task_group() as tg:
        for _ in range(20):
            tg.start_soon(client)
    assert got == ["refresh-0+"] * 20
    assert refresher.calls == 1
    stored = await store.load(DID)
    assert stored is not None
    assert stored.refresh_jwt == "refresh-0+"


async def test_nothing_stored_is_an_error_of_its_own() -> None:
    """Without a session the client is told to log in."""
    clock = VirtualClock()
    with pytest.raises(NoSessionError, match="idiolectd login"):
        await refresh_if_needed(InMemoryOAuthTokenStore(clock=clock), Refresher(clock), DID, clock=clock)


async def test_a_raising_refresher_leaves_an_open_question() -> None:
    """Nobody knows what the server did: the next call within the settling time asks nobody."""
    clock = VirtualClock()
    refresher = Refresher(clock, OSError("secret-token in an error text"))
    store = InMemoryOAuthTokenStore(clock=clock)
    await store.save(FakeServer(clock.now).login(DID))
    clock.advance_to(START + 3600)
    with pytest.raises(RefreshFailed) as caught:
        await refresh_if_needed(store, refresher, DID, clock=clock)
    assert caught.value.state == "ambiguous"
    assert "secret-token" not in str(caught.value)
    with pytest.raises(RefreshFailed):
        await refresh_if_needed(store, refresher, DID, clock=clock)
    assert refresher.calls == 1
    clock.advance(31)
    refresher.error = None
    assert (await refresh_if_needed(store, refresher, DID, clock=clock)).access_jwt == "new"


async def test_somebody_elses_session_is_not_published() -> None:
    """A refresher that returns another account's tokens does not change this record."""
    clock = VirtualClock()
    store = InMemoryOAuthTokenStore(clock=clock)

    class Confused(Refresher):
        async def refresh(self, session: OAuthSession) -> OAuthSession:
            return replace(await super().refresh(session), did=did(2))

    await store.save(FakeServer(clock.now).login(DID))
    clock.advance_to(START + 3600)
    with pytest.raises(RefreshFailed, match="answer_misfit"):
        await refresh_if_needed(store, Confused(clock), DID, clock=clock)
    stored = await store.load(DID)
    assert stored is not None
    assert json.loads(stored.to_json())["refreshJwt"] == "refresh-0"


@pytest.mark.slow
@pytest.mark.parametrize("anyio_backend", ["asyncio"])
async def test_tokens_that_a_locked_database_does_not_take_are_kept(tmp_path: Path) -> None:
    """A foreign program keeps SQLite's write lock: the new tokens are spilled, and the next call takes them."""
    clock = VirtualClock()
    path = tmp_path / "store" / "sessions.sqlite"
    path.parent.mkdir(0o700)
    async with open_store(f"sqlite://{path}", spill_dir=str(tmp_path / "spill")) as store:
        await store.save(FakeServer(clock.now).login(DID))
        clock.advance_to(START + 3600)
        with closing(sqlite3.connect(path, isolation_level=None)) as foreign:

            class Locked(Refresher):
                async def refresh(self, session: OAuthSession) -> OAuthSession:
                    foreign.execute("BEGIN IMMEDIATE")
                    return await super().refresh(session)

            refresher = Locked(clock)
            with pytest.raises(RefreshFailed) as caught:
                await refresh_if_needed(store, refresher, DID, clock=clock, patience=0.1)
            assert caught.value.state == "unpersisted"
            assert [path.name for path in (tmp_path / "spill").iterdir()] != []
            foreign.execute("ROLLBACK")
        assert (await refresh_if_needed(store, refresher, DID, clock=clock)).access_jwt == "new"
        assert refresher.calls == 1
        stored = await store.load(DID)
        assert stored is not None
        assert stored.refresh_jwt == "refresh-0+"
