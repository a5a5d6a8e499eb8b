"""A session moves between stores with all that is known of it, interrupted wherever it may be, and lives in one."""

from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest

from idiolectd import InMemoryOAuthTokenStore, open_store
from idiolectd.clock import SystemClock
from idiolectd.errors import StoreError
from idiolectd.moving.migration import Migrated, migrate
from idiolectd.ports import Committed, SharedStore, Spilled
from idiolectd.session import OAuthSession, Tokens
from idiolectd.state import RefreshState
from tests.moving import peers

CLOCK = SystemClock()


def session(refresh_token: str = "ref-0123") -> OAuthSession:
    import json

    return OAuthSession.from_json(json.dumps(peers.record(refreshJwt=refresh_token, note="kept")))


def known(held: OAuthSession) -> RefreshState:
    """A state that holds something of everything: a note, a spent token, an error."""
    before = RefreshState().rotated(session("ref-0"), held, 1000.0).noting(held, 2000.0)
    return before.awaiting_answer().planned(3000.0)


async def move(source: SharedStore, target: SharedStore) -> Migrated:
    return await migrate(peers.DID, source, target, CLOCK, patience=1, looking=False)


async def filled(store: SharedStore, *, paused: bool = False) -> None:
    await store.save(session())
    state = known(session())
    assert await store.commit(session(), state.paused_by_person() if paused else state) is Committed.DONE


@pytest.fixture(params=["file", "sqlite"])
async def stores(
    request: pytest.FixtureRequest, tmp_path: Path
) -> AsyncIterator[tuple[SharedStore, SharedStore]]:
    """From one kind to the other."""
    urls = [f"file://{tmp_path}/files", f"sqlite://{tmp_path}/s.sqlite"]
    if request.param == "sqlite":
        urls.reverse()
    async with AsyncExitStack() as opened:
        spills = [str(tmp_path / name) for name in ("spill-a", "spill-b")]
        source, target = [
            await opened.enter_async_context(open_store(url, spill_dir=spill))
            for url, spill in zip(urls, spills, strict=True)
        ]
        yield source, target


@pytest.mark.anyio
async def test_all_that_is_known_moves(stores: tuple[SharedStore, SharedStore]) -> None:
    """Record, state and spilled tokens are the same in the target; the source's session rests for good."""
    source, target = stores
    await filled(source)
    spilled = Spilled(session().refresh_token_hash, session("ref-next"))
    assert source.spill is not None
    assert target.spill is not None
    await source.spill.put(spilled)
    assert await migrate(peers.DID, source, target, CLOCK, patience=1, looking=True) is Migrated.WOULD_MIGRATE
    assert (await target.read(peers.DID)).session is None
    assert await move(source, target) is Migrated.MIGRATED
    copied = await target.read(peers.DID)
    assert (copied.session, copied.state) == (session(), known(session()))
    assert await target.spill.find(peers.DID, session().refresh_token_hash) == spilled
    left = (await source.read(peers.DID)).state
    assert (left.paused, left.migrated_to) == (True, target.url)


@pytest.mark.anyio
async def test_a_repeated_migration_changes_nothing(stores: tuple[SharedStore, SharedStore]) -> None:
    """What the target has learnt since stays; a pause of the source, which is ours, does not come along."""
    source, target = stores
    await filled(source)
    await move(source, target)
    later = known(session()).rotated(session(), session("ref-new"), 5000.0)
    tokens = Tokens(access_jwt=peers.ACCESS, refresh_jwt="ref-new", issued_at="", expires_at="")
    await target.commit(session(), later, tokens=tokens)
    assert await move(source, target) is Migrated.ALREADY
    assert (await target.read(peers.DID)).state == later


class Failing(InMemoryOAuthTokenStore):
    """A store in which the power fails before or after the n-th write."""

    def __init__(self, writes: int) -> None:
        super().__init__()
        self.left = writes

    def _counted(self) -> None:
        self.left -= 1
        if self.left == 0:
            raise StoreError("no power")

    async def save(self, session: OAuthSession) -> None:
        self._counted()
        await super().save(session)
        self._counted()

    async def commit(self, *args: Any, **more: Any) -> Committed:
        self._counted()
        done = await super().commit(*args, **more)
        self._counted()
        return done


@pytest.mark.anyio
@pytest.mark.parametrize("paused", [False, True])
@pytest.mark.parametrize("fails", ["source", "target"])
@pytest.mark.parametrize("writes", range(1, 6))
async def test_interrupted_at_every_step(fails: str, writes: int, paused: bool) -> None:
    """The next run ends it: all is copied, a person's pause too, and the source never counts beside the target."""
    make: Callable[[int], Failing] = Failing
    source, target = make(0), make(0)
    await filled(source, paused=paused)
    failing = source if fails == "source" else target
    failing.left = writes
    broke = False
    try:
        await move(source, target)
    except StoreError:
        broke = True
    failing.left = 0
    assert broke == (writes <= (2 if fails == "source" else 4))
    assert await move(source, target) in (Migrated.MIGRATED, Migrated.ALREADY)
    copied, left = await target.read(peers.DID), await source.read(peers.DID)
    assert (copied.session, copied.state.note) == (session(), known(session()).note)
    assert copied.state.paused is paused
    assert left.state.migrated_to == target.url


@pytest.mark.anyio
async def test_another_session_of_the_account_stays() -> None:
    """A login in the target is not replaced, and the source goes on."""
    source, target = InMemoryOAuthTokenStore(), InMemoryOAuthTokenStore()
    await filled(source)
    await target.save(session("ref-other"))
    assert await move(source, target) is Migrated.OTHER
    assert not (await source.read(peers.DID)).state.paused
    assert await move(InMemoryOAuthTokenStore(), target) is Migrated.GONE


@pytest.mark.anyio
async def test_the_target_that_went_on_is_ahead() -> None:
    """Interrupted before its last step, then used in the target: the source is told, and nothing goes back."""
    source, target = InMemoryOAuthTokenStore(), InMemoryOAuthTokenStore()
    await filled(source)
    new = session("ref-new")
    await target.save(new)
    await target.commit(new, RefreshState().rotated(session(), new, 9000.0))
    assert await move(source, target) is Migrated.MIGRATED
    assert (await target.load(peers.DID)) == new
    assert (await source.read(peers.DID)).state.paused
