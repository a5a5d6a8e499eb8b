"""Changes in a folder, made by every kind of foreign writer."""

import os
from collections.abc import Callable
from pathlib import Path

import anyio
import pytest

from idiolectd.did import file_name, upstream_file_name
from idiolectd.errors import StoreError
from idiolectd.ports import FULL_BATCH
from idiolectd.store import FilesystemOAuthTokenStore
from idiolectd.store.files import folder_watch
from idiolectd.store.files.folder_watch import FolderWatch, _Inotify, _Listing
from idiolectd.store.sqlite import database_watch
from tests.store.support import ALICE, BOB, SOON, WEB_COLON, WEB_UNDERSCORE, rotated, session

pytestmark = pytest.mark.anyio
opened = FilesystemOAuthTokenStore.open


def replaced(path: Path) -> None:
    """Upstream's store: a fixed temporary name, then a rename."""
    temporary = path.with_name(path.name + ".tmp")
    temporary.write_text(session(generation=2).to_json())
    temporary.rename(path)


def in_place(path: Path) -> None:
    """Upstream's CLI: truncated and written."""
    path.write_text(session(generation=2).to_json())


def appended(path: Path) -> None:
    with path.open("a") as file:
        file.write("\n")


def removed(path: Path) -> None:
    path.unlink()


def moved_away(path: Path) -> None:
    path.rename(path.with_suffix(".bak"))


def linked(path: Path) -> None:
    path.with_suffix(".new").write_text(session(generation=2).to_json())
    path.unlink()
    os.link(path.with_suffix(".new"), path)


QUEUE = int(Path("/proc/sys/fs/inotify/max_queued_events").read_text())


@pytest.fixture(params=["inotify", "listing"])
def source(request: pytest.FixtureRequest) -> str:
    return str(request.param)


async def start(store: FilesystemOAuthTokenStore, watch: FolderWatch, source: str) -> None:
    """Chooses where the names come from, and takes the first answer."""
    assert isinstance(watch._source, _Inotify)
    if source == "listing":
        watch._source.close()
        watch._source = _Listing(store._folder)
    await watch.wait_changed()


def test_a_change_is_looked_for_within_a_second() -> None:
    """However little the operating system tells: what another program does waits for no longer."""
    assert database_watch._POLL < 1
    assert folder_watch._POLL + folder_watch._GATHER < 1


@pytest.mark.parametrize("change", [replaced, in_place, appended, removed, moved_away, linked])
async def test_every_foreign_writer_is_noticed(
    tmp_path: Path, change: Callable[[Path], None], source: str
) -> None:
    """Only the session that changed is named."""
    async with opened(tmp_path) as store:
        await store.save(session(ALICE))
        await store.save(session(BOB))
        async with store.watch() as watch:
            await start(store, watch, source)
            change(tmp_path / upstream_file_name(ALICE))
            with anyio.fail_after(SOON):
                assert await watch.wait_changed() == [ALICE]


async def test_a_new_file_is_noticed_and_a_half_written_one_is_waited_for(tmp_path: Path) -> None:
    """A file that is opened, written slowly and closed is named when it is whole."""
    async with opened(tmp_path) as store, store.watch() as watch:
        await watch.wait_changed()
        with (tmp_path / upstream_file_name(ALICE)).open("w") as file:
            with anyio.move_on_after(0.2):
                raise AssertionError(await watch.wait_changed())
            file.write(session().to_json())
        with anyio.fail_after(SOON):
            assert await watch.wait_changed() == [ALICE]


async def test_ambiguous_names_are_asked(tmp_path: Path, source: str) -> None:
    """Under a name that two DIDs share the content tells, and whoever was there before is named too."""
    path = tmp_path / upstream_file_name(WEB_COLON)
    async with opened(tmp_path) as store, store.watch() as watch:
        await start(store, watch, source)
        path.write_text(session(WEB_UNDERSCORE).to_json())
        with anyio.fail_after(SOON):
            assert await watch.wait_changed() == [WEB_UNDERSCORE]
        replaced_by = path.with_suffix(".new")
        replaced_by.write_text(session(WEB_COLON, 22).to_json())
        replaced_by.rename(path)
        with anyio.fail_after(SOON):
            assert set(await watch.wait_changed()) == {WEB_UNDERSCORE, WEB_COLON}
        path.unlink()
        with anyio.fail_after(SOON):
            assert WEB_COLON in await watch.wait_changed()
        (tmp_path / file_name(WEB_UNDERSCORE)).write_text("{")
        with anyio.fail_after(SOON):
            assert await watch.wait_changed() == [WEB_UNDERSCORE]


async def test_what_is_no_record_is_not_named(tmp_path: Path, source: str) -> None:
    """Temporaries, claims, state files and other names make no work."""
    async with opened(tmp_path) as store:
        await store.save(session())
        async with store.watch() as watch:
            await start(store, watch, source)
            (tmp_path / "did_plc_x.json.tmp").write_text("x")
            (tmp_path / "notes.json").write_text("{}")
            async with store.claim(ALICE, patience=0):
                pass
            with anyio.move_on_after(0.7):
                raise AssertionError(await watch.wait_changed())


async def test_an_overflow_names_everything(tmp_path: Path) -> None:
    """More events than the kernel keeps: all sessions are named, a removed one among them."""
    dids = [f"did:plc:{number:024d}" for number in range(FULL_BATCH + 30)]
    for did in dids:
        (tmp_path / upstream_file_name(did)).write_text(session(did).to_json())
    async with opened(tmp_path) as store, store.watch() as watch:
        while len(await watch.wait_changed()) == FULL_BATCH:
            pass
        busy = tmp_path / "busy"
        for _ in range(QUEUE // 3 + 10):  # made, closed, removed
            busy.touch()
            busy.unlink()
        (tmp_path / upstream_file_name(dids[-1])).unlink()
        seen: set[str] = set()
        with anyio.fail_after(SOON):
            while len(seen) < len(dids):
                seen.update(await watch.wait_changed())
    assert seen == set(dids)


@pytest.mark.parametrize("source", ["inotify", "listing"], indirect=True)
async def test_a_lost_folder_is_an_error(tmp_path: Path, source: str) -> None:
    """A look-out on a folder that was moved away says so instead of waiting forever."""
    root = tmp_path / "s"
    async with opened(root) as store, store.watch() as watch:
        await start(store, watch, source)
        root.rename(tmp_path / "away")
        with anyio.fail_after(SOON), pytest.raises(StoreError):
            await watch.wait_changed()


async def test_a_record_that_is_closed_to_us_and_opened_again_is_named(tmp_path: Path, source: str) -> None:
    """Both times, also if it is one that we wrote ourselves."""
    async with opened(tmp_path) as store, store.watch() as watch:
        await start(store, watch, source)
        await store.save(session())
        with anyio.fail_after(SOON):
            assert await watch.wait_changed() == [ALICE]
            entry = await store.read(ALICE)
            assert entry.session is not None
            new, state = rotated(entry.session, entry.state, 2)
            await store.commit(entry.session, state, tokens=new)
            for mode in (0o000, 0o600):
                (tmp_path / upstream_file_name(ALICE)).chmod(mode)
                assert await watch.wait_changed() == [ALICE]
