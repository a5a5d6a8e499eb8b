"""A daemon that starts on a store that another one has planned."""

from functools import partial
from pathlib import Path

import anyio
import pytest

from idiolectd.ports import NO_SERVER, ScheduleEntry
from idiolectd.refresh import RefreshEngine
from idiolectd.scheduler import IssuerLimits, Scheduler
from idiolectd.store import open_store
from tests.clock import VirtualClock
from tests.support import FakeServer, Recorder, did, planner

pytestmark = pytest.mark.anyio


@pytest.fixture
def anyio_backend() -> str:
    """Real time: these stores work in threads."""
    return "trio"


async def schedule_of_a_daemon(url: str, server: FakeServer, clock: VirtualClock) -> list[ScheduleEntry]:
    """What a daemon that has just started will be reminded of."""
    async with open_store(url, clock=clock) as store, anyio.create_task_group() as tg:
        engine = RefreshEngine(store, {"dpop": server}, planner=planner(), clock=clock, events=Recorder())
        scheduler = Scheduler(
            store, lambda: engine, clock=clock, emit=Recorder(), limits=IssuerLimits(), jitter=lambda: 0.5
        )
        with anyio.fail_after(10):
            await tg.start(partial(scheduler.run))
            lines = await store.due(1e12, limit=9)
            while not lines or lines[0].server == NO_SERVER:  # its first look may be under way
                await anyio.sleep(0.01)
                lines = await store.due(1e12, limit=9)
        tg.cancel_scope.cancel()
    return lines


@pytest.mark.parametrize("kind", ["file", "sqlite"])
async def test_what_is_due_beyond_the_horizon_is_still_planned_after_a_restart(
    tmp_path: Path, kind: str
) -> None:
    """A session that is due in an hour has a line again, although its record and state hold no news."""
    clock = VirtualClock()
    server = FakeServer(clock.now, life=7200)
    url = f"{kind}://{tmp_path / 'store'}"
    async with open_store(url, clock=clock) as store:
        await store.save(server.login(did(1)))
    first = await schedule_of_a_daemon(url, server, clock)
    assert [line.at > clock.now() + 3600 for line in first] == [True]
    if kind == "file":  # which would tell it without a look
        (tmp_path / "store" / ".idiolectd" / "index").unlink()
    assert await schedule_of_a_daemon(url, server, clock) == first
