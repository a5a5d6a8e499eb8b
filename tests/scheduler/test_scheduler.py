"""The scheduler over a store in memory, on a virtual clock."""

from collections import defaultdict
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from functools import partial
from typing import Any, cast

import anyio
import anyio.lowlevel
import pytest

from idiolectd.errors import StoreError
from idiolectd.events import IssuerPaused, SessionCrashed, SessionQuarantined
from idiolectd.outcome import Ambiguous, Retry
from idiolectd.ports import Answer, ScheduleEntry, SplitRefresher, StoredSession
from idiolectd.refresh import RefreshEngine
from idiolectd.scheduler import IssuerLimits, Scheduler
from idiolectd.session import Kind, OAuthSession
from tests.clock import VirtualClock
from tests.memory_store import MemoryStore
from tests.support import FakeServer, Recorder, did, planner

pytestmark = pytest.mark.anyio

DAY = 86400.0


class Store(MemoryStore):
    """A store that can be unreadable for a while: its records, or its index."""

    is_down = False
    has_no_index = False

    async def read(self, did: str) -> StoredSession:
        if self.is_down:
            await anyio.lowlevel.checkpoint()
            raise StoreError("input/output error")
        return await super().read(did)

    async def due(
        self, before: float, *, limit: int, after: ScheduleEntry | None = None
    ) -> list[ScheduleEntry]:
        if self.has_no_index:
            await anyio.lowlevel.checkpoint()
            raise StoreError("input/output error")
        return await super().due(before, limit=limit, after=after)


@dataclass
class House:
    """A store, servers by issuer, and a scheduler over them."""

    clock: VirtualClock = field(default_factory=lambda: VirtualClock(runs=True))
    events: Recorder = field(default_factory=Recorder)
    limits: IssuerLimits = field(default_factory=IssuerLimits)
    places: int = 256

    def __post_init__(self) -> None:
        self.store = self.new_store()
        self.servers: dict[str, FakeServer] = {}
        self.scheduler = self.new_scheduler()

    def new_store(self) -> Store:
        return Store(clock=self.clock)

    def new_scheduler(self) -> Scheduler:
        """Another process' scheduler over the same store and servers."""
        refreshers: dict[Kind, SplitRefresher[Any]] = {"dpop": cast("SplitRefresher[Any]", self)}
        engine = RefreshEngine(
            self.store, refreshers, planner=planner(), clock=self.clock, events=self.events
        )
        self.engine = engine
        return Scheduler(
            self.store,
            lambda: engine,
            clock=self.clock,
            emit=self.events,
            limits=self.limits,
            jitter=lambda: 0.5,
            places=self.places,
        )

    def server(self, name: str, *, life: float = 3600.0) -> FakeServer:
        issuer = f"https://{name}.example"
        return self.servers.setdefault(issuer, FakeServer(self.clock.now, life=life, issuer=issuer))

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        async with anyio.create_task_group() as tg:
            await tg.start(self.scheduler.run)
            yield
            tg.cancel_scope.cancel()

    # The port: each session goes to its issuer's server.
    kind = "dpop"
    has_grace = False

    def __getattr__(self, name: str) -> object:
        if name not in ("locate", "prepare", "send", "probe", "revoke"):
            raise AttributeError(name)

        async def call(session: OAuthSession, *args: object, **kwargs: object) -> object:
            return await getattr(self.servers[session.issuer or ""], name)(session, *args, **kwargs)

        return call


async def test_a_week_of_a_thousand_sessions() -> None:
    """Over a week no token is ever met expired, each is refreshed once in its window, none is replayed."""
    house = House()
    lives = {"short": 4 * 3600.0, "long": 24 * 3600.0, "longer": 48 * 3600.0}
    for number in range(1000):
        name = list(lives)[0 if number < 40 else 1 + number % 2]
        await house.store.save(house.server(name, life=lives[name]).login(did(number)))
    async with house.running():
        await anyio.sleep(7 * DAY)
    for name, life in lives.items():
        server = house.server(name)
        assert server.replays == []
        accounts = len([d for d in range(1000) if (d < 40) == (name == "short")])
        if name != "short":
            accounts //= 2
        rotations = len(server.sent) / accounts
        assert 7 * DAY / (0.87 * life) - 1 <= rotations <= 7 * DAY / (0.70 * life) + 1
    late = [event.lateness or 0.0 for event in house.events.of("session.refreshed")]  # type: ignore[attr-defined]
    assert max(late) < 5
    assert house.scheduler.statistics().in_flight == 0
    for number in range(1000):
        session = await house.store.load(did(number))
        assert session is not None
        assert not session.is_expired(_utc(house.clock.now()))


async def test_a_dead_issuer_delays_nobody() -> None:
    """While one issuer hangs and one refuses, all others' sessions are refreshed in time."""
    house = House(limits=IssuerLimits(concurrency=2))
    for number in range(60):
        await house.store.save(house.server(("hangs", "fails", "works")[number % 3]).login(did(number)))

    async def hang(_session: OAuthSession) -> Answer:
        await anyio.sleep(60)
        return Retry("read_timeout", "no answer", issuer_wide=True)

    async def fail(_session: OAuthSession) -> Answer:
        return Retry("connect", "connection refused", issuer_wide=True)

    house.server("hangs").before = hang
    house.server("fails").before = fail
    async with house.running():
        await anyio.sleep(DAY)
    late = [
        event.lateness or 0.0  # type: ignore[attr-defined]
        for event in house.events.of("session.refreshed")
        if event.issuer == "https://works.example"  # type: ignore[attr-defined]
    ]
    assert len(late) > 20 * 24
    assert max(late) < 5


async def test_a_server_in_trouble_is_asked_seldom() -> None:
    """Two days of 5xx for 500 sessions: a few requests a minute in all, and everything works afterwards."""
    house = House()
    server = house.server("down")
    for number in range(500):
        await house.store.save(server.login(did(number)))

    async def fail(_session: OAuthSession) -> Answer:
        return Retry("http_503", "unavailable", issuer_wide=True)

    server.before = fail
    async with house.running():
        await anyio.sleep(2 * DAY)
        assert len(server.sent) < 2 * DAY / 30
        assert len(house.events.of("issuer.paused")) == 1
        server.before = None
        await anyio.sleep(400)
        assert len(house.events.of("issuer.resumed")) == 1
    for number in range(500):
        session = await house.store.load(did(number))
        assert session is not None
        assert server.is_current(session)
        assert not session.is_expired(_utc(house.clock.now()))


async def test_poisoned_sessions_do_not_starve_the_others() -> None:
    """Sessions whose answers are always lost, and whose tokens end first, do not block their issuer's others."""
    house = House()
    server = house.server("shared", life=3600)
    for number in range(20):
        server.life = 3000 if number < 5 else 3600
        await house.store.save(server.login(did(number)))
    server.life = 3600

    async def poison(session: OAuthSession) -> Answer | None:
        return Ambiguous("http_502", "bad gateway") if session.did < did(5) else None

    server.before = poison
    async with house.running():
        await anyio.sleep(DAY)
    for number in range(5, 20):
        session = await house.store.load(did(number))
        assert session is not None
        assert not session.is_expired(_utc(house.clock.now()))
    late = [event.lateness or 0.0 for event in house.events.of("session.refreshed")]  # type: ignore[attr-defined]
    assert max(late) < 600
    assert len(server.sent) < 20 * 40 + 5 * DAY / 100, "a lost answer backs off too"


async def test_a_pause_that_several_sessions_hear_of_is_everybodys() -> None:
    """When three sessions in a row are told to wait, the whole issuer is left alone for that long."""
    house = House()
    server = house.server("busy", life=600)
    for number in range(20):
        await house.store.save(server.login(did(number)))
    asked: list[float] = []

    async def three_times(_session: OAuthSession) -> Answer | None:
        asked.append(house.clock.now())
        if len(asked) > 3:
            return None
        return Retry("rate_limited", "slow down", retry_after=120.0, issuer_wide=True)

    server.before = three_times
    async with house.running():
        await anyio.sleep(1000)
    assert asked[3] - asked[2] >= 100  # what is left of the first one's wait
    assert isinstance(house.events.of("issuer.paused")[0], IssuerPaused)


async def test_a_pause_that_one_session_hears_of_is_its_own() -> None:
    """One account's rate limit, of an hour, delays none of its issuer's others; it is obeyed itself."""
    house = House()
    server = house.server("works", life=1800)
    for number in range(20):
        await house.store.save(server.login(did(number)))
    asked: list[float] = []

    async def limit(session: OAuthSession) -> Answer | None:
        if session.did != did(1):
            return None
        asked.append(house.clock.now())
        return Retry("rate_limited", "slow down", retry_after=3600.0, issuer_wide=True)

    server.before = limit
    async with house.running():
        await anyio.sleep(DAY)
    assert 20 <= len(asked) <= 24
    late = [event.lateness or 0.0 for event in house.events.of("session.refreshed")]  # type: ignore[attr-defined]
    assert len(late) > 19 * 48
    assert max(late) < 1


async def test_overdue_sessions_go_by_their_end() -> None:
    """After a long stop the session whose token ends first is refreshed first, at the lane's pace."""
    house = House(limits=IssuerLimits(concurrency=1, rate=2.0))
    lives = [5000.0, 4100.0, 9000.0, 4050.0, 7000.0]
    server = house.server("works")
    for number, life in enumerate(lives):
        server.life = life
        await house.store.save(server.login(did(number)))
    house.clock.step(10000)
    order: list[str] = []

    async def record(session: OAuthSession) -> None:
        order.append(session.did)

    server.before = record
    async with house.running():
        await anyio.sleep(60)
    assert order[:5] == [did(number) for number in (3, 1, 0, 4, 2)]
    gaps = [b - a for a, b in zip(server.sent_at, server.sent_at[1:5], strict=False)]
    assert min(gaps) >= 0.5


async def test_concurrency_is_bounded_per_issuer() -> None:
    """No issuer is sent more than its share at a time; many issuers go side by side."""
    house = House(limits=IssuerLimits(concurrency=3, rate=1000.0))
    now: dict[str, int] = defaultdict(int)
    most: dict[str, int] = defaultdict(int)

    async def count(session: OAuthSession) -> None:
        issuer = session.issuer or ""
        now[issuer] += 1
        most[issuer] = max(most[issuer], now[issuer])
        most["all"] = max(most["all"], sum(now.values()))
        await anyio.sleep(2)
        now[issuer] -= 1

    for number in range(80):
        server = house.server(f"s{number % 4}")
        server.before = count
        await house.store.save(server.login(did(number)))
    house.clock.step(3600)
    async with house.running():
        await anyio.sleep(100)
    assert most.pop("all") == 12
    assert set(most.values()) == {3}


async def test_a_login_while_running_is_picked_up() -> None:
    """A session saved, replaced or deleted by somebody is noticed at once."""
    house = House()
    server = house.server("works", life=100)
    async with house.running():
        await house.store.save(server.login(did(1)))
        await anyio.sleep(90)
        assert len(server.sent) == 1
        await house.store.delete(did(1))
        await anyio.sleep(500)
        assert len(server.sent) == 1


async def test_a_broken_record_is_reported_once_and_hurts_nobody() -> None:
    """An unreadable record is read again after a second, then reported, once; repaired, it works."""
    house = House()
    server = house.server("works", life=100)
    good = server.login(did(1))
    await house.store.save(server.login(did(2)))
    async with house.running():
        house.store.put_record(did(1), b'{"did": "did:plc:')
        await anyio.sleep(0.5)
        assert house.events.of("session.quarantined") == []
        await anyio.sleep(600)
        reports = house.events.of("session.quarantined")
        assert [type(report) for report in reports] == [SessionQuarantined]
        assert house.scheduler.statistics().quarantined == 1
        house.store.put_record(did(1), good.to_json().encode())
        await anyio.sleep(90)
        assert house.scheduler.statistics().quarantined == 0
    assert [event for event in house.events.of("session.refreshed") if event.did == did(1)]  # type: ignore[attr-defined]


async def test_a_record_caught_in_the_middle_of_a_write_is_no_fault() -> None:
    """A writer that truncates first is given a second."""
    house = House()
    server = house.server("works")
    session = server.login(did(1))
    async with house.running():
        house.store.put_record(did(1), b"")
        await anyio.sleep(0.3)
        house.store.put_record(did(1), session.to_json().encode())
        await anyio.sleep(10)
    assert house.events.of("session.quarantined") == []


async def test_an_exception_is_one_sessions_error() -> None:
    """Our own bug on one session is logged and backed off, and the other sessions go on."""
    house = House()
    server = house.server("works", life=100)
    for number in (1, 2):
        await house.store.save(server.login(did(number)))

    async def bug(session: OAuthSession) -> None:
        if session.did == did(1):
            raise ZeroDivisionError(session.refresh_jwt)

    server.before = bug
    async with house.running():
        await anyio.sleep(DAY)
    crashes = house.events.of("session.crashed")
    assert isinstance(crashes[0], SessionCrashed)
    assert "ZeroDivisionError" in crashes[0].traceback
    assert len(crashes) < 700, "a crash must back off"
    refreshed = [event for event in house.events.of("session.refreshed") if event.did == did(2)]  # type: ignore[attr-defined]
    assert len(refreshed) > 900


async def test_a_cancelled_scheduler_finishes_what_was_sent() -> None:
    """Cancelling starts nothing new, and waits for the answer and the save."""
    house = House(limits=IssuerLimits(concurrency=1))
    server = house.server("slow", life=1000)
    for number in (1, 2):
        await house.store.save(server.login(did(number)))
    house.clock.step(1000)

    async def slowly(_session: OAuthSession) -> None:
        await anyio.sleep(20)

    server.before = slowly
    async with house.running():
        await anyio.sleep(10)
    assert len(server.sent) == 1
    saved = [await house.store.load(did(number)) for number in (1, 2)]
    assert "refresh-2" in [session.refresh_jwt for session in saved if session]


async def test_a_store_that_fails_for_a_while_delays_only() -> None:
    """An unreadable store is reported, again at growing distance, and work goes on when it answers again."""
    house = House()
    server = house.server("works", life=100)
    await house.store.save(server.login(did(1)))
    async with house.running():
        house.store.is_down = True
        await anyio.sleep(300)
        told = house.events.of("store.unavailable")
        assert [round(event.lasting, -1) for event in told] == [0, 60, 180]  # type: ignore[attr-defined]
        assert server.sent == []
        house.store.is_down = False
        await anyio.sleep(30)
    assert len(server.sent) >= 1


async def test_a_login_that_can_not_be_looked_at_is_not_forgotten() -> None:
    """A first look that fails right after a suspend, before the horizon has moved on, is repeated."""
    house = House()
    server = house.server("works", life=600)
    async with house.running():
        await anyio.sleep(31)
        house.clock.step(3000)
        house.store.is_down = True
        await house.store.save(server.login(did(1)))
        await anyio.sleep(1)
        house.store.is_down = False
        await anyio.sleep(600)
    assert len(server.sent) == 1


@pytest.mark.parametrize("jump", [3600.0, 5 * DAY])
async def test_after_a_suspend_due_work_starts_within_half_a_minute(jump: float) -> None:
    """When the wall clock went on while everything slept, what is due starts within 30 seconds."""
    house = House()
    server = house.server("works", life=7200)
    for number in range(10):
        await house.store.save(server.login(did(number)))
    async with house.running():
        await anyio.sleep(1820)  # the schedule is looked at every five minutes, and not just now
        assert server.sent == []
        house.clock.step(jump + 3000)
        await anyio.sleep(31)
        assert len(server.sent) == 10
    assert len(house.events.of("clock.jumped")) == 1


async def test_a_mended_configuration_tries_suspended_sessions_at_once() -> None:
    """`retry_suspended` does not wait for the slow retry."""
    house = House()
    server = house.server("works")
    session = server.login(did(1))
    await house.store.save(session)
    broken = replace(session, client_id="https://other.example/client.json")
    async with house.running():
        house.store.put_record(did(1), broken.to_json().encode())
        await anyio.sleep(3600)
        assert len(house.events.of("session.suspended")) == 1
        assert server.sent == []
        house.store._records[did(1)] = session.to_json().encode()
        house.scheduler.retry_suspended()
        await anyio.sleep(1)
        assert len(server.sent) == 1


def _utc(timestamp: float) -> datetime:
    return datetime.fromtimestamp(timestamp, UTC)


@pytest.mark.parametrize("step", [3600.0, DAY, 1.7e9])
async def test_a_clock_that_is_set_back_delays_nothing(step: float) -> None:
    """Tokens go on ageing when the clock is set back: each is refreshed when it would have been."""
    house = House()
    server = house.server("works", life=7200)
    for number in range(50):
        await house.store.save(server.login(did(number)))
    async with house.running():
        await anyio.sleep(1800)
        house.clock.step(-step)
        began = anyio.current_time()
        await anyio.sleep(7200 * 0.70 - 1800 - 60)
        assert server.sent == [], "a step back is no reason to refresh early"
        await anyio.sleep(7200 * 0.15 + 120)
        assert len(server.sent) == 50
        assert anyio.current_time() - began < 7200 - 1800


async def test_a_clock_found_behind_at_the_start_delays_nothing() -> None:
    """A daemon that starts on a machine whose clock was set back meanwhile plans as if it had not been."""
    house = House()
    server = house.server("works", life=7200)
    await house.store.save(server.login(did(1)))
    async with house.running():
        await anyio.sleep(600)
    house.clock.step(-DAY)
    scheduler = house.new_scheduler()
    async with anyio.create_task_group() as tg:
        tg.start_soon(partial(scheduler.run, clock_behind=DAY))
        await anyio.sleep(7200 * 0.85)
        assert len(server.sent) == 1
        tg.cancel_scope.cancel()


@pytest.mark.parametrize("trouble", ["first look", "index", "plan"])
async def test_a_clock_that_is_set_back_while_the_disk_fails_delays_nothing(trouble: str) -> None:
    """A look that was put off, and plans that can't be moved at once, follow the clock all the same."""
    house = House()
    server = house.server("works", life=600)
    async with house.running():
        if trouble == "first look":
            house.store.is_down = True
        # As a foreign program saves it: without a line of the schedule.
        house.store.put_record(did(1), server.login(did(1)).to_json().encode())
        await anyio.sleep(1)
        house.store.is_down = trouble == "plan"
        house.store.has_no_index = trouble == "index"
        house.clock.step(-DAY)
        await anyio.sleep(50)
        house.store.is_down = house.store.has_no_index = False
        await anyio.sleep(500)
    assert 1 <= len(server.sent) <= 2  # from the first look's point of view the token may be old
