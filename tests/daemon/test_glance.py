"""The status line names who needs a person, from the index of a database and from the records of a folder."""

from pathlib import Path

import pytest

from idiolectd.daemon.glance import Glance, look, status_line
from idiolectd.ports import SharedStore
from idiolectd.scheduler import Statistics
from idiolectd.state import RefreshState, State, reconcile
from idiolectd.store import open_store
from tests.support import FakeServer, did

pytestmark = pytest.mark.anyio

NOW = 1_800_000_000.0
QUIET = Statistics(
    scheduled=0,
    queued=0,
    in_flight=0,
    quarantined=0,
    remembered=0,
    queues=0,
    tripped=[],
    outrun=[],
    is_caught_up=True,
)


async def _store_sessions(store: SharedStore) -> None:
    """One that is well, one that is dead, one that is suspended, and one that a person has paused."""
    server = FakeServer(lambda: NOW)
    for number in range(4):
        session = server.login(did(number))
        await store.save(session)
        async with store.claim(session.did, patience=0):
            state: RefreshState = reconcile(session, (await store.read(session.did)).state, NOW).state
            if number == 1:
                state = state.failed(State.RELOGIN_REQUIRED, "refused", "no", NOW, cause="refused")
            if number == 2:
                state = state.failed(State.SUSPENDED, "odd", "no", NOW, cause="odd")
            if number == 3:
                state = state.paused_by_person()
            await store.commit(session, state)


@pytest.mark.parametrize("url", ["sqlite://{}/sessions.sqlite", "file://{}/sessions"])
async def test_who_needs_a_person_is_named(url: str, tmp_path: Path) -> None:
    """The dead and the suspended; whom a person has paused is known to one."""
    async with open_store(url.format(tmp_path)) as store:
        assert await look(store, NOW) == Glance(0, 0)
        await _store_sessions(store)
        glance = await look(store, NOW)
    assert (glance.sessions, glance.needing_person) == (4, 2)
    assert set(glance.names) == {f"{did(1)} (relogin_required)", f"{did(2)} (suspended)"}


def test_the_worst_comes_first() -> None:
    """What could not be saved, then who needs a person, then what goes on."""
    names = ("a.example (relogin_required)", "b.example (suspended)")
    assert status_line(Glance(9, 5, names), QUIET, 1) == (
        "1 NOT SAVED: look at the disk, 9 sessions, 5 need a person: a.example (relogin_required),"
        " b.example (suspended), 3 more, 0 refreshing, 0 waiting"
    )
    assert status_line(Glance(9), QUIET, 0) == "9 sessions, 0 refreshing, 0 waiting"
