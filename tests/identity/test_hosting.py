"""Where the account of a stored session is now, and what it is called."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from typing import Any

import anyio
import pytest
import trio
from trio.testing import MockClock

from idiolectd.errors import IdentityError
from idiolectd.identity.txt import TxtLookup
from idiolectd.outcome import Retry
from idiolectd.ports import AccountLocation, SplitRefresher
from idiolectd.session import OAuthSession
from tests.clock import VirtualClock
from tests.oauth.support import Recording
from tests.parts import configured, parts_over
from tests.simulator import Account, Fault, Simulator, SimulatorTransport

HOME, ENTRYWAY, OLD = "https://pds.test", "https://entryway.test", "https://old.test"


class Txt:
    """A DNS with one record; None: it does not answer."""

    def __init__(self, did: str) -> None:
        self.did: str | None = did
        self.answer: TxtLookup | None = None

    async def __call__(self, name: str) -> list[str]:
        if self.answer is not None:
            return await self.answer(name)
        if self.did is None:
            raise IdentityError("down", final=False)
        return [f"did={self.did}"]


@dataclass
class House:
    sim: Simulator
    alice: Account
    txt: Txt
    legacy: SplitRefresher[Any]
    oauth: SplitRefresher[Any]
    transport: Recording

    def session(self, pds_url: str) -> OAuthSession:
        return OAuthSession(
            did=self.alice.did, pds_url=pds_url, access_jwt="a", refresh_jwt="r", issuer=ENTRYWAY
        )


@asynccontextmanager
async def house() -> AsyncIterator[House]:
    clock = VirtualClock()
    sim = Simulator(HOME, issuer=ENTRYWAY, now=clock.now)
    alice = sim.add_account("alice.test")
    transport = Recording(SimulatorTransport({HOME: sim, ENTRYWAY: sim}))
    txt = Txt(alice.did)
    async with parts_over(transport, configured(HOME), clock=clock, txt=txt) as parts:
        legacy, oauth = parts.refreshers["bearer"], parts.refreshers["dpop"]
        yield House(sim, alice, txt, legacy, oauth, transport)


@pytest.mark.anyio
async def test_a_legacy_session_goes_along_nowhere() -> None:
    """Its tokens are its PDS's own. The entryway before the PDS, whose records name it, is no other place."""
    async with house() as h:
        for pds_url, moved_to in ((HOME, None), (HOME + "/", None), (ENTRYWAY, None), (OLD, HOME)):
            session = h.session(pds_url)
            assert await h.legacy.locate(session) == AccountLocation(session, moved_to=moved_to)
        assert all("authorization" not in request.headers for request in h.transport.requests)


@pytest.mark.anyio
@pytest.mark.parametrize("match", ["/did:", "oauth-protected-resource"])
async def test_who_can_not_be_asked_moves_nobody(match: str) -> None:
    """A directory or a PDS in trouble is no other place."""
    async with house() as h:
        h.sim.faults.add(Fault("respond", match, status=503))
        assert isinstance(await h.legacy.locate(h.session(OLD)), Retry)


@pytest.mark.anyio
async def test_a_handle_is_told_if_both_directions_agree() -> None:
    """Of both kinds of session; that nobody could be asked leaves the name as it is."""
    async with house() as h:
        session = replace(h.session(HOME), handle="old.test", confirmed_handle="old.test")
        for refresher in (h.legacy, h.oauth):
            for did, told, confirmed in (
                (h.alice.did, True, "alice.test"),
                ("did:plc:ewvi7nxzyoun6zhxrhs64oiz", True, ""),
                (None, False, "old.test"),
            ):
                h.txt.did = did
                found = await refresher.locate(session, with_handle=True)
                assert isinstance(found, AccountLocation)
                assert (found.is_handle_told, found.session.confirmed_handle) == (told, confirmed)
            found = await refresher.locate(session)
            assert found == AccountLocation(session)


def test_a_mute_name_server_loses_no_other_answer() -> None:
    """PDS and issuer are told within the time that everything together may take."""

    async def mute(name: str) -> list[str]:
        await anyio.sleep(60)
        return []

    async def run() -> None:
        async with house() as h:
            h.txt.answer = mute
            with anyio.fail_after(12):
                found = await h.legacy.locate(h.session(OLD), with_handle=True)
            assert found == AccountLocation(h.session(OLD), moved_to=HOME)

    trio.run(run, clock=MockClock(autojump_threshold=0))
