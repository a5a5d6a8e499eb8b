"""A sealed store while its key changes: clients and refreshes notice nothing."""

import json
import time
from pathlib import Path

import anyio
import httpx
import pytest

from idiolectd import SessionAuth, open_store
from idiolectd.clock import SystemClock
from idiolectd.outcome import Refreshed
from idiolectd.session import OAuthSession
from idiolectd.store import Keys, SealingKey
from tests.parts import PDS, configured, parts_over
from tests.simulator import Simulator, SimulatorTransport

pytestmark = pytest.mark.anyio

OLD, NEW = SealingKey("old", b"o" * 32), SealingKey("new", b"n" * 32)
ROTATIONS = 12


@pytest.mark.parametrize("kind", ["file", "sqlite"])
async def test_no_call_fails_while_everything_is_sealed_anew(kind: str, tmp_path: Path) -> None:
    """One program refreshes and seals with the old key, others rekey all the time, and clients call."""
    url = f"{kind}://{tmp_path}/store{'.sqlite' if kind == 'sqlite' else ''}"
    sim = Simulator(PDS, now=time.time)
    account = sim.add_account("alice.test")
    over, calls, rekeyed = anyio.Event(), 0, 0
    async with (
        open_store(url, keys=Keys([OLD, NEW])) as store,
        parts_over(SimulatorTransport(sim), configured(), clock=SystemClock(), store=store) as parts,
        httpx.AsyncClient(transport=SimulatorTransport(sim), auth=SessionAuth(store, account.did)) as client,
    ):
        await store.save(OAuthSession.from_json(json.dumps(sim.seed_oauth(account))))

        async def call() -> None:
            nonlocal calls
            while not over.is_set():
                answer = await client.get(f"{PDS}/xrpc/com.atproto.server.getSession")
                assert answer.status_code == 200
                calls += 1

        async def rekey(keys: Keys) -> None:
            nonlocal rekeyed
            async with open_store(url, keys=keys) as other:
                while not over.is_set():
                    assert await other.reseal(account.did)
                    rekeyed += 1

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(call)
            for keys in (Keys([NEW, OLD]), Keys([OLD, NEW])):
                tasks.start_soon(rekey, keys)
            for _ in range(ROTATIONS):
                seen = calls, rekeyed
                attempt = await parts.engine.refresh(account.did, force=True, patience=30)
                assert isinstance(attempt.outcome, Refreshed)
                while calls < seen[0] + 2 or rekeyed < seen[1] + 2:
                    await anyio.sleep(0.001)
            over.set()
    assert sim.counters.replays_seen == 0
