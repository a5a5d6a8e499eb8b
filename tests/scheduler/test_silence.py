"""Nothing expires in silence: sessions that lose their place, and foreign programs that replace records."""

from dataclasses import replace

import anyio

from idiolectd.ports import Answer
from idiolectd.session import OAuthSession
from tests.scheduler.test_corners import in_virtual_time
from tests.scheduler.test_scheduler import World
from tests.support import did

DID = did(1)


def test_a_record_that_is_replaced_by_removing_it_first_is_no_logout() -> None:
    """A foreign program removes the record while new tokens arrive, and writes it again: they are saved."""

    async def run(world: World) -> None:
        server = world.server("works", life=3600)
        await world.store.save(replace(server.login(DID), handle="old.example"))

        async def replace_slowly(session: OAuthSession) -> Answer | None:
            world.store.remove_record(DID)
            tg.start_soon(put_back, replace(session, handle="new.example"))
            return None

        async def put_back(session: OAuthSession) -> None:
            await anyio.sleep(0.5)
            world.store.put_record(DID, session.to_json().encode())

        server.before = replace_slowly
        async with anyio.create_task_group() as tg, world.running():
            await anyio.sleep(3100)
        assert server.revoked == []
        stored = await world.store.load(DID)
        assert stored is not None
        assert server.is_current(stored)
        assert stored.handle == "new.example"
        assert "session.removed" not in world.events.names

    in_virtual_time(run)


def test_a_record_that_stays_away_is_a_logout() -> None:
    """The tokens that arrive for it are revoked, and what is known of it is forgotten."""

    async def run(world: World) -> None:
        server = world.server("works", life=3600)
        await world.store.save(server.login(DID))

        async def log_out(_session: OAuthSession) -> Answer | None:
            world.store.remove_record(DID)
            return None

        server.before = log_out
        async with world.running():
            await anyio.sleep(3100)
        assert len(server.revoked) == 1
        assert world.store.state_now(DID).last_good is None

    in_virtual_time(run)


def test_a_removed_record_that_comes_back_keeps_what_is_known() -> None:
    """Between two looks the record is away: a pause and the pins outlive it."""

    async def run(world: World) -> None:
        session = world.server("works", life=3600).login(DID)
        await world.store.save(session)
        async with world.running():
            await world.engine.pause(DID, paused=True)
            world.store.remove_record(DID)
            await anyio.sleep(0.5)
            world.store.put_record(DID, session.to_json().encode())
            await anyio.sleep(5)
        assert world.store.state_now(DID).paused
        assert world.events.names.count("session.removed") == 0

    in_virtual_time(run)
