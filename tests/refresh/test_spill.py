"""Tokens that the store would not take: spilled, held, adopted by whoever has the claim next."""

import os
import stat
from dataclasses import replace
from pathlib import Path

import anyio
import pytest

from idiolectd.errors import SpillUnreadable, StoreError
from idiolectd.outcome import Refreshed, Unpersisted
from idiolectd.ports import Spilled
from idiolectd.refresh import RefreshEngine
from idiolectd.state import State, tokens_of
from idiolectd.store import StoreSpill
from tests.clock import VirtualClock
from tests.refresh.test_engine import DID, House, WatchedStore
from tests.support import OTHER_KEY, FakeServer, Recorder, did, planner, without_ours

pytestmark = pytest.mark.anyio


class Host:
    """A store that can refuse tokens, a spill folder, and one process' engine after the other."""

    def __init__(self, folder: Path) -> None:
        self.clock, self.events = VirtualClock(), Recorder()
        self.store, self.server = WatchedStore(self.clock), FakeServer(self.clock.now)
        self.spill = StoreSpill(folder.parent / "runtime", folder)
        self.store.spill = self.spill
        self.start()

    def start(self) -> None:
        """Another process."""
        self.engine = RefreshEngine(
            self.store,
            {"dpop": self.server},
            planner=planner(),
            clock=self.clock,
            events=self.events,
        )
        self.house = House(self.store, self.server, self.clock, self.events, self.engine)

    async def fail_to_save(self) -> None:
        """One refresh whose tokens the store does not take, and the end of that process."""
        if await self.store.load(DID) is None:
            await self.store.save(self.server.login(DID))
        await self.house.make_due()
        self.store.broken = 1000
        self.engine.save_deadline.end_in(0.05)
        assert isinstance((await self.engine.refresh(DID)).outcome, Unpersisted)
        self.store.broken = 0
        self.start()


async def test_tokens_survive_the_process_that_could_not_save_them(tmp_path: Path) -> None:
    """The next process adopts them at its first look, without asking the server anything."""
    host = Host(tmp_path / "spill")
    await host.fail_to_save()
    assert await host.engine.spilled() == [DID]
    await host.engine.reconcile(DID)
    assert (await host.house.load()).refresh_jwt == "refresh-1"
    assert (await host.house.state()).state is State.FRESH
    assert await host.engine.spilled() == []
    assert "session.spill_adopted" in host.events.names
    assert (host.server.sent, host.server.probes) == (["refresh-0"], 0)


async def test_a_forced_refresh_adopts_before_it_sends(tmp_path: Path) -> None:
    """Whoever gets the claim next finds the tokens, also a command."""
    host = Host(tmp_path / "spill")
    await host.fail_to_save()
    assert isinstance((await host.engine.refresh(DID, force=True)).outcome, Refreshed)
    assert host.server.sent == ["refresh-0", "refresh-1"]
    assert host.server.replays == []


async def test_a_spill_is_no_clock(tmp_path: Path) -> None:
    """Only the predecessor's hash counts: a spill for another token is not adopted, and goes."""
    host = Host(tmp_path / "spill")
    await host.fail_to_save()
    login = host.server.login(DID, key=OTHER_KEY)
    await host.store.save(login)
    await host.engine.reconcile(DID)
    assert await host.house.load() == login
    assert await host.engine.spilled() == []


async def test_a_foreign_login_adopts_no_spill(tmp_path: Path) -> None:
    """Tokens that could not be saved belong to the token before them, and to no login that came since."""
    host = Host(tmp_path / "spill")
    await host.fail_to_save()
    login = host.server.login(DID, key=OTHER_KEY)
    host.store.put_record(DID, login.to_json().encode())
    await host.engine.reconcile(DID)
    assert await host.house.load() == login


async def test_a_lost_state_does_not_lose_the_spill(tmp_path: Path) -> None:
    """Without note and state the stored token still names its spill."""
    host = Host(tmp_path / "spill")
    await host.fail_to_save()
    host.store._states.clear()
    await host.engine.reconcile(DID)
    assert (await host.house.load()).refresh_jwt == "refresh-1"


async def test_a_foreign_put_back_does_not_lose_the_spill(tmp_path: Path) -> None:
    """A spent token that somebody puts back meanwhile is undone, and the spill is adopted then."""
    host = Host(tmp_path / "spill")
    await host.store.save(host.server.login(DID))
    await host.house.make_due()
    oldest = await host.house.load()
    await host.engine.refresh(DID)
    await host.fail_to_save()
    host.store.put_record(DID, without_ours(oldest).to_json().encode())
    await host.engine.reconcile(DID)
    assert host.server.is_current(await host.house.load())


async def test_what_is_held_is_known_while_it_is_held(tmp_path: Path) -> None:
    """The daemon can raise the alarm for as long as tokens are held, and no longer."""
    host = Host(tmp_path / "spill")
    await host.store.save(host.server.login(DID))
    await host.house.make_due()
    host.store.broken = 1000
    async with anyio.create_task_group() as tg:
        tg.start_soon(host.engine.refresh, DID)
        try:
            with anyio.fail_after(5):
                while host.engine.save_deadline.holding != {DID}:
                    await anyio.sleep(0.01)
        finally:
            host.store.broken = 0  # nothing else ends the refresh
    assert host.engine.save_deadline.holding == set()


async def test_a_save_that_works_after_all_leaves_nothing(tmp_path: Path) -> None:
    """A short trouble leaves no copy of the tokens behind."""
    host = Host(tmp_path / "spill")
    await host.store.save(host.server.login(DID))
    await host.house.make_due()
    host.store.broken = 2
    assert isinstance((await host.engine.refresh(DID)).outcome, Refreshed)
    assert await host.engine.spilled() == []
    (first,) = host.events.of("session.unpersisted")
    assert first.spilled is not None  # type: ignore[attr-defined]


async def test_a_second_place_found_later_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The first line says that the tokens are in memory only; that they are in a file by now is news."""
    host = Host(tmp_path / "spill")
    await host.store.save(host.server.login(DID))
    await host.house.make_due()

    async def full(_: Spilled) -> str:
        monkeypatch.undo()
        raise StoreError("this disk is full too")

    monkeypatch.setattr(host.spill, "put", full)
    host.store.broken = 3
    assert isinstance((await host.engine.refresh(DID)).outcome, Refreshed)
    memory_only, in_file = host.events.of("session.unpersisted")
    assert memory_only.spilled is None  # type: ignore[attr-defined]
    assert in_file.spilled is not None  # type: ignore[attr-defined]


async def test_a_spill_stays_until_what_replaces_it_is_durable(tmp_path: Path) -> None:
    """At each commit of its tokens it is still there: a crash in that moment must find one of the two."""
    host = Host(tmp_path / "spill")
    await host.store.save(host.server.login(DID))
    await host.house.make_due()
    kept: list[bool] = []

    async def look() -> None:
        kept.append((await host.spill.survey()).dids == [DID])

    host.store.broken, host.store.meanwhile = 2, look
    assert isinstance((await host.engine.refresh(DID)).outcome, Refreshed)
    assert kept == [False, True, True]
    host.store.meanwhile = None
    await host.fail_to_save()
    host.store.broken = 1
    with pytest.raises(StoreError):
        await host.engine.reconcile(DID)
    assert await host.engine.spilled() == [DID]
    await host.engine.reconcile(DID)
    assert host.server.is_current(await host.house.load())


async def test_a_spill_stays_until_the_change_that_makes_it_worthless_is_durable(tmp_path: Path) -> None:
    """Another program's token replaces it only once that is written down: until then it may be taken back."""
    host = Host(tmp_path / "spill")
    await host.fail_to_save()
    theirs = (await host.house.load()).with_tokens(tokens_of(host.server.login(DID)))
    host.store.put_record(DID, theirs.to_json().encode())
    host.store.is_full = True
    with pytest.raises(StoreError):
        await host.engine.reconcile(DID)
    assert await host.engine.spilled() == [DID]
    host.store.is_full = False
    await host.engine.reconcile(DID)
    assert await host.engine.spilled() == []


async def test_the_folder_is_private(tmp_path: Path) -> None:
    """Folder 0700, file 0600, whatever the umask; nothing of a DID in the name but its hash."""
    before = os.umask(0)
    try:
        host = Host(tmp_path / "deep" / "spill")
        await host.fail_to_save()
    finally:
        os.umask(before)
    folder = tmp_path / "deep" / "spill"
    (own,) = folder.iterdir()
    (file,) = own.iterdir()
    assert {stat.S_IMODE(path.stat().st_mode) for path in (folder, own)} == {0o700}
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert "plc" not in file.name


@pytest.mark.parametrize(
    "text", ["", "{", '{"version":2}', '{"version":1,"predecessor":"x","session":{}}', "[]"]
)
async def test_what_is_no_spill_is_none(tmp_path: Path, text: str) -> None:
    """A file that can't be read as a spill is ignored."""
    spill = StoreSpill(tmp_path / "runtime", tmp_path)
    session = FakeServer(lambda: 0.0).login(DID)
    place = Path(await spill.put(Spilled("hash", session)))
    place.write_text(text)
    assert await spill.find(DID, "hash") is None
    assert (await spill.survey()).dids == []


async def test_a_spill_that_can_not_be_written_is_an_error_of_the_store(tmp_path: Path) -> None:
    """Every place can fail, and then that is said."""
    nowhere = tmp_path / "file"
    nowhere.write_text("")
    spill = StoreSpill(nowhere / "runtime", nowhere / "spill", {"XDG_STATE_HOME": str(nowhere)})
    with pytest.raises(StoreError):
        await spill.put(Spilled("hash", FakeServer(lambda: 0.0).login(DID)))


async def test_both_places_can_fail_and_the_tokens_are_still_held(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With a broken store and a broken spill folder the tokens stay in memory until one works."""
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "file"))
    host = Host(tmp_path / "file" / "spill")
    await host.store.save(replace(host.server.login(DID), handle="a.test"))
    await host.house.make_due()
    host.store.broken = 2
    assert isinstance((await host.engine.refresh(DID)).outcome, Refreshed)
    assert (await host.house.load()).refresh_jwt == "refresh-1"


async def test_a_command_with_another_environment_adopts_before_it_sends(tmp_path: Path) -> None:
    """A person's refresh finds what the service spilled: the used token is not sent again."""
    host = Host(tmp_path / "spill")
    host.spill.make_known()
    await host.fail_to_save()
    host.store.spill = StoreSpill(tmp_path / "runtime", None, {"HOME": str(tmp_path / "person")})
    host.start()
    assert isinstance((await host.engine.refresh(DID, force=True)).outcome, Refreshed)
    assert host.server.replays == []


async def test_a_spill_that_can_not_be_read_stops_nobody_else(tmp_path: Path) -> None:
    """Only the session whose tokens may be there waits; a login does not. It is said once."""
    host = Host(tmp_path / "spill")
    await host.fail_to_save()
    (own,) = (tmp_path / "spill").iterdir()
    own.rename(tmp_path / "away")
    own.symlink_to(own)
    for _ in range(2):
        with pytest.raises(SpillUnreadable):
            await host.engine.refresh(DID, force=True)
        login = host.server.login(did(99))
        host.store.put_record(login.did, login.to_json().encode())
        assert await host.engine.reconcile(login.did) is not None
        assert await host.engine.spilled() == []
    assert host.events.names.count("spill.unreadable") == 1
    assert host.server.sent == ["refresh-0"]
    own.unlink()
    (tmp_path / "away").rename(own)
    assert await host.engine.spilled() == [DID]
    await host.engine.reconcile(DID)
    assert (await host.house.load()).refresh_jwt == "refresh-1"
