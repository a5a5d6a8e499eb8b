"""Where spills lie: known to everybody who may claim, whatever his environment."""

import json
import os
import shutil
import tempfile
from pathlib import Path

import pytest

from idiolectd.errors import SpillUnreadable
from idiolectd.ports import Spilled
from idiolectd.store import SpillFolder, StoreSpill, disk_space, open_store
from tests.store.support import ALICE, Opener, session

pytestmark = pytest.mark.anyio

SPILLED = Spilled("spent", session(generation=2))


def of_user(runtime: Path, home: Path, named: Path | None = None) -> StoreSpill:
    """The second place of a store, as a process with that home sees it."""
    return StoreSpill(runtime, named, {"HOME": str(home), "XDG_STATE_HOME": ""})


def break_folder(folder: Path) -> None:
    """Makes a folder unreadable for root too."""
    shutil.rmtree(folder)
    folder.symlink_to(folder)


async def test_everybody_finds_it_whatever_his_environment(tmp_path: Path) -> None:
    """What one process spilled the next one finds, with another home and another configuration."""
    service = of_user(tmp_path / "runtime", tmp_path / "home", tmp_path / "named")
    service.make_known()
    place = await service.put(SPILLED)
    assert place.startswith(str(tmp_path / "named"))
    for person in (
        of_user(tmp_path / "runtime", tmp_path / "another"),
        of_user(tmp_path / "runtime", tmp_path / "another", tmp_path / "elsewhere"),
    ):
        assert (await person.survey()).dids == [ALICE]
        assert await person.find(ALICE, "spent") == SPILLED
        assert await person.find(ALICE, "other") is None
    await person.remove(ALICE, "other")
    assert await service.find(ALICE, "spent") == SPILLED
    await person.remove(ALICE, "spent")
    assert (await service.survey()).dids == []


async def test_the_place_is_written_down_before_anything_is_sent(
    opening_shared: Opener, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Making sure of room makes sure of the spill: there are both a folder and a line that names it."""
    monkeypatch.setattr(disk_space, "_GOOD_FOR", 0.0)
    async with opening_shared() as store:
        assert store.spill is not None
        assert store.runtime_dir is not None
        for _ in range(2):  # also where somebody has removed it under a running daemon
            await store.ensure_room()
            (line,) = (store.runtime_dir / "spill" / "places").iterdir()
            folder = Path(json.loads(line.read_text())["folder"])
            assert folder.is_dir()
            assert (await store.spill.survey()).place == str(folder)
            shutil.rmtree(store.runtime_dir / "spill")


async def test_a_place_that_can_not_be_recorded_is_the_last(tmp_path: Path) -> None:
    """A program with another home would not look there, and send the used token again."""
    (tmp_path / "runtime" / "spill").mkdir(parents=True)
    (tmp_path / "runtime" / "spill" / "places").touch()
    place = await of_user(tmp_path / "runtime", tmp_path / "home").put(SPILLED)
    assert place.startswith(str(tmp_path / "runtime"))
    assert await of_user(tmp_path / "runtime", tmp_path / "another").find(ALICE, "spent") == SPILLED


async def test_a_store_that_moves_keeps_its_spills(tmp_path: Path) -> None:
    """The folder's name is written down, not computed from the store's path again."""
    await of_user(tmp_path / "old", tmp_path).put(SPILLED)
    (tmp_path / "old").rename(tmp_path / "new")
    assert await of_user(tmp_path / "new", tmp_path).find(ALICE, "spent") == SPILLED


async def test_two_stores_share_a_place(tmp_path: Path) -> None:
    """Each keeps its own tokens of an account that both hold, and removes no other's."""
    first, second = (of_user(tmp_path / name, tmp_path) for name in ("first", "second"))
    await first.put(SPILLED)
    await second.put(Spilled("used", session(generation=7)))
    assert await first.find(ALICE, "spent") == SPILLED
    await second.remove(ALICE)
    assert await first.find(ALICE, "spent") == SPILLED


@pytest.mark.parametrize("place", ["named", "home/.local/state/idiolectd/spill", "service/spill"])
async def test_what_0_2_0_left_is_found(tmp_path: Path, place: str) -> None:
    """It kept spills in the place itself, and wrote nothing down; that of another token stays where it is."""
    former = SpillFolder(tmp_path / place)
    former.put(SPILLED)
    environ = {"HOME": str(tmp_path / "home"), "RUNTIME_DIRECTORY": f"{tmp_path / 'service'}:/other"}
    spill = StoreSpill(tmp_path / "runtime", tmp_path / "named", environ)
    assert await spill.find(ALICE, "spent") == SPILLED
    await spill.remove(ALICE)
    assert former.find(ALICE) is not None
    await spill.remove(ALICE, "spent")
    assert former.find(ALICE) is None


async def test_another_file_system_is_preferred() -> None:
    """A disk that is full takes neither the record nor a spill on it, and the one written down first may be there."""
    memory = Path("/dev/shm")
    with tempfile.TemporaryDirectory() as on_disk:
        disk = Path(on_disk)
        if not os.access(memory, os.W_OK) or memory.stat().st_dev == disk.stat().st_dev:
            pytest.skip("there is no second file system here")
        with tempfile.TemporaryDirectory(dir=memory) as elsewhere:
            of_user(disk / "runtime", disk).make_known()
            spill = of_user(disk / "runtime", Path(elsewhere))
            assert str((await spill.survey()).place).startswith(elsewhere)
            spill.make_known()
            assert str((await of_user(disk / "runtime", disk).survey()).place).startswith(elsewhere)


async def test_a_place_that_can_not_be_made_is_not_the_last(tmp_path: Path) -> None:
    """Without a usable place outside, tokens are kept beside the locks, where everybody looks."""
    (tmp_path / "file").write_text("")
    spill = of_user(tmp_path / "runtime", tmp_path / "file", tmp_path / "file" / "spill")
    spill.make_known()
    await spill.put(SPILLED)
    assert await of_user(tmp_path / "runtime", tmp_path).find(ALICE, "spent") == SPILLED


async def test_a_place_that_can_not_be_read_is_named(tmp_path: Path) -> None:
    """Nobody takes it for an empty one, if it was written down; what lies elsewhere is found all the same."""
    spill = of_user(tmp_path / "runtime", tmp_path, tmp_path / "named")
    file = Path(await spill.put(SPILLED))
    break_folder(file.parent)
    found = await spill.survey()
    assert (found.dids, len(found.broken)) == ([], 1)
    with pytest.raises(SpillUnreadable, match=str(file.parent)):
        await spill.find(ALICE, "spent")
    await spill.put(SPILLED)
    assert await spill.find(ALICE, "spent") == SPILLED


async def test_a_folder_of_somebody_else_is_not_used(tmp_path: Path) -> None:
    """A folder that another user has made where ours would be gets no tokens."""
    if os.geteuid() != 0:
        pytest.skip("only root can give a folder to somebody else")
    spill = of_user(tmp_path / "runtime", tmp_path, tmp_path / "named")
    theirs = Path(await spill.put(SPILLED)).parent
    os.chown(theirs, 65534, 65534)
    assert Path(await spill.put(SPILLED)).parent != theirs


async def test_a_client_finds_the_daemons_spill(tmp_path: Path) -> None:
    """A store that is opened by its URL alone knows where the daemon spilled."""
    async with open_store(f"file://{tmp_path}/s", spill_dir=str(tmp_path / "named")) as daemons:
        assert daemons.spill is not None
        await daemons.spill.put(SPILLED)
    async with open_store(f"file://{tmp_path}/s") as clients:
        assert clients.spill is not None
        assert await clients.spill.find(ALICE, "spent") == SPILLED
