"""Records that replace each other without a server's time to tell which is newer: no token is sent that is used up."""

from dataclasses import dataclass, replace

import pytest

from idiolectd.clock import rfc3339
from idiolectd.outcome import Current, Refreshed, Retry
from idiolectd.ports import AccessTokenStatus, Probe
from idiolectd.refresh import RefreshEngine
from idiolectd.session import OAuthSession, Tokens
from idiolectd.state import tokens_of
from tests.clock import VirtualClock
from tests.refresh.test_engine import DID, House, WatchedStore
from tests.support import OTHER_KEY, FakeServer, Recorder, planner, without_ours

pytestmark = pytest.mark.anyio

YES, NO, UNKNOWN, NOBODY = (
    AccessTokenStatus.ACCEPTED,
    AccessTokenStatus.REFUSED,
    AccessTokenStatus.UNKNOWN,
    AccessTokenStatus.NOT_CHECKABLE,
)


@dataclass
class StrictServer(FakeServer):
    """Its PDS takes the newest access token only, as the reference server's does.

    Attributes:
        says: what it says instead.
    """

    says: AccessTokenStatus | None = None

    async def probe(self, session: OAuthSession) -> Probe:
        found = await super().probe(session)
        taken = self.says or (
            AccessTokenStatus.ACCEPTED if self.is_current(session) else AccessTokenStatus.REFUSED
        )
        return replace(found, status=taken, server_time=self.clock())


def a_house(*, is_legacy: bool = False) -> tuple[House, StrictServer]:
    clock, events = VirtualClock(), Recorder()
    store = WatchedStore(clock)
    server = StrictServer(clock.now, kind="bearer" if is_legacy else "dpop", has_grace=is_legacy)
    engine = RefreshEngine(store, {server.kind: server}, planner=planner(), clock=clock, events=events)
    return House(store, server, clock, events, engine), server


@pytest.fixture
def both() -> tuple[House, StrictServer]:
    return a_house()


@pytest.fixture
def house(both: tuple[House, StrictServer]) -> House:
    return both[0]


@pytest.fixture
def server(both: tuple[House, StrictServer]) -> StrictServer:
    return both[1]


def put(house: House, session: OAuthSession) -> None:
    house.store.put_record(DID, without_ours(session).to_json().encode())


async def logged_in(house: House, server: StrictServer, rotations: int = 1) -> list[OAuthSession]:
    """A session and its records, oldest first."""
    await house.store.save(server.login(DID))
    await house.engine.reconcile(DID)
    records = [await house.load()]
    for _ in range(rotations):
        house.clock.advance(60)
        assert isinstance((await house.engine.refresh(DID, force=True)).outcome, Refreshed)
        records.append(await house.load())
    return records


@pytest.mark.parametrize("age", [1, 15, 17, 100])
async def test_a_copy_from_a_backup_never_wins(house: House, server: StrictServer, age: int) -> None:
    """However many rotations old: it is undone, and its token is not sent."""
    records = await logged_in(house, server, rotations=age)
    put(house, records[0])
    await house.engine.reconcile(DID)
    assert (await house.load()).refresh_jwt == records[-1].refresh_jwt
    assert isinstance((await house.engine.refresh(DID, force=True)).outcome, Refreshed)
    assert server.replays == []


async def test_a_copy_with_a_time_of_its_own_is_found_out(house: House, server: StrictServer) -> None:
    """An old copy that claims to be new is stored, and its PDS does not take it: the newest comes back."""
    records = await logged_in(house, server, rotations=30)
    put(
        house,
        replace(
            records[0], issued_at=rfc3339(house.clock.now() + 1), expires_at=rfc3339(house.clock.now() + 3600)
        ),
    )
    await house.engine.reconcile(DID)
    assert (await house.load()).refresh_jwt == records[0].refresh_jwt
    assert isinstance((await house.engine.refresh(DID, force=True)).outcome, Current)
    assert (await house.load()).refresh_jwt == records[-1].refresh_jwt
    assert "session.spent_token_undone" in house.events.names
    assert isinstance((await house.engine.refresh(DID, force=True)).outcome, Refreshed)
    assert server.replays == []


async def test_a_rotation_under_a_clock_that_was_set_back(house: House, server: StrictServer) -> None:
    """What another program brought looks older, is undone, and comes back when its PDS takes it alone."""
    records = await logged_in(house, server)
    house.clock.advance(-3000)
    theirs = records[-1].with_tokens(server._tokens(DID))
    put(house, theirs)
    await house.engine.reconcile(DID)
    assert (await house.load()).refresh_jwt == records[-1].refresh_jwt
    assert isinstance((await house.engine.refresh(DID, force=True)).outcome, Current)
    assert (await house.load()).refresh_jwt == theirs.refresh_jwt
    assert isinstance((await house.engine.refresh(DID, force=True)).outcome, Refreshed)
    assert server.replays == []


async def test_an_earlier_login_of_another_key_comes_back_whole(house: House, server: StrictServer) -> None:
    """Key and all, if it is the one that lives."""
    await logged_in(house, server)
    first = await house.load()
    claimed = server.login(DID, key=OTHER_KEY)
    server._current[DID] = first.refresh_jwt
    house.clock.advance(60)
    put(
        house,
        replace(claimed, issued_at=rfc3339(house.clock.now()), expires_at=rfc3339(house.clock.now() + 3600)),
    )
    await house.engine.reconcile(DID)
    assert isinstance((await house.engine.refresh(DID, force=True)).outcome, Current)
    assert await house.load() == first
    assert isinstance((await house.engine.refresh(DID, force=True)).outcome, Refreshed)


async def test_a_true_rotation_is_proven_once(house: House, server: StrictServer) -> None:
    """Another program's tokens are asked about before the first sending, and not again."""
    records = await logged_in(house, server)
    house.clock.advance(60)
    put(house, records[-1].with_tokens(server._tokens(DID)))
    for _ in range(2):
        assert isinstance((await house.engine.refresh(DID, force=True)).outcome, Refreshed)
        house.clock.advance(60)
    assert server.probes == 1


@pytest.mark.parametrize(
    ("said", "left", "sent"), [(UNKNOWN, 600, False), (UNKNOWN, -1, True), (NOBODY, 600, True)]
)
async def test_what_nobody_can_tell(
    house: House, server: StrictServer, said: AccessTokenStatus, left: float, sent: bool
) -> None:
    """While the PDS may still tell, it is waited for; then the stored token is sent."""
    records = await logged_in(house, server)
    house.clock.advance(60)
    tokens: Tokens = server._tokens(DID)
    ends = rfc3339(house.clock.now() + left)
    put(house, records[-1].with_tokens(replace(tokens, expires_at=ends)))
    server.says = said
    outcome = (await house.engine.refresh(DID, force=True)).outcome
    assert isinstance(outcome, Refreshed if sent else Retry)
    assert server.replays == []


async def test_a_legacy_session_tries_the_other_one() -> None:
    """Its used tokens can be sent without harm: the first refusal brings the other record back."""
    house, server = a_house(is_legacy=True)
    records = await logged_in(house, server, rotations=20)
    later = rfc3339(house.clock.now() + 1)
    put(house, records[0].with_tokens(replace(tokens_of(records[0]), issued_at=later)))
    current = server._current[DID]
    await house.engine.refresh(DID, force=True)
    server._current[DID] = current  # a replay ends no legacy session
    house.clock.advance(600)
    assert isinstance((await house.engine.refresh(DID, force=True)).outcome, Current)
    assert (await house.load()).refresh_jwt == records[-1].refresh_jwt
    assert isinstance((await house.engine.refresh(DID, force=True)).outcome, Refreshed)


async def test_a_copy_put_back_during_a_refresh(house: House, server: StrictServer) -> None:
    """The tokens that arrive meanwhile replace it: they are not dropped as if somebody had logged in."""
    records = await logged_in(house, server, rotations=20)
    house.clock.advance(60)

    async def put_back() -> None:
        put(house, records[0])

    house.store.meanwhile = put_back
    assert isinstance((await house.engine.refresh(DID, force=True)).outcome, Refreshed)
    assert server.is_current(await house.load())
