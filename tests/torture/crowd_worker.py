"""One of many processes on one store: refreshes every session when it is told the time.

Reads lines ``NOW`` (the time it shall believe in) and answers each with the outcomes, counted, as
JSON. The clock is given, so that the sessions can be due again at once; everything else is real.
"""

import argparse
import json
import random
import sys
from collections import Counter

import anyio
import anyio.to_thread

from idiolectd.clock import SystemClock
from idiolectd.errors import LockBusy, StoreError
from idiolectd.events import Event
from idiolectd.http import make_http
from idiolectd.oauth import ClientRegistry
from idiolectd.parts import Resources, build_parts
from idiolectd.refresh import RefreshEngine
from idiolectd.store import open_store
from tests.clock import VirtualClock
from tests.parts import NOBODY, configured

# Longer than a whole generation takes: nobody may come away without an answer.
_PATIENCE = 240.0

# So many sessions at a time: the queues within the process are part of what is tried.
_AT_ONCE = 8


def _silent(_event: Event) -> None:
    """The outcomes are all that counts."""


async def main(store_url: str, seed: int) -> None:
    """Works until standard input closes."""
    clock, config, chance = VirtualClock(), configured(NOBODY), random.Random(seed)
    # Proofs are made by the real time: the servers' clocks do not jump.
    async with open_store(store_url) as store, make_http(config, SystemClock(), _silent) as http:
        resources = Resources(store, http, clock, _silent)
        engine = build_parts(config, ClientRegistry(), resources).engine
        print("ready", flush=True)
        while line := await anyio.to_thread.run_sync(sys.stdin.readline):
            clock.advance_to(float(line))
            dids = await store.list_dids()
            if chance.random() < 0.5:  # else all processes go the same way, and meet at each session
                chance.shuffle(dids)
            print(json.dumps(await _refresh_all(engine, dids)), flush=True)


async def _refresh_all(engine: RefreshEngine, dids: list[str]) -> Counter[str]:
    outcomes: Counter[str] = Counter()
    limit = anyio.Semaphore(_AT_ONCE)

    async def refresh(did: str) -> None:
        async with limit:
            try:
                attempt = await engine.refresh(did, patience=_PATIENCE)
            except LockBusy:
                outcomes["LockBusy"] += 1
            except StoreError as error:
                outcomes[f"{type(error).__name__}: {error}"] += 1
            else:
                outcomes[type(attempt.outcome).__name__] += 1

    async with anyio.create_task_group() as tg:
        for did in dids:
            tg.start_soon(refresh, did)
    return outcomes


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("store_url")
    parser.add_argument("--backend", choices=("trio", "asyncio"), required=True)
    parser.add_argument("--seed", type=int, required=True)
    arguments = parser.parse_args()
    anyio.run(main, arguments.store_url, arguments.seed, backend=arguments.backend)
