"""A machine that was asleep: what is due starts at once, soonest expiry first, at the usual pace."""

import anyio
import pytest

from idiolectd.events import ClockJumped
from idiolectd.scheduler import IssuerLimits
from tests.servers.house import House, house
from tests.times.watching import LIFE, all_well, observe, staggered

pytestmark = [pytest.mark.anyio]

SESSIONS = 40

# The scheduler's longest sleep: the promise is that a resume is noticed within it.
NOTICED = 30.0


async def _first_tokens(h: House) -> dict[str, str]:
    first = {}
    for did in await h.store.list_dids():
        session = await h.store.load(did)
        assert session is not None
        first[session.refresh_jwt] = did
    return first


@pytest.mark.parametrize("hours", [1, 9, 24 * 5])
async def test_due_work_starts_within_half_a_minute_of_a_resume(hours: int) -> None:
    """Every session that ran out in its sleep is refreshed, the first within 30 s, and none twice."""
    async with house(access_life=LIFE) as h:
        dids = await staggered(h, SESSIONS)
        async with h.running():
            await anyio.sleep(60)
            owners = await _first_tokens(h)
            h.clock.advance(hours * 3600)
            resumed = h.clock.true()
            await anyio.sleep(NOTICED + 5)
            sent = h.traffic.refreshes(resumed)
            assert sent[0].at - resumed <= NOTICED
            assert await all_well(h)
        tokens = list(dict.fromkeys(one.token for one in sent))
        assert {owners.get(token or "") for token in tokens} == set(dids)
        # Each token once, but for the first one's nonce: a server forgets those in minutes.
        assert len(sent) <= SESSIONS + 8
        (jumped,) = h.events.of("clock.jumped")
        assert isinstance(jumped, ClockJumped)
        assert jumped.seconds == pytest.approx(hours * 3600, abs=1)


async def test_the_soonest_expiry_goes_first_at_the_lanes_pace() -> None:
    """After a resume the order is that of the access tokens' ends, and the rate limit holds."""
    async with house(access_life=LIFE) as h:
        h.limits = IssuerLimits(concurrency=1, rate=2.0)
        dids = await staggered(h, SESSIONS)
        async with h.running():
            owners = await _first_tokens(h)
            h.clock.advance(6 * 3600)
            resumed = h.clock.true()
            await anyio.sleep(NOTICED + SESSIONS / 2 + 10)
            sent = h.traffic.refreshes(resumed)
        order = list(dict.fromkeys(owners[one.token] for one in sent if one.token in owners))
        assert order == dids
        starts = {one.token: one.at for one in sent}
        gaps = [b - a for a, b in zip(starts.values(), list(starts.values())[1:], strict=False)]
        assert min(gaps) >= 0.49


async def test_a_nap_wakes_only_what_is_due() -> None:
    """Twenty minutes of sleep: what became due is refreshed, what did not is left alone."""
    async with house(access_life=LIFE) as h:
        await staggered(h, SESSIONS)
        async with h.running():
            await anyio.sleep(1)
            states = {did: (await h.entry(did)).state for did in await h.store.list_dids()}
            before = len(h.traffic.refreshes())
            h.clock.advance(1200)
            awake = h.clock.now()
            await anyio.sleep(NOTICED + 1)
            sent = {one.token for one in h.traffic.refreshes()[before:]}
        # What became due in the half minute of watching may have been sent or not.
        surely = {did for did, state in states.items() if (state.next_attempt_at or 0) <= awake}
        maybe = {did for did, state in states.items() if (state.next_attempt_at or 0) <= awake + NOTICED + 1}
        assert len(surely) <= len(sent) <= len(maybe)
        assert 0 < len(surely) < SESSIONS


async def test_a_suspend_in_mid_request_loses_nothing() -> None:
    """The machine sleeps for an hour between a request and its answer: the session lives."""
    from tests.simulator import Fault

    async with house(access_life=LIFE) as h:
        session = await h.login()
        h.sim.faults.add(Fault("delay", "/oauth/token", times=None, delay_after=10.0))
        async with h.running():
            while not h.traffic.refreshes():
                await anyio.sleep(1)
            h.clock.advance(3600)
            h.sim.faults.clear()
            await observe(h, 600)
        entry = await h.entry(session.did)
        assert entry.session is not None
        assert h.works(entry.session)
        assert h.sim.counters.replays_seen == 0
