"""How often servers are asked, whatever they say: an edge's page, tokens that hardly live, odd records."""

import json

import pytest
import trio.testing
from anyio import sleep

from idiolectd.session import OAuthSession
from idiolectd.state import State
from tests.parts import ISSUER
from tests.servers.house import House, house
from tests.servers.misbehaviour import Misbehaving, at_refresh, page

pytestmark = pytest.mark.anyio


@pytest.fixture
def anyio_backend() -> tuple[str, dict[str, object]]:
    """Virtual time."""
    return "trio", {"clock": trio.testing.MockClock(autojump_threshold=0)}


async def test_an_edges_page_at_the_token_endpoint_is_the_issuers_trouble() -> None:
    """Forty sessions near their end, and a firewall's 403 for each: a few requests in all, and all recover."""
    made: list[Misbehaving] = []

    def wrap(inner: object) -> Misbehaving:
        made.append(Misbehaving(inner, lambda: 0.0))  # type: ignore[arg-type]
        return made[0]

    async with house(wrap, access_life=60) as h:
        for _ in range(40):
            await h.login()
        made[0].act, made[0].where = page(403), at_refresh
        async with h.running():
            await sleep(90)
            assert 3 <= len(h.traffic.refreshes()) < 25
            assert h.scheduler is not None
            assert h.scheduler.statistics().tripped == [ISSUER]
            made[0].act = None
            await sleep(200)
            for did in await h.store.list_dids():
                entry = await h.entry(did)
                assert entry.session is not None
                assert h.works(entry.session)


@pytest.mark.parametrize("life", [0.2, 1.0, 3.0])
async def test_tokens_that_hardly_live_are_not_rotated_all_the_time(life: float) -> None:
    """A session has a floor between two rotations, whatever its server says."""
    async with house(legacy_access_life=life) as h:
        await h.login(kind="bearer")
        async with h.running():
            await sleep(60)
            assert 2 <= len(h.traffic.refreshes()) <= 13


async def test_an_issuer_in_another_spelling_costs_nobody_anything() -> None:
    """Records with a slash, a port or capitals in their issuer are refreshed, and their neighbours too."""
    async with house(access_life=600) as h:
        for spelling in (f"{ISSUER}/", f"{ISSUER}:443", ISSUER.upper().replace("HTTPS", "https")):
            await _login_as(h, spelling)
        await h.login()
        unusable = await _login_as(h, f"{ISSUER}/x")
        async with h.running():
            await sleep(1200)
        assert h.events.names.count("session.refreshed") >= 8
        assert "issuer.paused" not in h.events.names
        state = (await h.entry(unusable.did)).state
        assert (state.state, state.cause) == (State.SUSPENDED, "issuer_unusable")


async def _login_as(h: House, issuer: str) -> OAuthSession:
    session = await h.login()
    await h.store.delete(session.did)
    record = json.loads(session.to_json()) | {"issuer": issuer}
    named = OAuthSession.from_json(json.dumps(record))
    await h.store.save(named)
    return named
