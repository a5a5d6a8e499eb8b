"""Promise 1: one sender. Sixteen processes find the same session due at the same moment."""

import json
import subprocess
import sys
import time
import urllib.request
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import anyio
import pytest

from idiolectd import OAuthSession, open_store

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]

PROCESSES = 16
GENERATIONS = 100


@contextmanager
def _child(*arguments: str) -> Iterator[subprocess.Popen[str]]:
    """A Python process that ends when its standard input closes."""
    child = subprocess.Popen(
        [sys.executable, "-m", *arguments], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    try:
        yield child
    finally:
        assert child.stdin is not None
        child.stdin.close()
        try:
            child.wait(20)
        except subprocess.TimeoutExpired:
            child.kill()
            child.wait(10)
        assert child.stdout is not None
        child.stdout.close()


def _line(child: subprocess.Popen[str]) -> str:
    assert child.stdout is not None
    return child.stdout.readline().strip()


def _tell(child: subprocess.Popen[str], line: str) -> None:
    assert child.stdin is not None
    child.stdin.write(line + "\n")
    child.stdin.flush()


def _stats(url: str) -> dict[str, Any]:
    with urllib.request.urlopen(f"{url}/_sim/stats", timeout=10) as answer:
        found: dict[str, Any] = json.load(answer)
        return found


async def _save(store_url: str, record: dict[str, Any]) -> None:
    async with open_store(store_url) as store:
        await store.save(OAuthSession.from_json(json.dumps(record)))


@pytest.mark.parametrize("kind", ["sqlite", "files"])
def test_sixteen_processes_send_one_token_a_generation(kind: str, tmp_path: Path) -> None:
    """A hundred times: one process refreshes, fifteen find it done, the server sees one request."""
    store_url = f"sqlite://{tmp_path}/sessions.sqlite" if kind == "sqlite" else f"file://{tmp_path}"
    with ExitStack() as stack:
        simulator = stack.enter_context(_child("tests.simulator", "--accounts", "1", "--oauth", "1"))
        started = json.loads(_line(simulator))
        (record,) = started["accounts"][0]["oauth"]
        anyio.run(_save, store_url, record)
        workers = [
            stack.enter_context(
                _child("tests.processes.worker", store_url, "--backend", ("trio", "asyncio")[number % 2])
            )
            for number in range(PROCESSES)
        ]
        assert [_line(worker) for worker in workers] == ["ready"] * PROCESSES
        now = time.time()
        for generation in range(1, GENERATIONS + 1):
            now += 3600  # the life of a token: it is due, whatever was drawn
            for worker in workers:
                _tell(worker, f"{now} {record['did']}")
            outcomes = Counter(_line(worker) for worker in workers)
            assert outcomes == {"Refreshed": 1, "Current": PROCESSES - 1}
            assert _stats(started["url"])["consumptions"] == generation
        assert _stats(started["url"])["replays_seen"] == 0
