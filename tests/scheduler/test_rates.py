"""A server is asked as its sessions need, within what it allows, and the daemon says when that is too little."""

import anyio
import pytest

from idiolectd.events import IssuerOutrun, IssuerRate
from idiolectd.outcome import Retry
from idiolectd.ports import Answer
from idiolectd.scheduler import IssuerLimits
from idiolectd.scheduler.pace import USUAL_CONCURRENCY, USUAL_RATE, Pace
from idiolectd.session import OAuthSession
from tests.scheduler.test_crowds import fill
from tests.scheduler.test_scheduler import House
from tests.support import did

pytestmark = pytest.mark.anyio


def test_the_rate_follows_what_is_due() -> None:
    """What is planned for the next minutes, or waits already, raises it, and how many are in flight with it."""
    pace = Pace(IssuerLimits())
    assert (pace.rate(0.0, 10), pace.concurrency(0.0, 10)) == (USUAL_RATE, USUAL_CONCURRENCY)
    pace.planned = 400.0
    assert pace.rate(0.0, 10) == 500.0
    assert pace.concurrency(0.0, 10) == 64
    pace.planned = 0.0
    assert pace.rate(0.0, 4000) == 200.0
    assert pace.concurrency(0.0, 4000) == 32


def test_what_is_configured_holds() -> None:
    """Neither more nor less, however much is due."""
    pace = Pace(IssuerLimits(rate=20.0, concurrency=3))
    pace.planned = 400.0
    assert (pace.rate(0.0, 4000), pace.concurrency(0.0, 4000)) == (20.0, 3)
    assert pace.limited_by(0.0) == "refresh.rate"


def test_the_servers_headers_bound_it() -> None:
    """With nothing left until the reset, now and then one is sent all the same: it tells whether that still holds."""
    pace = Pace(IssuerLimits())
    pace.planned, pace.allowed = 400.0, 10.0
    assert pace.rate(0.0, 0) == 10.0
    assert pace.limited_by(0.0) == "ratelimit_headers"
    pace.allowed = 0.0
    assert pace.rate(0.0, 0) == 1 / 20


def test_a_refusal_halves_what_was_sent() -> None:
    """One account that is refused again and again counts once; without another one the bound is gone in minutes."""
    pace = Pace(IssuerLimits())
    for number in range(101):
        pace.start(number / 40, waiting=0)
    pace.refused(did(1), 2.5)
    assert pace.rate(2.5, 0) == pytest.approx(20.0)
    assert pace.limited_by(2.5) == "status_429"
    pace.refused(did(1), 2.5)
    assert pace.rate(2.5, 0) == pytest.approx(20.0)
    assert pace.rate(62.5, 0) == pytest.approx(40.0)
    assert pace.rate(122.5, 0) == USUAL_RATE
    assert pace.most(1e9) == pytest.approx(20.0 * 2**30), "it does not overflow"
    assert not pace.is_bound(122.5)


def test_starts_are_spread_and_a_few_may_come_together() -> None:
    """At 100 a second ten at once; below ten a second one after the other."""
    fast, slow = Pace(IssuerLimits(rate=100.0)), Pace(IssuerLimits(rate=2.0))
    for pace, at_once in ((fast, 11), (slow, 1)):
        started = 0
        while pace.wait(5.0) <= 0:
            pace.start(5.0, waiting=0)
            started += 1
        assert started == at_once
    assert slow.wait(5.0) == 0.5


async def test_many_sessions_of_one_server_raise_its_rate_and_are_named() -> None:
    """A million an hour would not fit into fifty a second; here it is 40,000 in ten minutes."""
    house = House()
    server = house.server("large", life=600)
    session = server.login(did(0))
    await house.store.save(session)
    await house.engine.reconcile(session.did)
    fill(house, session, [did(number) for number in range(1, 40_000)], at=house.clock.now() + 500.0)
    async with house.running():
        await anyio.sleep(10)
        raised = house.events.of("issuer.rate")
    assert [type(event) for event in raised] == [IssuerRate]
    assert raised[0] == IssuerRate(issuer=server.issuer, needed=66.7, rate=83.3)
    assert house.events.of("issuer.outrun") == []


async def test_sessions_that_need_more_than_is_allowed_are_named() -> None:
    """Before the first of them is late, and once."""
    house = House(limits=IssuerLimits(rate=20.0))
    server = house.server("large", life=600)
    session = server.login(did(0))
    await house.store.save(session)
    await house.engine.reconcile(session.did)
    fill(house, session, [did(number) for number in range(1, 40_000)], at=house.clock.now() + 500.0)
    async with house.running():
        await anyio.sleep(400)
        assert house.scheduler.statistics().outrun == [server.issuer]
    warned = house.events.of("issuer.outrun")
    assert warned == [
        IssuerOutrun(issuer=server.issuer, needed=66.7, allowed=20.0, limited_by="refresh.rate")
    ]


async def test_a_server_that_refuses_to_be_asked_so_often_is_asked_less() -> None:
    """It takes ten a second; after some refusals it is sent no more, and all are refreshed."""
    house = House()
    server = house.server("strict", life=600)
    times: list[float] = []
    refused: list[float] = []

    async def count(_session: OAuthSession) -> Answer | None:
        now = anyio.current_time()
        if sum(1 for at in times[-10:] if now - at < 1.0) >= 10:
            refused.append(now)
            return Retry("http_429", "too many", issuer_wide=True, rate_limited=True)
        times.append(now)
        return None

    server.before = count
    for number in range(300):
        await house.store.save(server.login(did(number)))
    house.clock.step(600)
    async with house.running():
        await anyio.sleep(400)
    assert len({event.did for event in house.events.of("session.refreshed")}) == 300  # type: ignore[attr-defined]
    assert 0 < len(refused) < 60
