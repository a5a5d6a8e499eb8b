"""What a server calls its account, in answers with tokens."""

from dataclasses import replace

import pytest

from idiolectd.outcome import Refreshed
from idiolectd.ports import AccessTokenStatus, Answer, Arrived, Probe
from idiolectd.refresh import RefreshEngine
from tests.clock import VirtualClock
from tests.memory_store import MemoryStore
from tests.support import OTHER_KEY, FakeServer, Recorder, did, planner, without_ours

pytestmark = pytest.mark.anyio

DID = did(1)


class Calling(FakeServer):
    """A server that calls every account by one handle."""

    handle: str | None = None

    async def send(self, *args: object) -> Answer:
        answer = await super().send(*args)  # type: ignore[arg-type]
        assert isinstance(answer, Arrived)
        return replace(answer, tokens=replace(answer.tokens, handle=self.handle, confirmed_handle="x.test"))


async def test_a_servers_word_changes_no_name() -> None:
    """It is remembered as that, and asks for a look at the account's document; the tokens are kept."""
    clock = VirtualClock()
    store, server = MemoryStore(clock=clock), Calling(clock.now, kind="bearer")
    engine = RefreshEngine(store, {"bearer": server}, planner=planner(), clock=clock, events=Recorder())
    await store.save(replace(server.login(DID), handle="a.test", confirmed_handle="a.test"))
    for called, claimed, doubted in (
        ("A.test", None, False),
        (None, None, False),
        ("victim.test", "victim.test", True),
        ("v" * 300, None, True),
    ):
        server.handle = called
        assert isinstance((await engine.refresh(DID, force=True)).outcome, Refreshed)
        entry = await store.read(DID)
        assert entry.session is not None
        assert (entry.session.handle, entry.session.confirmed_handle) == ("a.test", "a.test")
        assert server.is_current(entry.session)
        assert (entry.state.claimed_handle, entry.state.identity_doubted) == (claimed, doubted)


async def test_a_first_name_is_taken_but_not_confirmed() -> None:
    """A record without any handle gets what the server says, for people."""
    clock = VirtualClock()
    store, server = MemoryStore(clock=clock), Calling(clock.now)
    engine = RefreshEngine(store, {"dpop": server}, planner=planner(), clock=clock, events=Recorder())
    await store.save(server.login(DID))
    server.handle = "a.test"
    await engine.refresh(DID, force=True)
    entry = await store.read(DID)
    assert entry.session is not None
    assert (entry.session.handle, entry.session.confirmed_handle) == ("a.test", None)
    assert entry.state.claimed_handle is None


async def test_what_was_confirmed_outlives_foreign_programs() -> None:
    """A save that drops the field, and a login of a program that does not know it."""
    clock = VirtualClock()
    store, server = MemoryStore(clock=clock), Calling(clock.now)
    engine = RefreshEngine(store, {"dpop": server}, planner=planner(), clock=clock, events=Recorder())
    server.probe_answer = Probe(AccessTokenStatus.ACCEPTED)  # each login is the newest record
    await store.save(server.login(DID))
    await engine.name_session(DID, "a.test")
    named = await store.load(DID)
    assert named is not None
    assert (named.handle, named.confirmed_handle) == ("a.test", "a.test")
    for login in (None, OTHER_KEY):
        foreign = server.login(DID, key=login) if login else named
        store.put_record(DID, without_ours(foreign).to_json().encode())
        await engine.refresh(DID, force=True)
        found = await store.load(DID)
        assert found is not None
        assert found.confirmed_handle == "a.test"
