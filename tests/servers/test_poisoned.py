"""Promise 7 within one issuer: some sessions that never get an answer delay none of the others."""

import httpx
import pytest
import trio.testing
from anyio import sleep

from tests.servers.house import House, house
from tests.servers.misbehaviour import Act, Misbehaving, breaks, page, says
from tests.servers.traffic import _refresh_token

pytestmark = [pytest.mark.anyio, pytest.mark.slow]

HEALTHY, POISONED = 20, 10
LIFE = 3600.0


@pytest.fixture
def anyio_backend() -> tuple[str, dict[str, object]]:
    """Virtual time."""
    return "trio", {"clock": trio.testing.MockClock(autojump_threshold=0)}


@pytest.mark.parametrize(
    "act",
    [page(502), page(500), breaks(httpx.ReadTimeout), says(400, {"error": "strange"}), says(200, {})],
    ids=["502", "500", "no answer", "400", "200 without tokens"],
)
async def test_poisoned_sessions_delay_nobody(act: Act) -> None:
    """A third of an issuer's sessions is refused for six hours; no other one's access token runs out."""
    made: list[Misbehaving] = []

    def wrap(inner: httpx.AsyncBaseTransport) -> httpx.AsyncBaseTransport:
        made.append(Misbehaving(inner, lambda: 0.0))
        return made[0]

    async with house(wrap, access_life=LIFE) as h:
        poisoned = {(await h.login()).did for _ in range(POISONED)}
        for _ in range(HEALTHY):
            await h.login()
        made[0].where = lambda request: _is_poisoned(h, request, poisoned)
        made[0].act = act
        async with h.running():
            late = await _late(h, poisoned, hours=6)
    assert late == {}


async def _late(h: House, poisoned: set[str], *, hours: int) -> dict[str, float]:
    """The healthy sessions whose access token ran out, and the minutes for which clients had a dead one."""
    late: dict[str, float] = {}
    for _ in range(hours * 60):
        await sleep(60)
        for did in set(await h.store.list_dids()) - poisoned:
            session = (await h.entry(did)).session
            assert session is not None
            if h.sim.state.access_tokens[session.access_jwt].expires_at <= h.clock.true():
                late[did] = late.get(did, 0) + 1
    return late


def _is_poisoned(h: House, request: httpx.Request, poisoned: set[str]) -> bool:
    if request.url.path != "/oauth/token":
        return False
    session = h.sim.state.refresh_tokens.get(_refresh_token(request) or "")
    return session is not None and session.did in poisoned
