"""`refresh_if_needed`: upstream's meaning, under the claim."""

import json
import sqlite3
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import anyio
import pytest

from idiolectd.clock import rfc3339
from idiolectd.errors import (
    ConfigError,
    NoSessionError,
    NothingSent,
    RefreshFailed,
    SessionRefused,
    StoreError,
    TryLater,
)
from idiolectd.refresh import refresh_if_needed
from idiolectd.session import OAuthSession
from idiolectd.store import InMemoryOAuthTokenStore, open_store
from tests.clock import START, VirtualClock
from tests.support import OTHER_KEY, FakeServer, did

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


# What a refresher knows ----------------------------------------------------------------------------


async def refused_with(
    error: Exception, clock: VirtualClock, store: InMemoryOAuthTokenStore
) -> RefreshFailed:
    with pytest.raises(RefreshFailed) as caught:
        await refresh_if_needed(store, Refresher(clock, error), DID, clock=clock)
    return caught.value


@pytest.mark.parametrize(
    "error", [NothingSent("no network"), TryLater("too many requests", retry_after=120.0)]
)
async def test_a_token_that_is_not_used_up_is_no_open_question(error: Exception) -> None:
    """The session is retried; a server that asks for time gets it."""
    clock = VirtualClock()
    store = InMemoryOAuthTokenStore(clock=clock)
    await store.save(FakeServer(clock.now).login(DID))
    clock.advance_to(START + 3600)
    assert (await refused_with(error, clock, store)).state == "retrying"
    asked_for = getattr(error, "retry_after", None) or 0.0
    clock.advance(max(asked_for - 1.0, 0.0))
    refresher = Refresher(clock)
    if asked_for:
        with pytest.raises(RefreshFailed):
            await refresh_if_needed(store, refresher, DID, clock=clock)
    clock.advance(600.0)
    assert (await refresh_if_needed(store, refresher, DID, clock=clock)).access_jwt == "new"
    assert refresher.calls == 1


async def test_a_session_that_is_refused_again_and_again_is_over() -> None:
    """Not at first sight, as with servers' own words; then with its cause."""
    clock = VirtualClock()
    store = InMemoryOAuthTokenStore(clock=clock)
    await store.save(FakeServer(clock.now).login(DID))
    clock.advance_to(START + 3600)
    refused = SessionRefused("invalid_grant", "Session was revoked")
    found = await refused_with(refused, clock, store)
    assert (found.state, found.code) == ("retrying", "invalid_grant")
    for _ in range(8):
        clock.advance(600.0)
        found = await refused_with(refused, clock, store)
        if found.state == "relogin_required":
            break
    assert found.state == "relogin_required"


async def test_a_new_dpop_key_is_stored_with_its_tokens() -> None:
    """And counts from then on: the session is the same, and the next refresh is no contradiction."""
    clock = VirtualClock()
    store = InMemoryOAuthTokenStore(clock=clock)

    class Rekeying(Refresher):
        async def refresh(self, session: OAuthSession) -> OAuthSession:
            return replace(await super().refresh(session), dpop_private_key_jwk=OTHER_KEY)

    await store.save(FakeServer(clock.now).login(DID))
    clock.advance_to(START + 3600)
    refreshed = await refresh_if_needed(store, Rekeying(clock), DID, clock=clock)
    assert refreshed.dpop_private_key_jwk == OTHER_KEY
    stored = await store.load(DID)
    assert stored is not None
    assert (stored.dpop_private_key_jwk, stored.refresh_jwt) == (OTHER_KEY, "refresh-0+")
    clock.advance(3600.0)
    again = await refresh_if_needed(store, Refresher(clock), DID, clock=clock)
    assert (again.dpop_private_key_jwk, again.refresh_jwt) == (OTHER_KEY, "refresh-0++")


# A store of the caller's own -----------------------------------------------------------------------


class FourMethods:
    """What a program has that never heard of claims."""

    def __init__(self) -> None:
        self.rows: dict[str, str] = {}
        self.failing: Exception | None = None
        self.saves = 0

    async def save(self, session: OAuthSession) -> None:
        self.saves += 1
        await anyio.sleep(0.001)
        if self.failing is not None:
            raise self.failing
        self.rows[session.did] = session.to_json()

    async def load(self, did: str) -> OAuthSession | None:
        await anyio.sleep(0.001)
        return OAuthSession.from_json(self.rows[did]) if did in self.rows else None

    async def delete(self, did: str) -> None:
        self.rows.pop(did, None)

    async def list_dids(self) -> list[str]:
        return sorted(self.rows)


async def test_a_store_without_claims_is_refused() -> None:
    """Unless the caller says that no other process uses it."""
    clock = VirtualClock()
    store, refresher = FourMethods(), Refresher(clock)
    await store.save(FakeServer(clock.now).login(DID))
    clock.advance_to(START + 3600)
    with pytest.raises(ConfigError, match="one_process=True"):
        await refresh_if_needed(store, refresher, DID, clock=clock)
    assert refresher.calls == 0


async def test_a_store_of_ones_own_is_refreshed_once_for_many() -> None:
    """In one process its tasks queue as for ours, and it gets what came; whoever logs in there is seen."""
    clock = VirtualClock()
    store, refresher = FourMethods(), Refresher(clock)
    server = FakeServer(clock.now)
    await store.save(server.login(DID))
    clock.advance_to(START + 3600)
    got: list[str] = []

    async def client() -> None:
        session = await refresh_if_needed(store, refresher, DID, one_process=True, clock=clock)
        got.append(session.refresh_jwt)

    async with anyio.create_task_group() as tg:
        for _ in range(10):
            tg.start_soon(client)
    assert got == ["refresh-0+"] * 10
    assert refresher.calls == 1
    assert OAuthSession.from_json(store.rows[DID]).refresh_jwt == "refresh-0+"
    await store.save(replace(server.login(DID), dpop_private_key_jwk=OTHER_KEY))
    login = await refresh_if_needed(store, refresher, DID, one_process=True, clock=clock)
    assert login.dpop_private_key_jwk == OTHER_KEY
    await store.delete(DID)
    with pytest.raises(NoSessionError):
        await refresh_if_needed(store, refresher, DID, one_process=True, clock=clock)


async def test_tokens_that_it_does_not_take_are_saved_again() -> None:
    """Within the caller's patience; the token is not sent twice."""
    clock = VirtualClock()
    store, refresher = FourMethods(), Refresher(clock)
    await store.save(FakeServer(clock.now).login(DID))
    clock.advance_to(START + 3600)
    store.failing = OSError("a secret-token in an error text")
    async with anyio.create_task_group() as tg:

        async def mend() -> None:
            while store.saves < 3:
                await anyio.sleep(0.01)
            store.failing = None

        tg.start_soon(mend)
        refreshed = await refresh_if_needed(store, refresher, DID, one_process=True, clock=clock)
    assert refreshed.refresh_jwt == "refresh-0+"
    assert refresher.calls == 1
    assert OAuthSession.from_json(store.rows[DID]).refresh_jwt == "refresh-0+"


async def test_a_store_that_raises_is_a_store_error() -> None:
    """Named by its class; what it said may hold a token."""

    class Broken(FourMethods):
        async def load(self, did: str) -> OAuthSession | None:
            raise KeyError("secret-token")

    clock = VirtualClock()
    with pytest.raises(StoreError, match=r"Broken\.load raised KeyError") as caught:
        await refresh_if_needed(Broken(), Refresher(clock), DID, one_process=True, clock=clock)
    assert "secret-token" not in str(caught.value)
