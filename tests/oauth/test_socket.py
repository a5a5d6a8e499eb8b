"""The whole way over real sockets: our own transport, the guard, and answers that really break."""

import json
from contextlib import AbstractAsyncContextManager
from typing import Any

import anyio
import pytest

from idiolectd.outcome import Ambiguous, Retry
from idiolectd.parts import Parts
from idiolectd.ports import AccessTokenStatus, AccountLocation, Arrived, Prepared, SplitRefresher
from idiolectd.session import OAuthSession
from tests.clock import VirtualClock
from tests.parts import configured, parts_over
from tests.simulator import Fault, Simulator, serve

pytestmark = pytest.mark.anyio


def own_transport(clock: VirtualClock, url: str) -> AbstractAsyncContextManager[Parts]:
    """The parts of a program beside the simulator at `url`."""
    return parts_over(None, configured(url), clock=clock)


async def test_refresh_probe_and_revoke_over_sockets() -> None:
    """Every fault that the wire can have is what the table says, and the session survives to be revoked."""
    clock = VirtualClock()
    sim = Simulator(now=clock.now)
    async with (
        anyio.create_task_group() as tasks,
        own_transport(clock, await tasks.start(serve, sim)) as parts,
    ):
        refresher = parts.refreshers["dpop"]
        record = sim.seed_oauth(sim.add_account("alice.test"))
        session = OAuthSession.from_json(json.dumps(record))

        assert await refresher.locate(session) == AccountLocation(session)
        prepared = await refresher.prepare(session)
        assert isinstance(prepared, Prepared)
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
        assert (await refresher.probe(session)).status is AccessTokenStatus.REFUSED
        session = session.with_tokens(answer.tokens)
        assert (await refresher.probe(session)).status is AccessTokenStatus.ACCEPTED
        assert await refresher.revoke(session) is None
        assert sim.counters.consumptions == 1
        assert (sim.counters.replays_seen, sim.counters.sessions_killed) == (0, 0)
        tasks.cancel_scope.cancel()


async def test_an_answer_counts_from_the_end_of_its_refresh_token() -> None:
    """A cut right behind the new refresh token loses nothing, one byte earlier everything; in both kinds."""
    clock = VirtualClock()
    sim = Simulator(now=clock.now)
    found: list[object] = []
    async with (
        anyio.create_task_group() as tasks,
        own_transport(clock, await tasks.start(serve, sim)) as parts,
    ):
        oauth, legacy = parts.refreshers["dpop"], parts.refreshers["bearer"]
        kinds: list[tuple[SplitRefresher[Any], dict[str, Any]]] = [
            (oauth, {"access_token": "new-a", "token_type": "DPoP", "refresh_token": "new-r", "sub": "?"}),
            (legacy, {"accessJwt": "new-a", "refreshJwt": "new-r", "did": "?"}),
        ]
        for refresher, members in kinds:
            seed = sim.seed_oauth if refresher is oauth else sim.seed_legacy
            session = OAuthSession.from_json(json.dumps(seed(sim.add_account(f"{refresher.kind}.test"))))
            prepared = await refresher.prepare(session)
            assert isinstance(prepared, Prepared)
            body = json.dumps(members).encode()
            end = body.index(b'"new-r"') + len(b'"new-r"')
            for count in (end - 1, end):
                sim.faults.add(Fault("cut", session.did, status=200, body=body, count=count))
                found.append(await refresher.send(session, prepared))
        tasks.cancel_scope.cancel()
    assert [type(answer) for answer in found] == [Ambiguous, Arrived, Ambiguous, Arrived]
    for answer in found:
        if isinstance(answer, Arrived):
            assert (answer.tokens.refresh_jwt, answer.unconfirmed is None) == ("new-r", False)
