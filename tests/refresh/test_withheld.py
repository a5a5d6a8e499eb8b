"""Tokens that arrived and are not published: another's, or those of an answer that does not say whose."""

from pathlib import Path

import pytest

from idiolectd.outcome import Refreshed, Retry, Suspended, Unpersisted
from idiolectd.ports import AccessTokenStatus, Arrived, Probe, Spilled
from idiolectd.session import Tokens
from idiolectd.state import RefreshState, State
from idiolectd.store import SpillFolder
from tests.refresh.test_engine import DID, a_house, answering
from tests.refresh.test_spill import Host
from tests.support import FakeServer, did

pytestmark = pytest.mark.anyio

TOKENS = Tokens(access_jwt="access-new", refresh_jwt="refresh-new", issued_at="", expires_at="")
UNSAID = Arrived(TOKENS, unconfirmed="the answer came without sub")
MISFIT = Arrived(TOKENS, mismatch="the answer's sub is not the session's DID")
OURS, OTHERS = Probe(AccessTokenStatus.ACCEPTED, did=did(1)), Probe(AccessTokenStatus.UNKNOWN, did=did(2))


async def test_what_the_answer_does_not_say_the_pds_says() -> None:
    """Tokens without `sub` are durable first and published once the PDS says whose they are."""
    async with a_house() as house:
        await house.make_due()
        house.server.before, house.server.probe_answer = answering(UNSAID), OURS
        assert isinstance((await house.engine.refresh(DID)).outcome, Refreshed)
        assert (await house.load()).refresh_jwt == "refresh-new"
        assert house.server.probed == ["access-new"]
        kept = next(state for state in house.store.commits if state.withheld)
        assert (kept.unconfirmed, "refresh-new" in (kept.withheld or "")) == (UNSAID.unconfirmed, True)
        state = await house.state()
        assert (state.state, state.withheld, state.unconfirmed) == (State.FRESH, None, None)


async def test_the_pds_can_be_asked_later() -> None:
    """While it can't say, the tokens are kept and nothing is sent; in the end they are published."""
    async with a_house() as house:
        await house.make_due()
        house.server.before = answering(UNSAID)
        attempt = await house.engine.refresh(DID)
        assert isinstance(attempt.outcome, Retry)
        assert attempt.due is not None
        assert (await house.load()).refresh_jwt == "refresh-0"
        house.clock.advance_to(attempt.due.at)
        house.server.probe_answer = OURS
        assert isinstance((await house.engine.refresh(DID)).outcome, Refreshed)
        assert (await house.load()).refresh_jwt == "refresh-new"
        assert house.server.sent == ["refresh-0"]


@pytest.mark.parametrize(
    ("said", "cause"),
    [(OTHERS, "answer_misfit"), (Probe(AccessTokenStatus.REFUSED), "answer_unconfirmed")],
    ids=["another account's", "refused"],
)
async def test_what_the_pds_does_not_confirm_is_not_published(said: Probe, cause: str) -> None:
    """The tokens stay for a person, who is told what is missing; nothing more is sent, not even by force."""
    async with a_house() as house:
        await house.make_due()
        house.server.before, house.server.probe_answer = answering(UNSAID), said
        outcome = (await house.engine.refresh(DID)).outcome
        assert isinstance(outcome, Suspended)
        assert outcome.cause == cause
        assert "without sub" in outcome.message
        assert isinstance((await house.engine.refresh(DID, force=True)).outcome, Suspended)
        assert (await house.load()).refresh_jwt == "refresh-0"
        assert "refresh-new" in ((await house.state()).withheld or "")
        assert house.server.sent == ["refresh-0"]


async def fail_to_save(host: Host, answer: Arrived) -> None:
    """One refresh that brings `answer` when nothing can be saved any more, and the end of that process."""
    await host.store.save(host.server.login(DID))
    await host.house.make_due()

    async def then_full(_session: object) -> Arrived:
        host.store.is_full = True
        return answer

    host.server.before = then_full
    host.engine.save_deadline.end_in(0.05)
    assert isinstance((await host.engine.refresh(DID)).outcome, Unpersisted)
    host.store.is_full, host.server.before = False, None
    host.start()


async def test_a_misfit_that_was_spilled_stays_one(tmp_path: Path) -> None:
    """Another's tokens that could not be saved are adopted as what they are, and are not published."""
    host = Host(tmp_path / "spill")
    await fail_to_save(host, MISFIT)
    await host.engine.reconcile(DID)
    state = await host.house.state()
    assert (await host.house.load()).refresh_jwt == "refresh-0"
    assert (state.state, state.cause) == (State.SUSPENDED, "answer_misfit")
    assert "refresh-new" in (state.withheld or "")
    assert host.events.names[-2:] == ["session.spill_adopted", "session.suspended"]
    assert isinstance((await host.engine.refresh(DID, force=True)).outcome, Suspended)
    assert host.server.sent == ["refresh-0"]
    assert await host.engine.spilled() == []


async def test_unconfirmed_tokens_that_were_spilled_are_confirmed_first(tmp_path: Path) -> None:
    """The next process adopts them and asks the PDS before anybody sees them."""
    host = Host(tmp_path / "spill")
    await fail_to_save(host, UNSAID)
    await host.engine.reconcile(DID)
    assert (await host.house.load()).refresh_jwt == "refresh-0"
    host.server.probe_answer = OURS
    assert isinstance((await host.engine.refresh(DID)).outcome, Refreshed)
    assert (await host.house.load()).refresh_jwt == "refresh-new"
    assert host.server.sent == ["refresh-0"]


def test_a_spill_says_why_it_is_withheld(tmp_path: Path) -> None:
    """A spill is read as it was written; one of an earlier version says nothing against its tokens."""
    session = FakeServer(lambda: 0.0).login(DID)
    for spilled in (
        Spilled("hash", session),
        Spilled("hash", session, mismatch="no"),
        Spilled("hash", session, unconfirmed="sub"),
    ):
        folder = SpillFolder(tmp_path)
        folder.put(spilled)
        assert folder.find(DID) == spilled


def test_a_rotation_ends_what_was_withheld() -> None:
    """Published tokens leave nothing to confirm."""
    session = FakeServer(lambda: 0.0).login(DID)
    state = RefreshState(withheld="{}", unconfirmed="sub").rotated(session, session, 0.0)
    assert (state.withheld, state.unconfirmed) == (None, None)
