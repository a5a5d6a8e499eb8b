"""``SessionAuth(refresh=True)``: a client that refreshes by itself, on loopback, the way the commands do."""

import json
import os
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import anyio
import httpx
import pytest

from idiolectd import (
    NoSessionError,
    OAuthSession,
    RefreshError,
    RefreshFailed,
    SessionAuth,
    TokenRefused,
    open_store,
)
from idiolectd.auth.servers import Servers
from idiolectd.clock import rfc3339
from idiolectd.errors import ConfigError
from idiolectd.state import State
from tests.simulator import Account, Simulator, new_client_key, serve
from tests.simulator.state import LOOPBACK_CLIENT_ID

pytestmark = pytest.mark.anyio

CLIENT_ID = "https://app.example/client-metadata.json"


@dataclass
class Host:
    """A server on loopback, and a store with one session of its."""

    sim: Simulator
    account: Account
    folder: Path
    servers: Servers = field(default_factory=Servers)

    @property
    def url(self) -> str:
        return f"file://{self.folder}"

    @property
    def call(self) -> str:
        return f"{self.sim.pds_url}/xrpc/com.atproto.server.getSession"

    def auth(self, **options: object) -> SessionAuth:
        return SessionAuth(
            self.url,
            self.account.did,
            refresh=True,
            servers=self.servers,
            **options,  # type: ignore[arg-type]
        )

    async def seed(self, *, kind: str = "dpop", client_id: str = LOOPBACK_CLIENT_ID, left: float) -> None:
        """Stores a new session whose token has so many seconds left of its hour, by its record."""
        made = (
            self.sim.seed_oauth(self.account, client_id=client_id)
            if kind == "dpop"
            else self.sim.seed_legacy(self.account)
        )
        now = time.time()
        made |= {"issuedAt": rfc3339(now + left - 3600), "expiresAt": rfc3339(now + left)}
        async with open_store(self.url) as store:
            await store.save(OAuthSession.from_json(json.dumps(made)))

    async def state(self) -> State:
        async with open_store(self.url) as store:
            return (await store.read(self.account.did)).state.state


@pytest.fixture
async def host(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, anyio_backend: str) -> AsyncIterator[Host]:
    monkeypatch.setenv("IDIOLECTD_CONFIG", os.devnull)
    monkeypatch.setenv("IDIOLECTD_NETWORK__ALLOW_LOOPBACK_HTTP", "true")
    monkeypatch.setenv("IDIOLECTD_STORE__SPILL_DIR", str(tmp_path / "spill"))
    async with serving() as sim:
        yield Host(sim, sim.add_account("alice.test"), tmp_path / "store")


@asynccontextmanager
async def serving() -> AsyncIterator[Simulator]:
    sim = Simulator()
    async with anyio.create_task_group() as tg:
        await tg.start(serve, sim)
        yield sim
        tg.cancel_scope.cancel()


@asynccontextmanager
async def client(auth: SessionAuth) -> AsyncIterator[httpx.AsyncClient]:
    async with httpx.AsyncClient(auth=auth, trust_env=False, timeout=30) as http:
        yield http


@pytest.mark.parametrize("kind", ["dpop", "bearer"])
async def test_a_token_about_to_end_is_refreshed_before_it_is_used(host: Host, kind: str) -> None:
    """The server sees one refresh, no refused token, and the store holds the new one."""
    await host.seed(kind=kind, left=30)
    async with client(host.auth()) as http:
        for _ in range(3):
            assert (await http.get(host.call)).status_code == 200
    assert host.sim.counters.consumptions == 1
    assert host.sim.counters.api_refusals == 0


async def test_a_living_token_is_left_alone(host: Host) -> None:
    """Nothing is refreshed while there is no need."""
    await host.seed(left=3000)
    async with client(host.auth()) as http:
        assert (await http.get(host.call)).status_code == 200
    assert host.sim.counters.consumptions == 0


async def test_a_refused_token_is_refreshed(host: Host) -> None:
    """The server has ended a token that should live: one refusal, one refresh, and the call works."""
    await host.seed(left=3000)
    for token in host.sim.state.access_tokens.values():
        token.current = False
    async with client(host.auth()) as http:
        assert (await http.get(host.call)).status_code == 200
    assert (host.sim.counters.consumptions, host.sim.counters.api_refusals) == (1, 1)


async def test_many_tasks_make_one_refresh(host: Host) -> None:
    """Thirty requests at once, refused all: one of them refreshes, the others use what it stored."""
    await host.seed(left=3000)
    for token in host.sim.state.access_tokens.values():
        token.current = False
    codes: list[int] = []
    async with client(host.auth(patience=20)) as http:

        async def call() -> None:
            codes.append((await http.get(host.call)).status_code)

        async with anyio.create_task_group() as tg:
            for _ in range(30):
                tg.start_soon(call)
    assert codes == [200] * 30
    assert host.sim.counters.consumptions == 1
    assert host.sim.counters.replays_seen == 0


async def test_two_clients_make_one_refresh(host: Host) -> None:
    """Two objects, as in two processes, meet in the claim."""
    await host.seed(left=30)
    codes: list[int] = []

    async def call(auth: SessionAuth) -> None:
        async with client(auth) as http:
            codes.append((await http.get(host.call)).status_code)

    async with anyio.create_task_group() as tg:
        for _ in range(2):
            tg.start_soon(call, host.auth())
    assert codes == [200, 200]
    assert host.sim.counters.consumptions == 1
    assert host.sim.counters.replays_seen == 0


async def test_a_refused_session_is_not_dead_yet(host: Host) -> None:
    """One refusal: the refresh's own error, with the server's words; many clients are no verdict, nor a storm."""
    await host.seed(left=3000)
    host.sim.revoke_sessions(host.account.did)
    async with client(host.auth()) as http:
        for _ in range(5):
            with pytest.raises(RefreshFailed, match="Invalid refresh token") as raised:
                await http.get(host.call)
            assert raised.value.state == State.RETRYING
    assert await host.state() is State.RETRYING
    assert host.sim.counters.refresh_requests <= 2  # the first one may only bring the nonce


async def test_a_client_that_only_reads_is_told_of_the_refusals(host: Host) -> None:
    """No new token comes because the server refuses: its words, and where to look."""
    await host.seed(left=3000)
    host.sim.revoke_sessions(host.account.did)
    async with client(host.auth()) as http:
        with pytest.raises(RefreshFailed):
            await http.get(host.call)
    reader = SessionAuth(host.url, host.account.did, servers=host.servers, patience=0)
    async with client(reader) as http:
        with pytest.raises(TokenRefused, match="Invalid refresh token") as refused:
            await http.get(host.call)
    assert (refused.value.state, refused.value.action) == ("retrying", None)


async def test_a_dead_session_is_named(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    """The server has ended it: the refresh's own error, which says that a login is needed."""
    monkeypatch.setenv("IDIOLECTD_REFRESH__CONFIRM", "0")
    await host.seed(left=3000)
    host.sim.revoke_sessions(host.account.did)
    async with client(host.auth()) as http:
        with pytest.raises(RefreshFailed) as raised:
            await http.get(host.call)
    assert raised.value.state == State.RELOGIN_REQUIRED
    assert await host.state() is State.RELOGIN_REQUIRED


async def test_a_missing_key_is_this_programs_own_trouble(host: Host) -> None:
    """The session's client has keys that are not configured here: an error, and no word of it in the state."""
    host.sim.add_client(CLIENT_ID, [new_client_key("k1")])
    await host.seed(left=3000, client_id=CLIENT_ID)
    for token in host.sim.state.access_tokens.values():
        token.current = False
    async with client(host.auth()) as http:
        with pytest.raises(RefreshFailed) as raised:
            await http.get(host.call)
    assert raised.value.state == State.SUSPENDED
    assert await host.state() is State.FRESH
    assert host.sim.counters.refresh_requests == 0


async def test_while_the_token_lives_a_failed_refresh_is_no_error(host: Host) -> None:
    """About to end, and the refresh does not work: the token is used as long as the server takes it."""
    host.sim.add_client(CLIENT_ID, [new_client_key("k1")])
    await host.seed(left=30, client_id=CLIENT_ID)
    async with client(host.auth()) as http:
        assert (await http.get(host.call)).status_code == 200


async def test_a_wrong_configuration_is_told(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    """The refresh needs it; the request is not sent without."""
    await host.seed(left=30)
    monkeypatch.setenv("IDIOLECTD_REFRESH__SETTLE", "nonsense")
    async with client(host.auth()) as http:
        with pytest.raises(ConfigError, match=r"refresh\.settle"):
            await http.get(host.call)
    assert host.sim.counters.api_calls == 0


async def test_no_session_is_no_session(host: Host) -> None:
    """Nothing to refresh where nothing is stored."""
    host.folder.mkdir()
    async with client(host.auth()) as http:
        with pytest.raises(NoSessionError):
            await http.get(host.call)


async def test_a_sync_client_is_refused(host: Host) -> None:
    """Before anything is sent, with the reason."""
    await host.seed(left=3000)

    def call() -> None:
        with httpx.Client(auth=host.auth(), trust_env=False) as http:
            http.get(host.call)

    with pytest.raises(RefreshError, match="an async client"):
        await anyio.to_thread.run_sync(call)
    assert host.sim.counters.api_calls == 0
