"""A server that gives sessions of accounts that are not its own."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace

import pytest

from idiolectd.cli.batch import login_all
from idiolectd.cli.browser.flow import BrowserLogin, log_in_by_browser
from idiolectd.cli.credentials import Credentials, log_in
from idiolectd.errors import LoginError
from idiolectd.parts import Parts
from idiolectd.session import OAuthSession
from tests.clock import VirtualClock
from tests.oauth.support import Recording
from tests.parts import configured, parts_over
from tests.simulator import Account, Simulator, SimulatorTransport

pytestmark = pytest.mark.anyio

HOME, ENTRYWAY, EVIL = "https://pds.test", "https://entryway.test", "https://evil.test"
LOGIN, DELETE = "/xrpc/com.atproto.server.createSession", "/xrpc/com.atproto.server.deleteSession"
CONFIG = configured(HOME, resolver=HOME)


@dataclass
class House:
    """A store with alice's session of her own PDS, and a PDS that says it knows her too."""

    home: Simulator
    evil: Simulator
    alice: Account
    good: OAuthSession
    parts: Parts
    transport: Recording

    async def log_in(self, account: str, pds_url: str | None) -> OAuthSession:
        credentials = Credentials(account, "app-password", pds_url)
        located = await self.parts.hosting.locate(account, pds_url)
        return await log_in(self.parts, credentials, located)

    async def stored(self) -> OAuthSession | None:
        return await self.parts.store.load(self.alice.did)

    def asked(self, host: str, path: str) -> int:
        return sum(request.url.host == host for request in self.transport.to(path))


@asynccontextmanager
async def house() -> AsyncIterator[House]:
    clock = VirtualClock()
    home = Simulator(HOME, issuer=ENTRYWAY, now=clock.now)
    evil = Simulator(EVIL, now=clock.now)
    alice = home.add_account("alice.test")
    evil.add_account("mallory.example", did=alice.did)
    transport = Recording(SimulatorTransport({HOME: home, ENTRYWAY: home, EVIL: evil}))
    async with parts_over(transport, CONFIG, clock=clock) as parts:
        found = House(home, evil, alice, None, parts, transport)  # type: ignore[arg-type]
        found.good = await found.log_in(alice.did, None)
        yield found


async def test_a_session_that_another_pds_gave_is_not_stored() -> None:
    """It says alice's DID: her own session stays as it is, and what was granted is ended."""
    async with house() as h:
        with pytest.raises(
            LoginError, match=f"is at the PDS {HOME} by its DID document.*nothing was stored.*revoked"
        ):
            await h.log_in("mallory.example", EVIL)
        assert await h.stored() == h.good
        assert [info.alive for info in h.evil.sessions(h.alice.did)] == [False]
        assert h.asked("pds.test", DELETE) == 0  # the tokens go back where they came from


@pytest.mark.parametrize("account", ["alice.test", "DID"])
async def test_a_password_goes_to_no_pds_that_is_not_the_accounts(account: str) -> None:
    """By name or by DID: what can be known before is found before anything is sent there."""
    async with house() as h:
        account = h.alice.did if account == "DID" else account
        with pytest.raises(LoginError, match=f"and not at {EVIL}"):
            await h.log_in(account, EVIL)
        h.home.add_account("bob.test")
        wanted = [Credentials(account, "app-password", EVIL), Credentials("bob.test", "app-password", EVIL)]
        lines = await login_all(h.parts, wanted, show=False)
        assert [line.result for line in lines] == ["skipped", "failed"]
        assert h.asked("evil.test", LOGIN) == 0
        with pytest.raises(LoginError, match=f"and not at {EVIL}"):
            await log_in_by_browser(h.parts, CONFIG, BrowserLogin(account, EVIL, paste=True, port=0))
        assert h.transport.to("/oauth/par") == []
        assert await h.stored() == h.good


async def test_another_account_of_the_same_pds_is_refused() -> None:
    """Whom a person names is whom it has to be, also where both live on one PDS."""
    async with house() as h:
        bob = h.home.add_account("bob.test")
        located = await h.parts.hosting.locate("bob.test", HOME)
        assert located is not None
        assert located.did == bob.did
        with pytest.raises(LoginError, match=f"logged in {h.alice.did} instead of {bob.did}"):
            await h.parts.hosting.admit(h.good, located)


async def test_the_entryway_may_be_named() -> None:
    """As ``--pds-url https://bsky.social``: what is recorded is the account's own PDS behind it."""
    async with house() as h:
        session = await h.log_in("alice.test", ENTRYWAY)
        assert (session.did, session.pds_url) == (h.alice.did, HOME)
        assert h.asked("entryway.test", LOGIN) == 1
        assert await h.stored() == session


async def test_an_oauth_session_is_of_the_pdss_own_issuer() -> None:
    """An authorization server may write any `sub` into its answer."""
    async with house() as h:
        account = await h.parts.identity.resolve_account(h.alice.did)
        session = replace(h.good, dpop_private_key_jwk="{}", token_type="DPoP", issuer=ENTRYWAY)
        assert (await h.parts.hosting.admit(session, account)).issuer == ENTRYWAY
        with pytest.raises(LoginError, match=f"names {ENTRYWAY}.*not {EVIL}"):
            await h.parts.hosting.admit(replace(session, issuer=EVIL), account)
