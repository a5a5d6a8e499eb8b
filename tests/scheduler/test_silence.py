"""Nothing expires in silence: sessions that lose their place, and foreign programs that replace records."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace

import anyio

from idiolectd.events import SessionOverdue
from idiolectd.outcome import Retry
from idiolectd.ports import Answer
from idiolectd.scheduler import OverdueWatch
from idiolectd.session import OAuthSession
from tests.scheduler.test_corners import in_virtual_time
from tests.scheduler.test_scheduler import House
from tests.support import did

DID = did(1)


def test_a_record_that_is_replaced_by_removing_it_first_is_no_logout() -> None:
    """A foreign program removes the record while new tokens arrive, and writes it again: they are saved."""

    async def run(house: House) -> None:
        server = house.server("works", life=3600)
        await house.store.save(server.login(DID))

        async def replace_slowly(session: OAuthSession) -> Answer | None:
            house.store.remove_record(DID)
            tg.start_soon(put_back, replace(session, extra={"theirs": 1}))
            return None

        async def put_back(session: OAuthSession) -> None:
            await anyio.sleep(0.5)
            house.store.put_record(DID, session.to_json().encode())

        server.before = replace_slowly
        async with anyio.create_task_group() as tg, house.running():
            await anyio.sleep(3100)
        assert server.revoked == []
        stored = await house.store.load(DID)
        assert stored is not None
        assert server.is_current(stored)
        assert stored.extra == {"theirs": 1}
        assert "session.removed" not in house.events.names

    in_virtual_time(run)


def test_a_record_that_stays_away_is_a_logout() -> None:
    """The tokens that arrive for it are revoked, and what is known of it is forgotten."""

    async def run(house: House) -> None:
        server = house.server("works", life=3600)
        await house.store.save(server.login(DID))

        async def log_out(_session: OAuthSession) -> Answer | None:
            house.store.remove_record(DID)
            return None

        server.before = log_out
        async with house.running():
            await anyio.sleep(3100)
        assert len(server.revoked) == 1
        assert house.store.state_now(DID).last_good is None

    in_virtual_time(run)


def test_a_removed_record_that_comes_back_keeps_what_is_known() -> None:
    """Between two looks the record is away: a pause and the pins outlive it."""

    async def run(house: House) -> None:
        session = house.server("works", life=3600).login(DID)
        await house.store.save(session)
        async with house.running():
            await house.engine.pause(DID, paused=True)
            house.store.remove_record(DID)
            await anyio.sleep(0.5)
            house.store.put_record(DID, session.to_json().encode())
            await anyio.sleep(5)
        assert house.store.state_now(DID).paused
        assert house.events.names.count("session.removed") == 0

    in_virtual_time(run)


@asynccontextmanager
async def watched(house: House, *, page: int = 100) -> AsyncIterator[None]:
    """The scheduler and the watch over it."""
    watch = OverdueWatch(
        house.store, lambda: house.engine, house.scheduler, clock=house.clock, emit=house.events, page=page
    )
    async with house.running(), anyio.create_task_group() as tg:
        tg.start_soon(watch.run)
        yield
        tg.cancel_scope.cancel()


def test_a_crowd_of_overdue_sessions_hides_nobody() -> None:
    """A page of them a round is looked at: the last of them is told too."""

    async def run(house: House) -> None:
        server = house.server("dead", life=3600)

        async def refuse(_session: OAuthSession) -> Answer | None:
            return Retry("http_503", "down", issuer_wide=True)

        server.before = refuse
        for number in range(35):
            await house.store.save(server.login(did(number)))
        async with watched(house, page=10):
            await anyio.sleep(4000)
        told = [
            event.did for event in house.events.of("session.overdue") if isinstance(event, SessionOverdue)
        ]
        assert sorted(told) == sorted(did(number) for number in range(35))

    in_virtual_time(run)


def test_a_session_that_lost_its_line_is_planned_again() -> None:
    """Whatever wiped it: the watch finds the session by its record, and says that it mended it."""

    async def run(house: House) -> None:
        server = house.server("works", life=7200)
        await house.store.save(server.login(DID))
        async with watched(house):
            await anyio.sleep(60)
            house.store.schedule(DID, None)
            await anyio.sleep(7000)
        assert len(server.sent) == 1
        assert house.events.names.count("session.replanned") == 1
        assert "session.overdue" not in house.events.names

    in_virtual_time(run)


def test_a_dead_or_paused_session_is_not_planned_by_the_watch() -> None:
    """They have no line rightly."""

    async def run(house: House) -> None:
        await house.store.save(house.server("works", life=7200).login(DID))
        async with watched(house):
            await anyio.sleep(10)
            await house.engine.pause(DID, paused=True)
            await anyio.sleep(8000)
        assert {"session.replanned", "session.overdue"}.isdisjoint(house.events.names)

    in_virtual_time(run)


def test_a_hung_claim_is_told_within_the_tokens_life() -> None:
    """A client claims a session and hangs: when the token of half a minute has ended, the log says so once."""

    async def run(house: House) -> None:
        await house.store.save(house.server("works", life=30).login(DID))
        async with watched(house):
            await anyio.sleep(5)
            async with house.store.claim(DID, patience=0):
                await anyio.sleep(25 + 30)
                (overdue,) = house.events.of("session.overdue")
                assert isinstance(overdue, SessionOverdue)
                assert "worked on by another task" in overdue.error
                await anyio.sleep(600)
            await anyio.sleep(60)
        assert len(house.events.of("session.overdue")) == 1
        assert house.events.names[-1] == "session.refreshed"

    in_virtual_time(run)


def test_what_expires_while_the_store_can_not_answer_is_told() -> None:
    """The watch knew which sessions were due: it names each, and the outage at growing distance."""

    async def run(house: House) -> None:
        await house.store.save(house.server("works", life=60).login(DID))
        async with watched(house):
            await anyio.sleep(30)
            house.store.is_down = house.store.has_no_index = True
            await anyio.sleep(3600)
            house.store.is_down = house.store.has_no_index = False
            await anyio.sleep(120)
        (overdue,) = house.events.of("session.overdue")
        assert isinstance(overdue, SessionOverdue)
        assert "input/output error" in overdue.error
        assert 5 <= house.events.names.count("store.unavailable") <= 7
        assert house.events.names.count("store.available") == 1

    in_virtual_time(run)


def test_a_quarantined_record_gets_another_look_by_itself() -> None:
    """What mended it made no event of its own (a folder above was opened again): found within minutes."""

    async def run(house: House) -> None:
        session = house.server("works", life=36000).login(DID)
        async with house.running():
            house.store.put_record(DID, b"{")
            await anyio.sleep(100)
            assert house.scheduler.statistics().quarantined == 1
            house.store._records[DID] = session.to_json().encode()
            await anyio.sleep(300)
            assert house.scheduler.statistics().quarantined == 0

    in_virtual_time(run)
