"""A refresher with a strict simulator behind it."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import httpx

from idiolectd.http import HttpClient
from idiolectd.oauth import ClientRegistry, Discovery, OAuthRefresher
from idiolectd.ports import Answer, Prepared
from idiolectd.session import OAuthSession
from tests.clock import VirtualClock
from tests.parts import ISSUER, PDS, configured, parts_over
from tests.simulator import Account, Simulator, SimulatorTransport


class Recording(httpx.AsyncBaseTransport):
    """Passes requests on and keeps them."""

    def __init__(self, inner: httpx.AsyncBaseTransport) -> None:
        self.inner = inner
        self.requests: list[httpx.Request] = []

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        self.requests.append(request)
        return await self.inner.handle_async_request(request)

    def to(self, path: str) -> list[httpx.Request]:
        return [request for request in self.requests if request.url.path == path]


@dataclass
class House:
    """Everything a test of the refresher looks at."""

    sim: Simulator
    clock: VirtualClock
    http: HttpClient
    refresher: OAuthRefresher
    transport: Recording
    account: Account
    discovery: Discovery

    def session(
        self, drop: tuple[str, ...] = (), change: dict[str, Any] | None = None, **seed: Any
    ) -> OAuthSession:
        """A freshly seeded session, some fields of its record dropped or changed."""
        record = self.sim.seed_oauth(self.account, **seed) | (change or {})
        return OAuthSession.from_json(json.dumps({k: v for k, v in record.items() if k not in drop}))

    async def refresh(self, session: OAuthSession) -> Answer:
        """Prepares and sends."""
        prepared = await self.refresher.prepare(session)
        assert isinstance(prepared, Prepared), prepared
        return await self.refresher.send(prepared.session, prepared)

    def alive(self, session: OAuthSession) -> bool:
        """Whether the server would still take the session's newest token."""
        info = self.sim.session_of(session.refresh_jwt)
        return info is not None and info.alive


@asynccontextmanager
async def house(
    clients: ClientRegistry | None = None,
    *,
    wrap: Callable[[httpx.AsyncBaseTransport], httpx.AsyncBaseTransport] = lambda inner: inner,
    **options: Any,
) -> AsyncIterator[House]:
    clock = VirtualClock()
    sim = Simulator(PDS, issuer=ISSUER, now=clock.now, **options)
    transport = Recording(wrap(SimulatorTransport(sim)))
    async with parts_over(transport, configured(), clock=clock, clients=clients) as parts:
        refresher = parts.refreshers["dpop"]
        assert isinstance(refresher, OAuthRefresher)
        account = sim.add_account("alice.test")
        yield House(sim, clock, parts.http, refresher, transport, account, parts.discovery)
