"""A crowd keeps nobody out: overdue lines that can't be sent, records that change all the time."""

import json
from collections.abc import Iterator
from contextlib import contextmanager

import anyio
import pytest

from idiolectd.outcome import Retry
from idiolectd.ports import Answer, ScheduleEntry, StoredSession
from idiolectd.scheduler import IssuerLimits, due_queue
from idiolectd.scheduler.issuer_queue import IssuerQueue
from idiolectd.scheduler.issuer_queues import IssuerQueues
from idiolectd.session import OAuthSession
from tests.scheduler.test_apart import granted, latest
from tests.scheduler.test_scheduler import House, Store
from tests.support import did

pytestmark = pytest.mark.anyio

# More than the plan and the queues hold.
CROWD = 100_300


def fill(house: House, session: OAuthSession, dids: list[str], *, at: float) -> None:
    """Puts copies of a session into the store, planned already, as a daemon that ended has left them."""
    record = session.to_json()
    entry = house.store._states[session.did]
    state = json.loads(entry) | {"next_attempt_at": at}
    for name in dids:
        good = record.replace(session.did, name)
        house.store._records[name] = good.encode()
        house.store._states[name] = json.dumps(state | {"last_good": good})
        house.store.schedule(name, ScheduleEntry(at, name, at + 100.0, session.issuer or ""))


@pytest.mark.slow
async def test_a_crowd_of_a_dead_issuer_hides_nobody_after_a_restart() -> None:
    """A hundred thousand overdue sessions: another issuer's, and what becomes due next, are in time."""
    house = House()
    dead, alive = house.server("dead", life=600), house.server("alive", life=600)

    async def hang(_session: OAuthSession) -> Answer:
        await anyio.sleep(20)
        return Retry("read_timeout", "no answer", issuer_wide=True)

    dead.before = hang
    session = dead.login(did(0))
    await house.store.save(session)
    await house.engine.reconcile(session.did)
    now = house.clock.now()
    fill(house, session, [did(number) for number in range(1, CROWD)], at=now - 5000.0)
    for number in range(20):
        healthy = alive.login(did(CROWD + number))
        await house.store.save(healthy)
        planned = (await house.engine.reconcile(healthy.did)).due
        house.store.schedule(healthy.did, planned)
    async with house.running():
        await anyio.sleep(1800)
        statistics = house.scheduler.statistics()
    assert len(list(granted(house, alive))) >= 20 * 3
    assert latest(house, alive) < 1
    # A queue holds what so many sessions need within its time, which is more the more there are of them.
    assert statistics.queued + statistics.scheduled < CROWD / 2, "the others wait in the index"
    assert len(dead.sent) > 10


async def test_a_crowd_that_is_served_goes_on_until_its_end() -> None:
    """A queue that had no room for all asks for more when it is half empty; small ones always have room."""
    added: list[str] = []

    async def work(entry: ScheduleEntry, _queue: IssuerQueue) -> bool:
        added.append(entry.did)
        return True

    queues = IssuerQueues(IssuerLimits(rate=1.0), 256, lambda _did: 0, work)
    with no_workers(queues):
        entries = [ScheduleEntry(float(number), did(number), 0.0, "a") for number in range(500)]
        taken = [entry for entry in entries if queues.add(entry)]
        assert len(taken) == 201, "one is in flight"
        assert queues.add(ScheduleEntry(0.0, did(1000), 0.0, "b"))
        assert not queues.take_has_room_again()
        queue = queues.queue("a")
        for _ in range(101):
            queue.pop(0.0)
        assert queues.take_has_room_again()
        assert not queues.take_has_room_again(), "it is asked for once"


async def test_a_session_alone_gets_one_task() -> None:
    """A task for each session that may start, and none that looks, finds nothing and ends."""
    started: list[str] = []

    class Counting:
        def start_soon(self, *_args: object, name: str) -> None:
            started.append(name)

    async def work(_due: ScheduleEntry, _queue: IssuerQueue) -> bool:
        raise AssertionError

    board = IssuerQueues(IssuerLimits(concurrency=8, rate=1000.0), 256, lambda _did: 0, work)
    board.tasks = Counting()  # type: ignore[assignment]
    board.queue("a").has_answered = True
    board.add(ScheduleEntry(0.0, did(0), 0.0, "a"))
    assert len(started) == 1
    for number in range(1, 100):
        board.add(ScheduleEntry(0.0, did(number), 0.0, "a"))
    assert len(started) == 8


async def test_a_server_in_trouble_is_forgotten_when_nobody_asks_for_it() -> None:
    """Some minutes after its last pause, and not while anybody waits or is being admitted."""

    async def work(_entry: ScheduleEntry, _queue: IssuerQueue) -> bool:
        raise AssertionError

    queues = IssuerQueues(IssuerLimits(), 256, lambda _did: 0, work)
    with no_workers(queues):
        for name in ("idle", "visited"):
            for number in range(3):
                queues.queue(name).failed(did(number), 0.0, jitter=1.0)
        queues.add(ScheduleEntry(0.0, did(1), 0.0, "queued"))
        queues.queue("visited").admitted = 1
        queues.sweep(100.0)
        assert len(queues) == 3
        queues.sweep(700.0)
        assert queues.tripped == ["visited"]
        assert len(queues) == 2


@contextmanager
def no_workers(queues: IssuerQueues) -> Iterator[None]:
    class Nobody:
        def start_soon(self, *_args: object, **_options: object) -> None:
            return

    queues.tasks = Nobody()  # type: ignore[assignment]
    yield


async def test_pages_of_the_index_are_read_to_the_horizon(monkeypatch: pytest.MonkeyPatch) -> None:
    """Entries of one moment, more of them than a page holds, are each taken once."""
    monkeypatch.setattr(due_queue, "_PAGE", 7)
    house = House()
    now = house.clock.now()
    for number in range(50):
        house.store.schedule(did(number), ScheduleEntry(now - 1.0 + number // 20, did(number), now, "x"))
    started: list[str] = []
    ours = due_queue.DueQueue(house.store, house.clock)

    def start(entry: ScheduleEntry) -> bool:
        started.append(entry.did)
        return True

    await ours.refill(start, set())
    assert started == [did(number) for number in range(40)]
    assert len(ours) == 10


class SlowStore(Store):
    """A store whose reads take a while."""

    async def read(self, did: str) -> StoredSession:
        await anyio.sleep(0.2)
        return await super().read(did)


class SlowHouse(House):
    """A world with such a store."""

    def new_store(self) -> Store:
        return SlowStore(clock=self.clock)


async def test_a_program_that_rewrites_everything_starves_nobody() -> None:
    """Records that change faster than they can be looked at: the start does not wait, and nobody is late."""
    house = SlowHouse()
    server = house.server("works", life=60)
    for number in range(20):
        await house.store.save(server.login(did(number)))
        house.store.schedule(did(number), (await house.engine.reconcile(did(number))).due)
    foreign = server.login(did(99)).to_json().encode()
    rows = {
        did(number): foreign.replace(did(99).encode(), did(number).encode()) for number in range(100, 1300)
    }

    async def rewrite() -> None:
        while True:
            for name, record in rows.items():
                house.store.put_record(name, record)
            await anyio.sleep(10)

    async with anyio.create_task_group() as tg:
        tg.start_soon(rewrite)
        with anyio.fail_after(20):
            await tg.start(house.scheduler.run)
        assert not house.scheduler.statistics().is_caught_up
        await anyio.sleep(60)
        tg.cancel_scope.cancel()
    ours = [event for event in granted(house, server) if event.did < did(20)]
    assert len(ours) >= 20
    assert max(event.lateness or 0.0 for event in ours) < 5
