"""The whole house on virtual time: simulator, real refreshers and HTTP client, engine, scheduler, store.

Everything is the daemon's own but three things: the transport below the HTTP client (a simulator
in the same process, watched), the clock, and the store's place (memory). No threads, no sockets, so
trio's `MockClock` runs days in milliseconds.

There are two times: the servers follow the true one, and this machine's own can be wrong. It shows
nothing about the disk, TLS or real sockets: other tests do.
"""

import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import anyio
import httpx

from idiolectd.ports import SharedStore, StoredSession
from idiolectd.refresh import RefreshEngine
from idiolectd.scheduler import IssuerLimits, Scheduler
from idiolectd.session import Kind, OAuthSession
from tests.clock import VirtualClock
from tests.memory_store import MemoryStore
from tests.parts import ISSUER, NEVER, PDS, configured, parts_over
from tests.servers.traffic import Watched
from tests.simulator import Account, DpopClient, Simulator, SimulatorTransport
from tests.support import Recorder


@dataclass
class House:
    """Everything; `running` is the daemon's scheduler at work.

    Attributes:
        sim: the servers.
        clock: the true time, and the one this machine believes in.
        store: the sessions.
        traffic: every request, watched.
        events: what was reported.
        limits: of every lane.
        luck: for the jitter of retries.
        scheduler: the running one, or the last one.
    """

    sim: Simulator
    clock: VirtualClock
    store: MemoryStore
    traffic: Watched
    events: Recorder = field(default_factory=Recorder)
    limits: IssuerLimits = field(default_factory=IssuerLimits)
    luck: Callable[[], float] = lambda: 0.5
    settle: float = 30.0
    scheduler: Scheduler | None = None

    @asynccontextmanager
    async def engine(
        self, *, store: SharedStore | None = None, transport: httpx.AsyncBaseTransport | None = None
    ) -> AsyncIterator[RefreshEngine]:
        """A new process's engine: it knows what the store knows, and nothing else."""
        async with parts_over(
            transport if transport is not None else self.traffic,
            configured(settle=self.settle),
            clock=self.clock,
            events=self.events,
            store=store if store is not None else self.store,
            luck=self.luck,
        ) as parts:
            yield parts.engine

    def scheduler_over(self, engine: RefreshEngine, *, store: SharedStore | None = None) -> Scheduler:
        """A scheduler that is not running yet."""
        self.scheduler = Scheduler(
            store if store is not None else self.store,
            lambda: engine,
            clock=self.clock,
            emit=self.events,
            limits=self.limits,
            jitter=self.luck,
        )
        return self.scheduler

    @asynccontextmanager
    async def running(self) -> AsyncIterator[Scheduler]:
        """A daemon from its start to its orderly end."""
        async with self.engine() as engine, anyio.create_task_group() as tasks:
            scheduler = self.scheduler_over(engine)
            await tasks.start(scheduler.run)
            yield scheduler
            tasks.cancel_scope.cancel()

    # Sessions --------------------------------------------------------------------------------

    async def login(self, *, kind: Kind = "dpop", account: Account | None = None) -> OAuthSession:
        """A new session, stored as a login stores it; by this machine's clock."""
        account = account or self.sim.add_account(f"user{len(self.sim.state.accounts)}.test")
        seeded = self.sim.seed_oauth(account) if kind == "dpop" else self.sim.seed_legacy(account)
        session = OAuthSession.from_json(json.dumps(seeded))
        await self.store.save(session)
        return session

    async def entry(self, did: str) -> StoredSession:
        """What is stored, as it is."""
        return await self.store.read(did)

    def works(self, session: OAuthSession) -> bool:
        """Whether the PDS takes the access token now."""
        client = DpopClient(json.loads(session.to_json()), self.clock.true)
        for _ in range(2):  # the first one may only bring the nonce
            request = client.api_request("com.atproto.server.getSession")
            answer = client.learn(request, self.sim.handle(request))
            if answer.status == 200:
                return True
        return False

    def honoured(self, session: OAuthSession) -> bool:
        """Whether the server would take the refresh token now, and give new tokens for it."""
        info = self.sim.session_of(session.refresh_jwt)
        if info is None or not info.consumable:
            return False
        legacy = self.sim.state.legacy_tokens.get(session.refresh_jwt)
        if legacy is not None:
            usable = legacy.grace_until is None or self.clock.true() < legacy.grace_until
            return usable and not legacy.deleted
        return self.sim.state.refresh_tokens[session.refresh_jwt].refresh_token == session.refresh_jwt


@asynccontextmanager
async def house(
    wrap: Callable[[httpx.AsyncBaseTransport], httpx.AsyncBaseTransport] = lambda inner: inner,
    *,
    clock: VirtualClock | None = None,
    store: Callable[[VirtualClock], MemoryStore] | None = None,
    seed: int = 7,
    **options: Any,
) -> AsyncIterator[House]:
    """A house whose servers live as long as the block.

    Args:
        wrap: what stands between the watched transport and the servers.
        clock: the time, if somebody else holds it too.
        store: makes the store, if not the plain one.
        seed: DIDs and tokens, and with them all due times, are the same in every run.
        options: of the simulator.
    """
    clock = clock or VirtualClock(runs=True)
    life = dict.fromkeys(
        (
            "session_life",
            "refresh_idle_life",
            "confidential_session_life",
            "confidential_refresh_idle_life",
            "legacy_refresh_life",
        ),
        NEVER,
    )
    sim = Simulator(PDS, issuer=ISSUER, now=clock.true, seed=seed, **(life | options))
    traffic = Watched(wrap(SimulatorTransport(sim)), clock.true)
    made = store(clock) if store is not None else MemoryStore(clock=clock)
    yield House(sim, clock, made, traffic)
