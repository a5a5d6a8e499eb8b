"""What becomes of an account while its session is kept alive: handle, status, another PDS."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace

import pytest

from idiolectd import events
from idiolectd.cli.status_rows import StatusRow, session_row
from idiolectd.clock import rfc3339
from idiolectd.config import Config, StoreConfig
from idiolectd.outcome import Cause, Refreshed, Suspended, Verdict
from idiolectd.ports import Answer, Arrived, Refused
from idiolectd.refresh import RefreshEngine
from idiolectd.session import OAuthSession
from idiolectd.state import ACTIVE, State
from idiolectd.store import InMemoryOAuthTokenStore
from tests.clock import VirtualClock
from tests.support import FakeServer, Recorder, did, planner

pytestmark = pytest.mark.anyio

DID = did(1)
CONFIG = Config(store=StoreConfig(url="memory:"))
DAY = 86_400.0


class Saying(FakeServer):
    """A server that says something of every account beside its tokens."""

    status: str | None = None

    async def send(self, *args: object) -> Answer:
        answer = await super().send(*args)  # type: ignore[arg-type]
        return replace(answer, account_status=self.status) if isinstance(answer, Arrived) else answer


@dataclass
class House:
    store: InMemoryOAuthTokenStore
    server: Saying
    clock: VirtualClock
    events: Recorder
    engine: RefreshEngine

    async def row(self) -> StatusRow:
        row = session_row(await self.store.read(DID), CONFIG, self.clock.now())
        assert row is not None
        return row

    async def session(self) -> OAuthSession:
        session = await self.store.load(DID)
        assert session is not None
        return session

    async def refresh(self) -> object:
        return (await self.engine.refresh(DID, force=True)).outcome


@asynccontextmanager
async def house() -> AsyncIterator[House]:
    clock, recorder = VirtualClock(), Recorder()
    store, server = InMemoryOAuthTokenStore(clock=clock), Saying(clock.now, kind="bearer")
    engine = RefreshEngine(store, {"bearer": server}, planner=planner(), clock=clock, events=recorder)
    await store.save(replace(server.login(DID), handle="old.test", confirmed_handle="old.test"))
    yield House(store, server, clock, recorder, engine)


async def test_a_renamed_account_is_found_by_its_new_handle() -> None:
    """Once its document and the handle's own host say so; until then the old one counts."""
    async with house() as h:
        h.server.handles[DID] = "new.test"
        assert isinstance(await h.refresh(), Refreshed)
        assert (await h.session()).confirmed_handle == "old.test"
        await h.engine.locate(DID)
        session, row = await h.session(), await h.row()
        assert (session.handle, session.confirmed_handle) == ("new.test", "new.test")
        assert (row.handle, row.handle_confirmed, row.claimed_handle) == ("new.test", True, None)
        h.server.handles[DID] = ""
        await h.engine.locate(DID)
        row = await h.row()
        assert (row.handle, row.handle_confirmed) == ("new.test", False)
        assert h.server.is_current(await h.session())


async def test_who_is_asked_for_a_handle_and_when() -> None:
    """At once what nobody has ever asked for, or what a server says anew; then once a week."""
    async with house() as h:
        started = rfc3339(h.clock.now())
        login = replace(h.server.login(DID), handle="old.test", session_started_at=started)
        await h.store.save(login)  # a login asks, too, and what was confirmed before it stays
        assert (await h.engine.reconcile(DID)).identity_due is False
        await h.store.delete(DID)
        await h.store.save(login)
        assert (await h.engine.reconcile(DID)).identity_due is True
        h.server.handles[DID] = "old.test"
        await h.engine.locate(DID)
        assert (await h.engine.refresh(DID, force=True)).identity_due is False
        h.clock.advance(8 * DAY)
        assert (await h.engine.refresh(DID, force=True)).identity_due is True


async def test_a_deactivated_account_is_told_of_once_and_kept_alive() -> None:
    """It is the person's own wish, and may be over tomorrow."""
    async with house() as h:
        for status, shown, told in (
            ("deactivated", "deactivated", ["session.account_inactive"]),
            ("deactivated", "deactivated", []),
            (None, "deactivated", []),
            ("odd-word", "odd-word", ["session.account_inactive"]),
            (ACTIVE, None, ["session.account_active"]),
            (ACTIVE, None, []),
        ):
            h.server.status = status
            h.events.events.clear()
            assert isinstance(await h.refresh(), Refreshed)
            row = await h.row()
            assert (row.account_status, row.state) == (shown, State.FRESH)
            assert [name for name in h.events.names if "account" in name] == told
        assert (await h.store.read(DID)).state.identity_doubted


@pytest.mark.parametrize("status", ["takendown", "suspended"])
async def test_an_account_that_was_taken_down_is_suspended_and_loses_nothing(status: str) -> None:
    """The tokens that came along are stored; when it is back, so is the session."""
    async with house() as h:
        h.server.status = status
        for told in (1, 1):
            outcome = await h.refresh()
            assert isinstance(outcome, Suspended)
            assert outcome.cause == "account_taken_down"
            assert h.server.is_current(await h.session())
            assert len(h.events.of("session.suspended")) == told
        row = await h.row()
        assert (row.state, row.account_status) == (State.SUSPENDED, status)
        assert row.action == f"idiolectd refresh --force {DID}"
        h.server.status = ACTIVE
        assert isinstance(await h.refresh(), Refreshed)
        assert (await h.row()).state is State.FRESH


async def test_a_legacy_session_of_an_account_that_moved() -> None:
    """Said, and kept alive while the old PDS takes it; once that refuses, a login is needed."""
    async with house() as h:
        h.server.moved[DID] = "https://new.test"
        await h.engine.locate(DID)
        await h.engine.locate(DID)
        (moved,) = h.events.of("session.account_moved")
        assert isinstance(moved, events.SessionAccountMoved)
        assert (moved.moved_to, moved.action) == (
            "https://new.test",
            f"idiolectd login {DID} --app-password",
        )
        row = await h.row()
        assert (row.account_status, row.state, row.action) == ("moved", State.FRESH, moved.action)
        assert isinstance(await h.refresh(), Refreshed)
        assert (await h.session()).pds_url == "https://pds.example"

        async def refused(_session: OAuthSession) -> Answer:
            return Refused(Verdict.SESSION, Cause.REFUSED, "InvalidToken", "no")

        h.server.before = refused
        await h.refresh()
        sent = len(h.server.sent)
        outcome = await h.refresh()
        assert isinstance(outcome, Suspended)
        assert (outcome.cause, len(h.server.sent)) == ("account_moved", sent)
        assert (await h.row()).action == f"idiolectd login {DID} --app-password"


async def test_a_login_is_not_the_moved_session_any_more() -> None:
    """What was known of the old one is not said of the new one."""
    async with house() as h:
        h.server.moved[DID] = "https://new.test"
        await h.engine.locate(DID)
        h.server.moved.clear()
        await h.store.save(replace(h.server.login(DID), pds_url="https://new.test"))
        await h.engine.locate(DID)
        assert (await h.row()).account_status is None
