"""The programs in `examples/`, each as a process: they survive a new nonce and a rotation on the way."""

import json
import subprocess
import sys
from collections.abc import AsyncIterator
from functools import partial
from pathlib import Path

import anyio
import pytest

from idiolectd.did import file_name
from tests.simulator import Simulator, serve
from tests.simulator.oauth import rotate

pytestmark = pytest.mark.slow  # the libraries take seconds to import

EXAMPLES = Path(__file__).parents[2] / "examples"
NAMES = sorted(path.name for path in EXAMPLES.glob("*.py"))


@pytest.fixture
async def sim() -> AsyncIterator[Simulator]:
    made = Simulator()
    async with anyio.create_task_group() as tg:
        await tg.start(serve, made)
        yield made
        tg.cancel_scope.cancel()


@pytest.mark.anyio
@pytest.mark.parametrize("anyio_backend", ["trio"])
@pytest.mark.parametrize("name", NAMES)
async def test_an_example_outlives_a_rotation(name: str, sim: Simulator, tmp_path: Path) -> None:
    """Its token is refused at first; it waits for the record, and writes once."""
    record = sim.seed_oauth(sim.add_account("alice.test"))
    path = tmp_path / file_name(record["did"])
    record["confirmedHandle"] = record["handle"]  # as a login, or the daemon, has written it
    path.write_text(json.dumps(record))
    (session,) = sim.state.oauth_sessions
    rotate(sim.state, session)
    command = [sys.executable, str(EXAMPLES / name), f"{tmp_path}/", "alice.test", "some", "text"]
    run = partial(subprocess.run, command, capture_output=True, text=True, timeout=60, check=False)
    ended: list[subprocess.CompletedProcess[str]] = []

    async def example() -> None:
        ended.append(await anyio.to_thread.run_sync(run))

    async with anyio.create_task_group() as tg:
        tg.start_soon(example)
        with anyio.fail_after(60):
            while not sim.counters.api_refusals and not ended:
                await anyio.sleep(0.02)
        fresh = {"accessJwt": session.access_token, "refreshJwt": session.refresh_token}
        draft = tmp_path / "draft"
        draft.write_text(json.dumps(record | fresh))
        draft.replace(path)
    (done,) = ended
    assert done.stdout.startswith(f"at://{record['did']}/app.bsky.feed.post/"), done.stderr
    assert (done.returncode, sim.counters.records_created, sim.counters.api_refusals) == (0, 1, 1)
    assert sim.counters.nonce_requests == 1
