"""A wall clock that somebody sets, in either direction, while the daemon runs or before it starts.

The servers' clock is right all the time, so what counts is whether *they* still take the tokens.
"""

import anyio
import pytest

from idiolectd.events import ClockJumped
from tests.clock import VirtualClock
from tests.servers.house import house
from tests.servers.traffic import broken_rules
from tests.times.watching import LIFE, all_well, observe, staggered

pytestmark = [pytest.mark.anyio, pytest.mark.slow]

SESSIONS = 10
HOUR, DAY = 3600.0, 86_400.0

# The scheduler's longest sleep, and a moment.
NOTICED = 35.0


@pytest.mark.parametrize("step", [HOUR, DAY, -HOUR, -DAY, 40.0, -40.0, -LIFE / 3, 10 * 365 * DAY], ids=str)
async def test_a_step_makes_no_storm_and_no_dead_tokens(step: float) -> None:
    """Within three hours of a step no token runs out, and each session is refreshed about once a life."""
    async with house(access_life=LIFE) as h:
        await staggered(h, SESSIONS)
        async with h.running():
            await observe(h, HOUR)
            h.clock.step(step)
            after = await observe(h, 3 * HOUR)
            assert await all_well(h)
        if abs(step) < 365 * DAY:
            assert after.dead == {}
        else:
            # By this clock the sessions' own ends have passed, so each is refreshed at the very end of its token: a
            # look at that moment finds the token over, the next one does not.
            assert all(dead <= NOTICED for dead in after.dead.values())
        # Once a life is every 42 to 51 minutes; a step may cost each session one more; a first
        # request after a nonce's end, or with a wrong time in its proof, is repeated.
        assert after.requests <= SESSIONS * (3 * HOUR / (0.7 * LIFE) + 1) * 1.5
        assert broken_rules(h.traffic.sent, settle=h.settle) == []
        jumps = h.events.of("clock.jumped")
        assert [type(jump) for jump in jumps] == [ClockJumped]
        assert jumps[0].seconds == pytest.approx(step, abs=1)  # type: ignore[attr-defined]


@pytest.mark.parametrize("step", [-HOUR, -DAY], ids=str)
async def test_after_a_step_back_the_work_stays_spread(step: float) -> None:
    """What was spread over a life stays spread: every session gets its turn within one, and no crowd forms."""
    async with house(access_life=LIFE) as h:
        await staggered(h, SESSIONS, over=0.8 * LIFE)
        async with h.running():
            await observe(h, HOUR)
            before = {did: (await h.entry(did)).session for did in await h.store.list_dids()}
            h.clock.step(step)
            after = await observe(h, LIFE)
            renewed = [did for did, old in before.items() if (await h.entry(did)).session != old]
        assert set(renewed) == set(before)
        assert after.busiest <= SESSIONS / 2


@pytest.mark.parametrize("kind", ["back and forth", "ten small ones", "every minute"])
async def test_a_restless_clock_costs_little(kind: str) -> None:
    """A clock that is set again and again: sessions live, and the requests stay bounded."""
    steps = {
        "back and forth": [HOUR, -HOUR, HOUR, -HOUR, DAY, -DAY],
        "ten small ones": [90.0, -90.0] * 5,
        "every minute": [20.0, -20.0] * 15,
    }[kind]
    async with house(access_life=LIFE) as h:
        await staggered(h, SESSIONS)
        async with h.running():
            for step in steps:
                h.clock.step(step)
                await observe(h, 60)
            storm = len(h.traffic.refreshes())
            after = await observe(h, HOUR)
            assert await all_well(h)
        assert after.dead == {}
        large = sum(1 for step in steps if abs(step) > LIFE / 10)
        assert storm <= SESSIONS * (1 + large) * 1.5


async def test_a_clock_that_starts_in_1970() -> None:
    """A board without a battery comes up after two hours, in 1970, and is set ten minutes later: all is well soon."""
    async with house(access_life=LIFE) as h:
        await staggered(h, SESSIONS)
        h.clock.advance(2 * HOUR)
        h.clock.error = -h.clock.true()
        async with h.running():
            first = await observe(h, 600)
            h.clock.error = 0.0
            await observe(h, NOTICED + 10)
            assert await all_well(h)
            second = await observe(h, 2 * HOUR)
            assert await all_well(h)
        assert second.dead == {}
        assert first.requests <= 3 * SESSIONS
        assert second.requests <= SESSIONS * (2 * HOUR / (0.7 * LIFE) + 1) * 1.5
        assert broken_rules(h.traffic.sent, settle=h.settle) == []


async def test_a_clock_that_stays_in_1970() -> None:
    """Nobody ever sets it: by the servers' clock all sessions stay usable for a day all the same."""
    async with house(access_life=LIFE) as h:
        await staggered(h, SESSIONS)
        h.clock.error = -h.clock.true()
        async with h.running():
            seen = await observe(h, DAY / 2)
        assert seen.dead == {}
        assert seen.requests <= SESSIONS * (DAY / 2 / (0.7 * LIFE) + 2) * 1.5


@pytest.mark.parametrize("error", [-DAY, -HOUR, HOUR, DAY], ids=str)
async def test_a_daemon_that_starts_with_a_wrong_clock(error: float) -> None:
    """Records written by a right clock, a daemon with a wrong one: no token runs out, and no storm."""
    clock = VirtualClock(runs=True)
    async with house(access_life=LIFE, clock=clock) as h:
        await staggered(h, SESSIONS)
        clock.step(error)
        async with h.running():
            seen = await observe(h, 2 * HOUR)
            assert await all_well(h)
        assert seen.dead == {}
        assert seen.requests <= SESSIONS * (2 * HOUR / (0.7 * LIFE) + 1) * 1.5


async def test_a_step_in_the_settling_time_breaks_no_rule() -> None:
    """A lost answer, then a step of an hour: the token is not sent again before it has really settled."""
    from tests.simulator import Fault

    async with house(access_life=LIFE) as h:
        await h.login()
        h.sim.faults.add(Fault("drop_before", "/oauth/token"))
        async with h.running():
            while not any(one.is_unclear for one in h.traffic.refreshes()):
                await anyio.sleep(0.5)
            h.clock.step(HOUR)
            await observe(h, 600)
            assert await all_well(h)
        assert broken_rules(h.traffic.sent, settle=h.settle) == []
