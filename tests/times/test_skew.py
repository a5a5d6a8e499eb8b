"""Servers whose clock is not ours: proofs are dated by theirs, and a person is told above 30 s."""

import anyio
import pytest

from idiolectd.events import ClockSkewed
from tests.servers.house import House, house
from tests.servers.traffic import broken_rules
from tests.times.watching import LIFE, all_well, observe, staggered

pytestmark = [pytest.mark.anyio]

SESSIONS = 3
HOUR, DAY = 3600.0, 86_400.0


def _refused_proofs(h: House) -> int:
    return sum(times for text, times in h.sim.counters.errors.items() if "invalid_dpop_proof" in text)


@pytest.mark.parametrize(
    "offset", [-DAY, -HOUR, -600.0, -200.0, -31.0, 31.0, 200.0, 600.0, HOUR, DAY], ids=str
)
async def test_a_skewed_server_takes_our_proofs(offset: float) -> None:
    """Beyond the server's tolerance only the first proof to each server is refused; all sessions live."""
    async with house(access_life=LIFE, server_clock_offset=offset) as h:
        # Sessions are seeded by the server's clock; a login through us would be by ours.
        h.sim.options.server_clock_offset = 0.0
        await staggered(h, SESSIONS)
        h.sim.options.server_clock_offset = offset
        h.sim.state.access_tokens.clear()
        async with h.running():
            await anyio.sleep(3 * HOUR)
            assert await all_well_by(h)
        assert _refused_proofs(h) <= 1 + SESSIONS
        assert len(h.traffic.refreshes()) <= SESSIONS * 6 + 8
        assert broken_rules(h.traffic.sent, settle=h.settle) == []
        warnings = h.events.of("clock.skewed")
        assert warnings
        assert all(isinstance(warning, ClockSkewed) for warning in warnings)
        assert warnings[0].seconds == pytest.approx(offset, abs=2)  # type: ignore[attr-defined]
        assert len(warnings) <= 2  # once for each server


@pytest.mark.parametrize("offset", [-29.0, -10.0, 0.0, 10.0, 29.0], ids=str)
async def test_a_small_skew_is_nobodys_business(offset: float) -> None:
    """Below half a minute nothing is refused, and nothing said."""
    async with house(access_life=LIFE, server_clock_offset=offset) as h:
        await h.login()
        async with h.running():
            await anyio.sleep(2 * HOUR)
        assert _refused_proofs(h) == 0
        assert h.events.of("clock.skewed") == []


async def test_our_own_step_is_learned_anew() -> None:
    """After a step of ours what was known of the server's clock is wrong; one refusal corrects it."""
    async with house(access_life=LIFE) as h:
        await staggered(h, SESSIONS)
        async with h.running():
            await observe(h, HOUR)
            for step in (HOUR, -HOUR, DAY):
                h.clock.step(step)
                seen = await observe(h, 2 * HOUR)
                assert seen.dead == {}
            assert await all_well(h)
        # One for each step and each session at most: they may be under way at the same time.
        assert _refused_proofs(h) <= 3 * SESSIONS
        assert broken_rules(h.traffic.sent, settle=h.settle) == []


async def all_well_by(h: House) -> bool:
    """Whether every session's tokens work, by the server's clock."""
    entries = [await h.entry(did) for did in await h.store.list_dids()]
    return all(
        entry.session is not None
        and h.honoured(entry.session)
        and h.sim.state.access_tokens[entry.session.access_jwt].expires_at > h.sim.state.now
        for entry in entries
    )
