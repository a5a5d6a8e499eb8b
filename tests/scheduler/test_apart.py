"""Nobody else's trouble: what one server, directory or record does costs no other one's sessions anything."""

from collections.abc import Iterator
from dataclasses import replace

import anyio
import pytest

from idiolectd.events import SessionRefreshed
from idiolectd.outcome import Ambiguous, Retry, Suspended
from idiolectd.ports import AccessTokenStatus, Answer, Probe
from idiolectd.refresh.planner import server_to_ask
from idiolectd.scheduler import IssuerLimits
from idiolectd.scheduler.issuer_queue import IssuerQueue
from idiolectd.session import OAuthSession
from tests.scheduler.test_scheduler import House
from tests.support import FakeServer, did

pytestmark = pytest.mark.anyio


def granted(house: House, server: FakeServer) -> Iterator[SessionRefreshed]:
    for event in house.events.events:
        if isinstance(event, SessionRefreshed) and event.issuer == server.issuer:
            yield event


def latest(house: House, server: FakeServer) -> float:
    return max(event.lateness or 0.0 for event in granted(house, server))


# Where accounts live ---------------------------------------------------------------------------


async def mute(_session: OAuthSession) -> Retry:
    """A PLC directory that accepts and never answers."""
    await anyio.sleep(10)
    return Retry("identity", "no answer in time", server="did:plc")


async def test_a_mute_directory_makes_no_session_late() -> None:
    """Three hundred sessions, all of them a week after the last look at where they live: none is late."""
    house = House()
    server = house.server("works", life=600)
    server.located = mute
    for number in range(300):
        await house.store.save(server.login(did(number)))
    async with house.running():
        await anyio.sleep(1200)
    assert len(list(granted(house, server))) >= 300 * 2
    assert latest(house, server) < 1
    assert 20 * 4 > server.identity_checks > 3, "a directory that is silent is asked now and then"


async def test_a_directory_that_answers_is_asked_once_a_week() -> None:
    """Beside the refreshes, each account's document is looked at; who moved goes along."""
    house = House()
    server = house.server("works", life=86400)

    async def moved(session: OAuthSession) -> OAuthSession:
        await anyio.sleep(1)
        return replace(session, pds_url="https://new.example")

    server.located = moved
    for number in range(20):
        await house.store.save(server.login(did(number)))
    async with house.running():
        await anyio.sleep(7 * 86400)
        assert server.identity_checks == 20
        await anyio.sleep(2 * 86400)
        assert server.identity_checks == 40
    assert latest(house, server) < 1
    for number in range(20):
        session = await house.store.load(did(number))
        assert session is not None
        assert session.pds_url == "https://new.example"
        assert server.is_current(session)


async def test_an_account_that_moved_away_is_found_beside_the_refreshes() -> None:
    """What the look finds, at first sight or a week later, suspends the session: nothing is sent for it."""
    house = House()
    server = house.server("works", life=600)

    async def elsewhere(_session: OAuthSession) -> Suspended:
        return Suspended("issuer_changed", "issuer_changed", "another issuer")

    server.located = elsewhere
    await house.store.save(server.login(did(1)))
    async with house.running():
        await anyio.sleep(3 * 3600)
        assert server.sent == []
    assert len(house.events.of("session.suspended")) == 1


async def test_a_handle_is_confirmed_at_first_sight() -> None:
    """A session that another program brought is found by its handle before its first refresh."""
    house = House()
    server = house.server("works", life=86400)
    server.handles[did(1)] = "a.test"
    async with house.running():
        await house.store.save(replace(server.login(did(1)), handle="a.test"))
        await anyio.sleep(60)
        session = await house.store.load(did(1))
        assert session is not None
        assert (session.confirmed_handle, server.sent) == ("a.test", [])


async def test_suspended_sessions_that_ask_a_mute_directory_first_delay_nobody() -> None:
    """They wait for it in its own lane: their issuer's places are for whom it can serve now."""
    house = House(limits=IssuerLimits(concurrency=2))
    server = house.server("works", life=600)
    server.located = mute

    def suspend(session: OAuthSession) -> Suspended | None:
        return Suspended("odd", "odd", "somebody must do something") if session.did < did(40) else None

    server.prepared = suspend
    for number in range(80):
        await house.store.save(server.login(did(number)))
    async with house.running():
        await anyio.sleep(3600)
    assert len(list(granted(house, server))) >= 40 * 6
    assert latest(house, server) < 1


# Servers ---------------------------------------------------------------------------------------


async def test_an_issuer_that_names_another_hosts_endpoint_keeps_that_hosts_limits() -> None:
    """However many sessions it has, the host gets no more at a time, and its own sessions come first."""
    house = House(limits=IssuerLimits(concurrency=4, rate=20.0))
    host, parasite = house.server("host", life=600), house.server("parasite", life=600)
    parasite.endpoint = host.issuer
    now, most = 0, 0

    async def count(_session: OAuthSession) -> None:
        nonlocal now, most
        now += 1
        most = max(most, now)
        await anyio.sleep(1)
        now -= 1

    for number in range(210):
        server = host if number < 10 else parasite
        server.before = count
        await house.store.save(server.login(did(number)))
    house.clock.step(600)
    async with house.running():
        await anyio.sleep(300)
    assert most <= 4
    assert len(list(granted(house, host))) == 10
    assert latest(house, host) < 610
    assert len({event.did for event in granted(house, parasite)}) == 200


async def test_a_pds_that_can_not_say_costs_its_issuer_nothing() -> None:
    """Lost answers are asked after at the PDS; one that is mute holds up its own sessions only."""
    house = House(limits=IssuerLimits(concurrency=2))
    server = house.server("works", life=600)

    async def lose(session: OAuthSession) -> Answer | None:
        return Ambiguous("reset", "connection reset") if session.did < did(20) else None

    async def no_verdict(session: OAuthSession) -> Probe:
        server.probed.append(session.access_jwt)
        await anyio.sleep(20)
        return Probe(AccessTokenStatus.UNKNOWN)

    server.before = lose
    server.probe = no_verdict  # type: ignore[method-assign]
    for number in range(60):
        await house.store.save(server.login(did(number)))
    async with house.running():
        await anyio.sleep(3600)
    assert server.probes > 20
    assert len(list(granted(house, server))) >= 40 * 6
    assert latest(house, server) < 65  # while their answers are lost, that may be the issuer's trouble


async def test_who_has_an_answer_missing_waits_for_the_pds() -> None:
    """The line of the schedule names the server that is asked first."""
    house = House()
    server = house.server("works")
    session = server.login(did(1))
    await house.store.save(session)
    state = (await house.store.read(did(1))).state
    assert server_to_ask(session, state) == server.issuer
    noted = state.noting(session, 0.0)
    assert server_to_ask(session, noted) == "https://pds.example"
    assert server_to_ask(session, noted.answered()) == server.issuer
    assert server_to_ask(session, replace(state, refusals=1)) == "did:plc"


async def test_our_own_refusals_are_no_servers_trouble() -> None:
    """Most of an issuer's records can't be used; that pauses nobody else's, and is no answer of its either."""
    house = House()
    server = house.server("works", life=600)
    server.prepared = lambda session: Retry("guard", "refused by us") if session.did < did(6) else None
    for number in range(8):
        await house.store.save(server.login(did(number)))

    async def down(_session: OAuthSession) -> Answer:
        return Retry("http_503", "unavailable", issuer_wide=True)

    async with house.running():
        await anyio.sleep(1200)
        assert house.events.of("issuer.paused") == []
        assert latest(house, server) < 1
        server.prepared, server.before = None, down
        while not house.scheduler.statistics().tripped:
            await anyio.sleep(1)
        server.prepared = lambda _session: Suspended("odd", "odd", "our own refusal")
        await anyio.sleep(600)
        assert house.scheduler.statistics().tripped == [server.issuer]
    assert house.events.of("issuer.resumed") == []


def test_a_lane_counts_different_sessions() -> None:
    """Three of them in a row are the server's trouble; one is its own, however often."""
    busy = IssuerQueue("https://x.example", IssuerLimits())
    for number in range(3):
        assert busy.failed(did(number), 0.0, jitter=1.0) is (number == 2)
    assert not busy.failed(did(4), 0.5, jitter=1.0), "it had been sent before the pause"
    assert busy.paused_until == 1.0
    assert busy.succeeded()
    for _ in range(9):
        assert not busy.failed(did(1), 0.0, jitter=1.0, retry_after=3600.0)
    assert busy.admit(0.0) == 0.0
