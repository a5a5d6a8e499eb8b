"""One login in the tests' own event loop: what is cancelled, lost or full in its middle."""

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Self
from urllib.parse import urlencode, urlsplit

import anyio
import httpx
import pytest

from idiolectd.cli.browser.flow import BrowserLogin, log_in_by_browser
from idiolectd.errors import LoginError, StoreError
from idiolectd.parts import Parts
from idiolectd.session import OAuthSession
from idiolectd.store import InMemoryOAuthTokenStore
from tests.clock import VirtualClock
from tests.oauth.support import Recording
from tests.parts import ISSUER, PDS, configured, parts_over
from tests.simulator import Account, Request, Simulator, SimulatorTransport

pytestmark = pytest.mark.anyio

TOKEN = "/oauth/token"
REVOKE = "/oauth/revoke"
CONFIG = configured(PDS, resolver=PDS, session_life=7 * 86_400.0)
WISH = BrowserLogin("alice.test", None, paste=False, port=0)


class FullStore(InMemoryOAuthTokenStore):
    """A store that has no room: from the start, or only when it writes."""

    full_at = "save"

    async def ensure_room(self) -> None:
        await super().ensure_room()
        if self.full_at == "ensure_room":
            raise StoreError("the disk is full")

    async def save(self, session: OAuthSession) -> None:
        await super().save(session)
        await self.delete(session.did)
        raise StoreError("the disk is full")

    @classmethod
    def from_the_start(cls) -> Self:
        made = cls()
        made.full_at = "ensure_room"
        return made


class Watching(httpx.AsyncBaseTransport):
    """Calls something before a request to one path goes on."""

    def __init__(self, inner: httpx.AsyncBaseTransport, path: str, call: Callable[[], None]) -> None:
        self.inner, self.path, self.call = inner, path, call

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        if request.url.path == self.path:
            self.call()
        return await self.inner.handle_async_request(request)


@dataclass
class House:
    """A command's parts around a simulated server."""

    sim: Simulator
    parts: Parts
    transport: Recording
    account: Account
    pages: list[bytes]

    async def person(self) -> None:
        """Follows the URL that the login would show, and waits for the last page."""
        while not self.sim.state.pushed:
            await anyio.sleep(0.005)
        (request_uri, pushed), *_ = self.sim.state.pushed.items()
        query = urlencode({"client_id": pushed.client_id, "request_uri": request_uri})
        answer = self.sim.handle(Request("GET", f"{ISSUER}/oauth/authorize?{query}"))
        where = urlsplit(answer.get("location") or "")
        assert where.hostname == "127.0.0.1"
        assert where.port is not None
        page = b""
        async with await anyio.connect_tcp(where.hostname, where.port) as stream:
            head = f"GET {where.path}?{where.query} HTTP/1.1\r\nHost: {where.netloc}\r\n\r\n"
            await stream.send(head.encode())
            try:
                while True:
                    page += await stream.receive()
            except (anyio.EndOfStream, anyio.BrokenResourceError):
                self.pages.append(page)

    async def log_in(self, scope: anyio.CancelScope | None = None) -> OAuthSession | None:
        """The login, with a person at its browser; None: it was cancelled."""
        session: OAuthSession | None = None
        failed: Exception | None = None
        with anyio.fail_after(20):
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(self.person)
                with scope or anyio.CancelScope():
                    try:
                        session = await log_in_by_browser(self.parts, CONFIG, WISH)
                    except (LoginError, StoreError) as error:
                        failed = error
        if failed is not None:
            raise failed
        return session


@asynccontextmanager
async def house(
    *,
    store: InMemoryOAuthTokenStore | None = None,
    wrap: Callable[[httpx.AsyncBaseTransport], httpx.AsyncBaseTransport] = lambda inner: inner,
) -> AsyncIterator[House]:
    clock = VirtualClock()
    sim = Simulator(PDS, issuer=ISSUER, now=clock.now)
    transport = Recording(wrap(SimulatorTransport(sim)))
    store = store or InMemoryOAuthTokenStore(clock=clock)
    async with parts_over(transport, CONFIG, clock=clock, store=store) as parts:
        yield House(sim, parts, transport, sim.add_account("alice.test"), [])


@pytest.fixture(autouse=True)
def no_browser(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("BROWSER", "DISPLAY", "WAYLAND_DISPLAY"):
        monkeypatch.delenv(name, raising=False)


async def test_a_login_on_either_event_loop() -> None:
    """The session is stored when the page is shown."""
    async with house() as h:
        session = await h.log_in()
        assert session is not None
        assert await h.parts.store.load(h.account.did) == session
        assert h.pages[0].startswith(b"HTTP/1.1 200 ")
        assert b"2027-01-22" in h.pages[0]  # a week after the clock of these tests: as configured
        assert (await h.parts.engine.refresh(session.did, force=True, patience=1)).due is not None


async def test_nothing_cancels_between_the_code_and_the_save() -> None:
    """Ctrl-C while the code is on its way: the session is stored all the same."""
    scope = anyio.CancelScope()
    async with house(wrap=lambda inner: Watching(inner, TOKEN, scope.cancel)) as h:
        assert await h.log_in(scope) is None
        stored = await h.parts.store.load(h.account.did)
        assert stored is not None
        info = h.sim.session_of(stored.refresh_jwt)
        assert info is not None
        assert info.alive


async def test_nothing_cancels_the_revoking() -> None:
    """Nor what was granted by another account: it is revoked all the same."""
    scope = anyio.CancelScope()
    async with house(wrap=lambda inner: Watching(inner, TOKEN, scope.cancel)) as h:
        mallory = h.sim.add_account("mallory.test")
        h.sim.set_consent(mallory.did)
        assert await h.log_in(scope) is None
        assert await h.parts.store.list_dids() == []
        assert [info.alive for info in h.sim.sessions(mallory.did)] == [False]


async def test_a_full_store_is_found_before_the_code_is_sent() -> None:
    """Nothing is asked for that can't be kept."""
    async with house(store=FullStore.from_the_start()) as h:
        with pytest.raises(StoreError, match="full"):
            await h.log_in()
        assert h.transport.to(TOKEN) == []
        assert h.pages[0].startswith(b"HTTP/1.1 400 ")
        assert b"the disk is full" in h.pages[0]


async def test_a_save_that_fails_is_told_and_revokes_nothing() -> None:
    """What may be on the disk after all must stay good."""
    async with house(store=FullStore()) as h:
        with pytest.raises(StoreError, match="full"):
            await h.log_in()
        assert h.transport.to(REVOKE) == []
        assert b"the disk is full" in h.pages[0]


async def test_what_can_not_be_revoked_is_told() -> None:
    """The person learns where to end it."""

    def wrap(inner: httpx.AsyncBaseTransport) -> httpx.AsyncBaseTransport:
        async def handler(request: httpx.Request) -> httpx.Response:
            if request.url.path == REVOKE:
                return httpx.Response(500)
            return await inner.handle_async_request(request)

        return httpx.MockTransport(handler)

    async with house(wrap=wrap) as h:
        mallory = h.sim.add_account("mallory.test")
        h.sim.set_consent(mallory.did)
        with pytest.raises(LoginError, match="could not be revoked.*settings at " + ISSUER):
            await h.log_in()
        assert await h.parts.store.list_dids() == []
