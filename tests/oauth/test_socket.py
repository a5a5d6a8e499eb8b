"""The whole way over real sockets: our own transport, the guard, and answers that really break."""

import json

import anyio
import pytest

from idiolectd.http import HttpClient
from idiolectd.identity import Identity
from idiolectd.oauth import ClientRegistry, Discovery, OAuthRefresher
from idiolectd.outcome import Ambiguous, Retry
from idiolectd.ports import Arrived, Prepared, Taken
from idiolectd.session import OAuthSession
from tests.http.support import LOOPBACK, FakeClock
from tests.simulator import Fault, Simulator, serve

pytestmark = pytest.mark.anyio


async def test_refresh_probe_and_revoke_over_sockets() -> None:
    """Every fault that the wire can have is what the table says, and the session survives to be revoked."""
    clock = FakeClock()
    sim = Simulator(now=clock.now)
    async with (
        anyio.create_task_group() as tasks,
        HttpClient(policy=LOOPBACK, clock=clock, events=lambda _: None) as http,
    ):
        url = await tasks.start(serve, sim)
        discovery = Discovery(http, clock)
        refresher = OAuthRefresher(http, clock, ClientRegistry(), discovery, Identity(http, url))
        record = sim.seed_oauth(sim.add_account("alice.test"))
        session = OAuthSession.from_json(json.dumps(record))

        prepared = await refresher.prepare(session, check_identity=True)
        assert isinstance(prepared, Prepared)
        assert prepared.identity_checked
        for fault, expected in (
            (Fault("reset", "/oauth/token"), Ambiguous),
            (Fault("drop_before", "/oauth/token"), Ambiguous),
            (Fault("respond", "/oauth/token", status=503), Retry),
        ):
            sim.faults.add(fault)
            assert isinstance(await refresher.send(session, prepared), expected)
        sim.faults.add(Fault("drip", "/oauth/token", count=50, interval=0.001))
        answer = await refresher.send(session, prepared)
        assert isinstance(answer, Arrived)
        assert (await refresher.probe(session)).taken is Taken.NO
        session = session.with_tokens(answer.tokens)
        assert (await refresher.probe(session)).taken is Taken.YES
        assert await refresher.revoke(session) is None
        assert sim.counters.consumptions == 1
        assert (sim.counters.replays_seen, sim.counters.sessions_killed) == (0, 0)
        tasks.cancel_scope.cancel()
