"""One of many processes on one store: refreshes when it is told to, and says what came of it.

Reads lines ``NOW DID`` (the time it shall believe in) and answers each with the name of the outcome.
The clock is given, so that a session can be due a hundred times in a minute; everything else is real.
"""

import argparse
import random
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import anyio
import anyio.to_thread

from idiolectd.clock import SystemClock
from idiolectd.events import Event
from idiolectd.http import HttpClient, NetworkPolicy
from idiolectd.identity import Identity
from idiolectd.oauth import ClientRegistry, Discovery, OAuthRefresher
from idiolectd.policy import Policy
from idiolectd.ports import SharedStore
from idiolectd.refresh import Planner, RefreshEngine
from idiolectd.store import open_store
from idiolectd.xrpc import LegacyRefresher
from tests.clock import VirtualClock


def _silent(_event: Event) -> None:
    """The answer is all that counts."""


@asynccontextmanager
async def working(store_url: str, clock: VirtualClock) -> AsyncIterator[tuple[SharedStore, RefreshEngine]]:
    """A store, and an engine on it for both kinds of session, by a clock that is set."""
    real = SystemClock()
    network = NetworkPolicy(allow_loopback_http=True)
    async with (
        open_store(store_url) as store,
        HttpClient(policy=network, clock=real, events=_silent) as http,
    ):
        identity = Identity(http, plc_directory_url="http://127.0.0.1:9", handle_resolver_url=None)
        oauth = OAuthRefresher(http, clock, ClientRegistry(), Discovery(http, real), identity)
        engine = RefreshEngine(
            store,
            {"dpop": oauth, "bearer": LegacyRefresher(http, clock)},
            planner=Planner(Policy(), session_life=lambda _: 1e12, luck=random.random),
            clock=clock,
            events=_silent,
        )
        yield store, engine


async def main(store_url: str) -> None:
    """Works until standard input closes."""
    clock = VirtualClock()
    async with working(store_url, clock) as (_, engine):
        print("ready", flush=True)
        while line := await anyio.to_thread.run_sync(sys.stdin.readline):
            now, did = line.split()
            clock.advance_to(float(now))
            attempt = await engine.refresh(did, patience=60)
            print(type(attempt.outcome).__name__, flush=True)


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("store_url")
    parser.add_argument("--backend", choices=("trio", "asyncio"), required=True)
    arguments = parser.parse_args()
    anyio.run(main, arguments.store_url, backend=arguments.backend)
