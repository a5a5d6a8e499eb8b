"""What is looked at while time misbehaves: who holds a dead token, and how much is sent."""

from dataclasses import dataclass, field

import anyio

from tests.servers.house import House

LIFE = 3600.0

# How often it is looked.
_LOOK = 15.0


@dataclass
class Seen:
    """What an observation found.

    Attributes:
        requests: how many carried a refresh token.
        busiest: the most of them between two looks.
        dead: for how many seconds clients of a session had an access token that the servers refuse.
    """

    requests: int = 0
    busiest: int = 0
    dead: dict[str, float] = field(default_factory=dict)


async def observe(h: House, seconds: float) -> Seen:
    """Watches for a while of virtual time, judging by the servers' clock."""
    seen = Seen()
    before = len(h.traffic.refreshes())
    for _ in range(int(seconds / _LOOK)):
        already = len(h.traffic.refreshes())
        await anyio.sleep(_LOOK)
        seen.busiest = max(seen.busiest, len(h.traffic.refreshes()) - already)
        for did in await h.store.list_dids():
            session = (await h.entry(did)).session
            assert session is not None
            if h.sim.state.access_tokens[session.access_jwt].expires_at <= h.sim.state.now:
                seen.dead[did] = seen.dead.get(did, 0.0) + _LOOK
    seen.requests = len(h.traffic.refreshes()) - before
    return seen


async def staggered(h: House, count: int, *, over: float = LIFE / 2) -> list[str]:
    """Logs accounts in one after the other; their DIDs, the soonest to expire first."""
    dids = []
    for _ in range(count):
        dids.append((await h.login()).did)
        h.clock.advance(over / count)
    return dids


async def all_well(h: House) -> bool:
    """Whether every session's tokens work."""
    entries = [await h.entry(did) for did in await h.store.list_dids()]
    return all(entry.session is not None and h.works(entry.session) for entry in entries)
