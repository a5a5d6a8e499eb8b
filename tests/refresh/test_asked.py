"""Whom an attempt tells of: what was asked now, and nothing that stood in a state."""

from dataclasses import replace

import pytest

from idiolectd.outcome import Ambiguous, Retry, Suspended
from idiolectd.ports import AccessTokenStatus, Answer, Probe
from idiolectd.refresh import RefreshEngine
from idiolectd.session import OAuthSession
from idiolectd.state import Pins
from idiolectd.store import InMemoryOAuthTokenStore
from tests.clock import VirtualClock
from tests.support import FakeServer, Recorder, did, planner

pytestmark = pytest.mark.anyio

DID = did(1)


class House:
    """An engine over a store in memory."""

    def __init__(self) -> None:
        self.clock = VirtualClock()
        self.server = FakeServer(self.clock.now, life=600)
        self.store = InMemoryOAuthTokenStore(clock=self.clock)
        self.engine = RefreshEngine(
            self.store, {"dpop": self.server}, planner=planner(), clock=self.clock, events=Recorder()
        )

    async def due(self) -> None:
        """Logs in, and waits until it has to be refreshed."""
        await self.store.save(self.server.login(DID))
        await self.engine.reconcile(DID)
        self.clock.advance(590)


async def test_a_wait_that_stands_tells_of_nobody() -> None:
    """A backoff that was stored yesterday is neither the server's success nor its failure."""
    house = House()
    await house.due()

    async def down(_session: OAuthSession) -> Answer:
        return Retry("http_503", "unavailable", issuer_wide=True)

    house.server.before = down
    assert (await house.engine.refresh(DID)).asked == house.server.issuer
    standing = await house.engine.refresh(DID)
    assert isinstance(standing.outcome, Retry)
    assert standing.asked is None
    assert len(house.server.sent) == 1


@pytest.mark.parametrize(
    ("found", "asked"),
    [
        (
            Retry("discovery", "nonsense", issuer_wide=True, server="https://pds.example"),
            "https://pds.example",
        ),
        (Retry("guard", "refused by us"), None),
        (Suspended("client_unknown", "client_unknown", "no such client"), None),
    ],
)
async def test_what_stops_it_before_it_is_sent_tells_of_whom_it_names(
    found: Retry | Suspended, asked: str | None
) -> None:
    """A PDS's nonsense is that PDS's; our own refusal nobody's."""
    house = House()
    await house.due()
    house.server.prepared = lambda _session: found
    assert (await house.engine.refresh(DID)).asked == asked


async def test_a_pds_that_can_not_say_tells_nothing_of_the_issuer() -> None:
    """The probe goes to the PDS."""
    house = House()
    await house.due()

    async def lose(_session: OAuthSession) -> Answer:
        return Ambiguous("reset", "connection reset")

    house.server.before = lose
    assert (await house.engine.refresh(DID)).asked == house.server.issuer
    house.clock.advance(60)
    house.server.probe_answer = Probe(AccessTokenStatus.UNKNOWN)
    attempt = await house.engine.refresh(DID)
    assert isinstance(attempt.outcome, Ambiguous)
    assert attempt.asked is None


async def test_a_host_that_has_no_room_is_not_sent_to() -> None:
    """Asked right before the note, with the origin that the token goes to; nothing is written then."""
    house = House()
    await house.due()
    house.server.endpoint = "https://host.example"
    before = await house.store.read(DID)
    asked: list[str] = []

    def full(server: str) -> float:
        asked.append(server)
        return 7.0

    attempt = await house.engine.refresh(DID, admit=full)
    assert asked == ["https://host.example"]
    assert attempt.due is not None
    assert attempt.due.at == house.clock.now() + 7
    assert attempt.asked is None
    assert await house.store.read(DID) == before
    assert house.server.sent == []


def test_a_pin_in_another_spelling_is_the_same() -> None:
    """A slash that some program adds to the issuer changes no session; another host does."""
    session = FakeServer(VirtualClock().now).login(DID)
    pins = Pins.of(session)
    assert pins.contradiction(replace(session, issuer=f"{session.issuer}/")) is None
    assert pins.contradiction(replace(session, issuer="https://other.example")) == "issuer"
