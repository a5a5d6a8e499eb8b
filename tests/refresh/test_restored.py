"""Sessions that came back from a copy: no session that lives elsewhere is ended, and none that lives is given up."""

import pytest

from idiolectd.outcome import Cause, Refreshed, ReloginRequired, Retry
from idiolectd.ports import Committed, StoredCopy
from idiolectd.session import OAuthSession
from idiolectd.state import State
from tests.refresh.test_displaced import NO, NOBODY, UNKNOWN, StrictServer, a_house
from tests.refresh.test_engine import DID, House

pytestmark = pytest.mark.anyio

AGES = [1, 15, 17, 100]


async def restored(
    *, rotations: int, is_legacy: bool = False, every: float = 60.0
) -> tuple[House, StrictServer]:
    """A store that was put back, so many rotations older than what another host has now."""
    elsewhere, server = a_house(is_legacy=is_legacy)
    await elsewhere.store.save(server.login(DID))
    await elsewhere.engine.reconcile(DID)
    copy = await copy_of(elsewhere)
    for _ in range(rotations):
        elsewhere.clock.advance(every)
        assert isinstance((await elsewhere.engine.refresh(DID, force=True)).outcome, Refreshed)
    server.sent.clear()
    await elsewhere.store.delete(DID)  # the same clock and server, and nothing is known
    assert await elsewhere.store.restore(copy) is Committed.DONE
    await elsewhere.engine.reconcile(DID)
    return elsewhere, server


async def copy_of(house: House) -> StoredCopy:
    ((copy,),) = [page async for page in house.store.copies()]
    return copy


@pytest.mark.parametrize("age", AGES)
async def test_a_copy_that_was_used_since_is_named_and_not_sent(age: int) -> None:
    """While its access token should live, its PDS refuses it: named at the first attempt, dead when it is confirmed."""
    house, server = await restored(rotations=age, every=1.0)
    await house.engine.refresh(DID, force=True)
    assert (await house.state()).cause == Cause.RESTORED_COPY
    for _ in range(3):
        house.clock.advance(120)
        await house.engine.refresh(DID, force=True)
    assert (await house.state()).state is State.RELOGIN_REQUIRED
    assert server.sent == []


@pytest.mark.parametrize("age", AGES)
async def test_a_copy_whose_access_token_has_ended_is_not_tried(age: int) -> None:
    """Nobody can tell whether it was used: a login is required at the first attempt, and the newest one lives on."""
    house, server = await restored(rotations=age, every=3000.0)
    house.clock.advance(3600)
    outcome = (await house.engine.refresh(DID)).outcome
    assert isinstance(outcome, ReloginRequired)
    assert outcome.cause == Cause.RESTORED_COPY
    assert server.sent == []


async def test_a_copy_that_was_not_used_goes_on() -> None:
    """Its PDS takes the access token: the refresh token is sent when it is due, and the mark ends with it."""
    house, _ = await restored(rotations=0)
    await house.make_due()
    assert isinstance((await house.engine.refresh(DID)).outcome, Refreshed)
    assert (await house.state()).restored is None


async def test_nothing_is_sent_while_the_pds_cannot_say() -> None:
    """A PDS in trouble is asked again, as long as its answer can still tell."""
    house, server = await restored(rotations=1)
    server.says = UNKNOWN
    assert isinstance((await house.engine.refresh(DID, force=True)).outcome, Retry)
    assert server.sent == []


async def test_a_young_copy_needs_no_answer() -> None:
    """Nobody refreshes a token before its time: where no PDS can be asked, that is enough."""
    house, server = await restored(rotations=0)
    server.says = NOBODY
    assert isinstance((await house.engine.refresh(DID, force=True)).outcome, Refreshed)


async def test_a_person_may_try_it() -> None:
    """Who knows that no newer session lives brings it back without a login."""
    house, server = await restored(rotations=0)
    server.says = NO
    house.clock.advance(7200)
    assert isinstance((await house.engine.refresh(DID)).outcome, ReloginRequired)
    assert isinstance((await house.engine.refresh(DID, revive=True)).outcome, Refreshed)


async def test_a_legacy_copy_is_sent() -> None:
    """An app password's session ends nobody else's: its refresh token may be sent, and says itself how it is."""
    house, server = await restored(rotations=0, is_legacy=True)
    house.clock.advance(7200)
    assert isinstance((await house.engine.refresh(DID)).outcome, Refreshed)
    assert server.probed == []


async def test_a_legacy_copy_that_was_used_is_named() -> None:
    """The server's refusal ends it, and its cause is the copy."""
    house, server = await restored(rotations=1, is_legacy=True)
    server.says = NOBODY
    house.clock.advance(7200)
    for _ in range(4):
        house.clock.advance(120)
        await house.engine.refresh(DID, force=True)
    state = await house.state()
    assert (state.state, state.cause) == (State.RELOGIN_REQUIRED, Cause.RESTORED_COPY)


async def test_a_login_ends_the_mark() -> None:
    """It has nothing to do with the copy."""
    house, server = await restored(rotations=1)
    house.clock.advance(5)
    session: OAuthSession = server.login(DID)
    await house.store.save(session)
    assert not (await house.state()).is_restored(session)
