"""The clients' view follows the store, whatever happens to the view."""

import json
import math
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

import anyio
import anyio.lowlevel
import pytest

from idiolectd.clock import SystemClock
from idiolectd.daemon.publisher import Publisher
from idiolectd.ports import SharedStore
from idiolectd.store import Refusals
from idiolectd.store.access import RecordAccess
from tests.memory_store import MemoryStore
from tests.store.support import ALICE, BOB, SOON, rotated, session
from tests.support import Recorder

pytestmark = pytest.mark.anyio


class FakeView:
    """A view in memory that can be made to fail, and to hang."""

    place = Path("/run/clients")
    refusals = Refusals(Path("/run/clients/refused"), RecordAccess(None))

    def __init__(self) -> None:
        self.entries: dict[str, bytes] = {}
        self.failing: OSError | None = None
        self.opened = 0
        self.written: list[set[str]] = []

    def open(self) -> None:
        if self.failing is not None:
            raise self.failing
        self.opened += 1
        self._before = set(self.entries)

    def write(self, entries: Mapping[str, bytes | None]) -> dict[str, str]:
        if self.failing is not None:
            raise self.failing
        self.written.append(set(entries))
        self._before -= set(entries)
        for did, entry in entries.items():
            if entry is None:
                self.entries.pop(did, None)
            else:
                self.entries[did] = entry
        return {}

    def left_over(self) -> list[str]:
        return sorted(self._before)

    def close(self) -> None:
        pass

    def token(self, did: str) -> str | None:
        entry = self.entries.get(did)
        return None if entry is None else json.loads(entry)["accessJwt"]


class House:
    def __init__(self, store: SharedStore) -> None:
        self.store = store
        self.view = FakeView()
        self.events = Recorder()
        self.publisher = Publisher(store, self.view, clock=SystemClock(), emit=self.events)

    async def until(self, did: str, token: str | None) -> None:
        """Waits until the view shows a session's token; None: until it shows no session."""
        with anyio.fail_after(SOON):
            while self.view.token(did) != token:
                await anyio.sleep(0.005)

    async def rotate(self, did: str, generation: int) -> None:
        stored = await self.store.read(did)
        assert stored.session is not None
        tokens, state = rotated(stored.session, stored.state, generation)
        await self.store.commit(stored.session, state, tokens=tokens)
        self.publisher.changed(did)


@asynccontextmanager
async def house() -> AsyncIterator[House]:
    async with MemoryStore.open() as store:
        for did in (ALICE, BOB):
            await store.save(session(did))
        made = House(store)
        async with anyio.create_task_group() as tg:
            tg.start_soon(made.publisher.run)
            yield made
            tg.cancel_scope.cancel()


async def test_a_rotation_a_login_and_a_logout_are_shown() -> None:
    """Each as the store has it by then, and everything that there was at the start."""
    async with house() as made:
        await made.until(ALICE, "access-1")
        await made.until(BOB, "access-1")
        await made.rotate(ALICE, 2)
        await made.until(ALICE, "access-2")
        await made.store.delete(BOB)
        made.publisher.changed(BOB)
        await made.until(BOB, None)
        assert made.view.token(ALICE) == "access-2"
        assert b"refresh" not in made.view.entries[ALICE].replace(b"refreshJwt", b"")


async def test_what_an_earlier_daemon_left_goes() -> None:
    """A session that was logged out while no daemon ran."""
    async with MemoryStore.open() as store:
        await store.save(session())
        made = House(store)
        made.view.entries[BOB] = b'{"accessJwt": "old"}'
        async with anyio.create_task_group() as tg:
            tg.start_soon(made.publisher.run)
            await made.until(BOB, None)
            await made.until(ALICE, "access-1")
            tg.cancel_scope.cancel()


async def test_a_view_that_fails_is_told_of_and_caught_up() -> None:
    """What changed meanwhile is shown, and what somebody removed from the view is there again."""
    async with house() as made:
        await made.until(ALICE, "access-1")
        made.view.failing = OSError(28, "No space left on device")
        await made.rotate(ALICE, 2)
        with anyio.fail_after(SOON):
            while made.publisher.trouble is None:
                await anyio.sleep(0.005)
        assert made.publisher.trouble == (
            "can't write /run/clients: No space left on device; free some disk space, or raise the quota"
        )
        made.view.entries.clear()
        made.view.failing = None
        await made.until(ALICE, "access-2")
        await made.until(BOB, "access-1")
        with anyio.fail_after(SOON):
            while made.publisher.trouble is not None:
                await anyio.sleep(0.005)
        assert made.events.names == ["view.unavailable", "view.available"]


async def test_a_broken_record_leaves_its_entry_and_the_others() -> None:
    """One bad thing stays one bad thing; it is told."""
    async with house() as made:
        await made.until(BOB, "access-1")
        assert isinstance(made.store, MemoryStore)
        made.store.put_record(BOB, b"broken")
        made.publisher.changed(BOB)
        await made.rotate(ALICE, 2)
        await made.until(ALICE, "access-2")
        assert made.view.token(BOB) == "access-1"
        assert made.events.names == ["session.not_published"]


async def test_a_crowd_of_changes_is_not_remembered_by_name(monkeypatch: pytest.MonkeyPatch) -> None:
    """Beyond a bound the names are dropped, and all entries are written again."""
    monkeypatch.setattr("idiolectd.daemon.publisher._MOST_WAITING", 5)
    async with house() as made:
        await made.until(ALICE, "access-1")
        opened = made.view.opened
        for number in range(20):
            made.publisher.changed(f"did:plc:{number:024d}")
        await made.rotate(ALICE, 2)
        await made.until(ALICE, "access-2")
        with anyio.fail_after(SOON):
            while made.view.opened == opened:
                await anyio.sleep(0.005)


async def test_a_rotation_does_not_wait_for_everything_else() -> None:
    """While all entries are written anew, those that change are written first."""
    async with MemoryStore.open() as store:
        for number in range(2000):
            await store.save(session(f"did:plc:{number:024d}"))
        await store.save(session(ALICE))
        made = House(store)
        async with anyio.create_task_group() as tg:
            tg.start_soon(made.publisher.run)
            with anyio.fail_after(SOON):
                while not made.view.written:
                    await anyio.lowlevel.checkpoint()
            at = len(made.view.written)
            await made.rotate(ALICE, 2)
            await made.until(ALICE, "access-2")
            shown = next(n for n, dids in enumerate(made.view.written) if n >= at and ALICE in dids)
            assert shown - at <= 3
            assert len(made.view.written) < math.ceil(2001 / 100)
            tg.cancel_scope.cancel()


async def test_entries_are_of_the_reconciled_record() -> None:
    """A foreign program that puts a used-up record back shows clients no old token."""
    async with house() as made:
        await made.until(ALICE, "access-1")
        await made.rotate(ALICE, 2)
        await made.until(ALICE, "access-2")
        assert isinstance(made.store, MemoryStore)
        made.store.put_record(ALICE, replace(session(), handle="other.example").to_json().encode())
        made.publisher.changed(ALICE)
        await anyio.sleep(0.2)
        assert made.view.token(ALICE) == "access-2"
