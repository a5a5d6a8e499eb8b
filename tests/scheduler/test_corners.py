"""Corners of the scheduler, and narrow versions of its tests that are long for one planted bug."""

from collections.abc import Awaitable, Callable

import anyio
import pytest
import trio
import trio.testing

from idiolectd.events import SessionRefreshed
from idiolectd.outcome import Ambiguous, Retry
from idiolectd.ports import AccessTokenStatus, Answer, Probe
from idiolectd.scheduler import IssuerLimits
from idiolectd.session import OAuthSession
from tests.scheduler.test_scheduler import House
from tests.support import FakeServer, did

DID = did(1)


def in_virtual_time(run: Callable[[House], Awaitable[None]]) -> None:
    """Runs a scheduler's test: an hour takes a moment."""

    async def main() -> None:
        await run(House(limits=IssuerLimits(concurrency=2)))

    trio.run(main, clock=trio.testing.MockClock(autojump_threshold=0))


def test_a_broken_record_that_is_rewritten_is_reported_once() -> None:
    """Somebody who saves the same rubbish again and again makes no second report; other rubbish does."""

    async def run(house: House) -> None:
        async with house.running():
            for expected, text in ((1, b"{"), (1, b"{"), (1, b"{"), (2, b"[]")):
                house.store.put_record(DID, text)
                await anyio.sleep(10)
                assert len(house.events.of("session.quarantined")) == expected

    in_virtual_time(run)


def test_a_resume_is_noticed_between_two_refills() -> None:
    """The sleep is capped by itself: no other reason to wake happens to come in the half minute."""

    async def run(house: House) -> None:
        server = house.server("works", life=7200)
        await house.store.save(server.login(DID))
        async with house.running():
            await anyio.sleep(1800 + 20)  # the schedule is looked at every five minutes
            house.clock.step(6600)
            await anyio.sleep(31)
            assert len(server.sent) == 1

    in_virtual_time(run)


def test_a_clock_set_forward_shortens_no_settling() -> None:
    """A lost answer, a step of an hour, and a reason to wake: the token is sent again no sooner."""

    async def run(house: House) -> None:
        server = house.server("works", life=600)
        await house.store.save(server.login(DID))
        server.life = 100
        overdue = server.login(did(2))
        server.probe_answer = Probe(AccessTokenStatus.ACCEPTED)
        lost, sent_again = anyio.Event(), anyio.Event()

        async def lose(session: OAuthSession) -> Answer | None:
            if session.did != DID or sent_again.is_set():
                return None
            if lost.is_set():
                sent_again.set()
                return None
            lost.set()
            return Ambiguous("reset", "connection reset")

        server.before = lose
        async with house.running():
            await lost.wait()
            await anyio.sleep(1)
            house.clock.step(3600)
            await house.store.save(overdue)  # due before all others: the sleeper wakes
            await anyio.sleep(25)
            assert "refresh-1" in server.sent
            assert not sent_again.is_set()
            await anyio.sleep(60)
            assert sent_again.is_set()

    in_virtual_time(run)


@pytest.mark.timeout(100)
@pytest.mark.parametrize("fraction", [number * 3.1e-8 for number in range(8)])
def test_clocks_that_differ_by_a_rounding_error_make_nobody_spin(fraction: float) -> None:
    """What is left of a settling time by one clock and over by the other is over.

    A wall clock tells no less than 2.4e-7 s, a monotonic one of short standing far less.
    """

    async def run(house: House) -> None:
        server = house.server("works", life=600)
        await house.store.save(server.login(DID))
        server.probe_answer = Probe(AccessTokenStatus.ACCEPTED)

        async def lose(_session: OAuthSession) -> Answer | None:
            await anyio.sleep(fraction)
            return Ambiguous("reset", "connection reset") if len(server.sent) == 1 else None

        server.before = lose
        async with house.running():
            await anyio.sleep(600)
        assert len(server.sent) == 2

    in_virtual_time(run)


# Narrow versions -----------------------------------------------------------------------------------


def refreshed(house: House, server: FakeServer) -> list[SessionRefreshed]:
    """The refreshes that one server granted."""
    return [
        event
        for event in house.events.events
        if isinstance(event, SessionRefreshed) and event.issuer == server.issuer
    ]


def test_ten_sessions_of_a_dead_server_ask_it_seldom() -> None:
    """Half an hour of 503: about one request in each of the breaker's pauses, whoever sends it."""

    async def run(house: House) -> None:
        server = house.server("down", life=600)
        for number in range(10):
            await house.store.save(server.login(did(number)))

        async def fail(_session: OAuthSession) -> Answer:
            return Retry("http_503", "unavailable", issuer_wide=True)

        server.before = fail
        async with house.running():
            await anyio.sleep(2000)
        assert 10 < len(server.sent) < 70

    in_virtual_time(run)


def test_an_issuer_that_hangs_delays_nobody_else() -> None:
    """While one issuer takes a minute for each answer, another's sessions are refreshed in time."""

    async def run(house: House) -> None:
        dead, alive = house.server("hangs"), house.server("works")
        for number in range(20):
            await house.store.save((dead, alive)[number % 2].login(did(number)))

        async def hang(_session: OAuthSession) -> Answer:
            await anyio.sleep(60)
            return Retry("read_timeout", "no answer", issuer_wide=True)

        dead.before = hang
        async with house.running():
            await anyio.sleep(3600)
        granted = refreshed(house, alive)
        assert len(granted) >= 10
        assert max(event.lateness or 0.0 for event in granted) < 5

    in_virtual_time(run)


def test_sessions_without_answers_go_behind_the_others() -> None:
    """Three sessions that always trip the breaker, and are always the most urgent, starve nobody."""

    async def run(house: House) -> None:
        server = house.server("shared", life=400)
        for number in range(3):
            await house.store.save(server.login(did(number)))
        server.life = 500
        for number in range(3, 10):
            await house.store.save(server.login(did(number)))

        async def poison(session: OAuthSession) -> Answer | None:
            return Ambiguous("http_502", "bad gateway") if session.did < did(3) else None

        server.before = poison
        async with house.running():
            await anyio.sleep(5000)
        granted = refreshed(house, server)
        assert len(granted) >= 7 * 10
        assert max(event.lateness or 0.0 for event in granted) < 120

    in_virtual_time(run)


def test_sessions_that_are_always_refused_service_go_behind_the_others() -> None:
    """Ten sessions for which the server never has time, and which are always the most urgent, starve nobody."""

    async def run(house: House) -> None:
        server = house.server("shared", life=400)
        for number in range(10):
            await house.store.save(server.login(did(number)))
        server.life = 500
        for number in range(10, 17):
            await house.store.save(server.login(did(number)))

        async def poison(session: OAuthSession) -> Answer | None:
            return Retry("http_503", "unavailable", issuer_wide=True) if session.did < did(10) else None

        server.before = poison
        async with house.running():
            await anyio.sleep(3000)
        granted = refreshed(house, server)
        assert len(granted) >= 7 * 6
        # At first nobody can know which they are.
        assert max(event.lateness or 0.0 for event in granted[7:]) < 120

    in_virtual_time(run)


def test_one_sessions_exception_ends_nobody_elses_work() -> None:
    """Our own bug on one session: the other goes on, and the bug is met seldom."""

    async def run(house: House) -> None:
        server = house.server("works", life=100)
        for number in (1, 2):
            await house.store.save(server.login(did(number)))

        async def bug(session: OAuthSession) -> None:
            if session.did == did(1):
                raise ZeroDivisionError

        server.before = bug
        async with house.running():
            await anyio.sleep(2000)
        assert 1 <= len(house.events.of("session.crashed")) < 40
        assert len(refreshed(house, server)) >= 20

    in_virtual_time(run)


def test_a_session_without_answers_is_sent_seldom() -> None:
    """A gateway that loses every answer for an hour and a half gets as much as any other failing server."""

    async def run(house: House) -> None:
        server = house.server("lost", life=400)
        await house.store.save(server.login(DID))
        server.probe_answer = Probe(AccessTokenStatus.ACCEPTED)

        async def lose(_session: OAuthSession) -> Answer:
            return Ambiguous("http_502", "bad gateway")

        server.before = lose
        async with house.running():
            await anyio.sleep(5400)
        assert 5 < len(server.sent) < 60

    in_virtual_time(run)
