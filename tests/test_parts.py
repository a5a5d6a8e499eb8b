"""New parts for a new configuration, on the resources of the old ones."""

import json

import anyio
import httpx
import pytest

from idiolectd.oauth import ClientRegistry
from idiolectd.outcome import Current, Refreshed
from idiolectd.session import OAuthSession
from tests.clock import VirtualClock
from tests.oauth.support import Recording
from tests.parts import ISSUER, PDS, configured, parts_over
from tests.simulator import Simulator, SimulatorTransport

pytestmark = pytest.mark.anyio

OTHER = "https://other.test"


class Waiting(httpx.AsyncBaseTransport):
    """Holds what goes to the token endpoint until it is let go."""

    def __init__(self, inner: httpx.AsyncBaseTransport) -> None:
        self._inner = inner
        self.has_come, self.go = anyio.Event(), anyio.Event()

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        if request.url.path == "/oauth/token":
            self.has_come.set()
            await self.go.wait()
        return await self._inner.handle_async_request(request)


async def test_what_is_under_way_ends_with_its_own_parts() -> None:
    """A refresh that was sent before a reload is saved; the new parts find it done, and ask the new directory."""
    clock = VirtualClock()
    sim, other = Simulator(PDS, issuer=ISSUER, now=clock.now), Simulator(OTHER, now=clock.now)
    account = sim.add_account("alice.test")
    elsewhere = other.add_account("bob.test")
    requests = Recording(SimulatorTransport({PDS: sim, ISSUER: sim, OTHER: other}))
    transport = Waiting(requests)
    session = OAuthSession.from_json(json.dumps(sim.seed_oauth(account)))
    outcomes: list[object] = []

    async with (
        parts_over(transport, configured(PDS), clock=clock) as parts,
        anyio.create_task_group() as tasks,
    ):
        await parts.store.save(session)

        async def refresh() -> None:
            outcomes.append((await parts.engine.refresh(session.did, force=True)).outcome)

        tasks.start_soon(refresh)
        await transport.has_come.wait()
        successor = parts.successor(configured(OTHER), ClientRegistry())
        assert successor.resources is parts.resources
        assert successor.engine is not parts.engine
        transport.go.set()
        outcome = (await successor.engine.refresh(session.did, patience=10)).outcome
        assert isinstance(outcome, Current)
        assert sim.session_of(outcome.session.refresh_jwt) is not None
        assert outcome.session.refresh_jwt != session.refresh_jwt
        assert [type(found) for found in outcomes] == [Refreshed]

        requests.requests.clear()
        assert (await parts.identity.resolve_account(account.did)).pds_url == PDS
        assert (await successor.identity.resolve_account(elsewhere.did)).pds_url == OTHER
        directories = [r.url.host for r in requests.requests if r.url.path.startswith("/did:")]
        assert directories == ["pds.test", "other.test"]
