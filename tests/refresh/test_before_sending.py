"""What is seen to before a token is sent: room for its successor, and whether somebody was faster."""

import anyio
import anyio.lowlevel
import pytest

from idiolectd.errors import StoreError
from idiolectd.outcome import Current, Refreshed
from idiolectd.refresh import RefreshEngine
from idiolectd.session import OAuthSession
from idiolectd.store import InMemoryOAuthTokenStore
from tests.clock import VirtualClock
from tests.support import FakeServer, Recorder, did, planner

pytestmark = pytest.mark.anyio

DID = did(1)


class FullStore(InMemoryOAuthTokenStore):
    """A store that knows it is full, and would take a small write all the same."""

    is_full = True

    async def ensure_room(self) -> None:
        await anyio.lowlevel.checkpoint()
        if self.is_full:
            raise StoreError("only 3 KiB are free")


def an_engine(store: InMemoryOAuthTokenStore, server: FakeServer, clock: VirtualClock) -> RefreshEngine:
    return RefreshEngine(store, {"dpop": server}, planner=planner(), clock=clock, events=Recorder())


async def test_nothing_is_sent_without_room() -> None:
    """Where the new tokens might not fit the old one stays unsent, without a note; with room it goes."""
    clock = VirtualClock()
    store, server = FullStore(clock=clock), FakeServer(clock.now)
    await store.save(server.login(DID))
    engine = an_engine(store, server, clock)
    with pytest.raises(StoreError, match="KiB"):
        await engine.refresh(DID, force=True)
    assert server.sent == []
    assert (await store.read(DID)).state.note is None
    store.is_full = False
    await engine.refresh(DID, force=True)
    assert server.sent == ["refresh-0"]


async def test_whoever_waited_gets_what_the_other_brought() -> None:
    """Of two who ask at once both end with the new tokens, and one asks the server."""
    clock = VirtualClock()
    store, server = InMemoryOAuthTokenStore(clock=clock), FakeServer(clock.now)
    await store.save(server.login(DID))
    engine = an_engine(store, server, clock)
    prepared: list[OAuthSession] = []
    got: list[str] = []

    def count(session: OAuthSession) -> None:
        prepared.append(session)

    async def slowly(_session: OAuthSession) -> None:
        await anyio.sleep(0.05)

    async def ask() -> None:
        outcome = (await engine.refresh(DID, force=True, patience=5)).outcome
        assert isinstance(outcome, Current | Refreshed)
        got.append(outcome.session.refresh_jwt)

    server.prepared, server.before = count, slowly
    async with anyio.create_task_group() as tg:
        tg.start_soon(ask)
        tg.start_soon(ask)
    assert got == ["refresh-1", "refresh-1"]
    assert len(prepared) == 1
