"""What clients say of refused tokens is heard, and bounded."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import anyio
import pytest

from idiolectd.daemon.told_refusals import RefusalListener
from idiolectd.store import Refusals, ToldRefusal, tell_refusal
from idiolectd.store.access import RecordAccess
from tests.store.support import ALICE, BOB, SOON

pytestmark = pytest.mark.anyio


class House:
    def __init__(self, folder: Path) -> None:
        self.refusals = Refusals(folder / "refused", RecordAccess(None))
        self.looked: list[ToldRefusal] = []
        self.answering = anyio.Event()

    async def look(self, told: ToldRefusal) -> None:
        self.looked.append(told)
        await self.answering.wait()

    async def until_looked(self, number: int) -> None:
        with anyio.fail_after(SOON):
            while len(self.looked) < number:
                await anyio.sleep(0.005)

    async def until_taken(self) -> None:
        with anyio.fail_after(SOON):
            while list(self.refusals.place.iterdir()):
                await anyio.sleep(0.005)

    def tell(self, did: str, token_hash: str = "h") -> None:
        tell_refusal(self.refusals.place, did, token_hash)


@asynccontextmanager
async def house(folder: Path) -> AsyncIterator[House]:
    made = House(folder)
    async with anyio.create_task_group() as tg:
        tg.start_soon(RefusalListener(made.refusals, made.look).run)
        with anyio.fail_after(SOON):
            while not made.refusals.place.exists():
                await anyio.sleep(0.005)
        yield made
        tg.cancel_scope.cancel()


async def test_a_word_is_heard(tmp_path: Path) -> None:
    """At once, and each session's."""
    async with house(tmp_path) as made:
        made.answering.set()
        made.tell(ALICE)
        await made.until_looked(1)
        made.tell(BOB)
        await made.until_looked(2)
        assert made.looked == [ToldRefusal(ALICE, "h"), ToldRefusal(BOB, "h")]


async def test_a_session_is_looked_at_once_a_minute(tmp_path: Path) -> None:
    """However often and in whatever words it is said."""
    async with house(tmp_path) as made:
        made.answering.set()
        for number in range(50):
            made.tell(ALICE, f"h{number}")
        await made.until_looked(1)
        made.tell(BOB)
        await made.until_looked(2)
        assert [told.did for told in made.looked] == [ALICE, BOB]


async def test_a_flood_holds_up_nobody_for_ever(tmp_path: Path) -> None:
    """Few are asked about at a time, some wait, the others are dropped; and said again, they are heard."""
    async with house(tmp_path) as made:
        dids = [f"did:plc:{number:024d}" for number in range(500)]
        for did in dids:
            made.tell(did)
        await made.until_taken()
        assert len(made.looked) == 4
        made.answering.set()
        await made.until_looked(100)
        dropped = next(did for did in dids if did not in {told.did for told in made.looked})
        before = len(made.looked)
        made.tell(dropped)
        await made.until_looked(before + 1)
        assert len(made.looked) < 300


async def test_a_folder_that_is_removed_is_made_again(tmp_path: Path) -> None:
    """Somebody has cleaned up in /run."""
    async with house(tmp_path) as made:
        made.answering.set()
        made.refusals.place.rmdir()
        with anyio.fail_after(SOON):
            while not made.refusals.place.exists():
                await anyio.sleep(0.005)
        made.tell(ALICE)
        await made.until_looked(1)
