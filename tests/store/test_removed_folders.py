"""Somebody removes what the store keeps beside the records, while programs have it open."""

import shutil
from pathlib import Path

import anyio.to_thread
import pytest

from idiolectd.daemon.single_instance import hold_single_instance, own_presence
from idiolectd.errors import LockBusy, StoreError
from idiolectd.ports import Committed, SharedStore
from tests.store.support import ALICE, Child, rotated, session

pytestmark = pytest.mark.anyio


def runtime_dir(store: SharedStore) -> Path:
    assert store.runtime_dir is not None
    return store.runtime_dir


async def test_a_store_works_on_when_its_folder_was_removed(shared: SharedStore) -> None:
    """Locks and states are removed; the next claim, commit and save make what they need."""
    await shared.save(session())
    shutil.rmtree(runtime_dir(shared))
    async with shared.claim(ALICE, patience=0):
        entry = await shared.read(ALICE)
        assert entry.session is not None
        new, state = rotated(entry.session, entry.state, 2)
        assert await shared.commit(entry.session, state, tokens=new) is Committed.DONE
    shutil.rmtree(runtime_dir(shared))
    await shared.save(session(generation=3))
    assert (await shared.read(ALICE)).session == session(generation=3)


async def test_a_claim_whose_file_was_removed_is_taken_again(shared: SharedStore, anyio_backend: str) -> None:
    """Before anything is sent the claim is confirmed: afterwards the next process is kept out again."""
    await shared.save(session())
    async with shared.claim(ALICE, patience=0):
        entry = await shared.read(ALICE)
        assert entry.session is not None
        shutil.rmtree(runtime_dir(shared) / "locks")
        await shared.commit(entry.session, entry.state)
        with Child(anyio_backend, "claim", shared.url, ALICE) as child:
            assert await anyio.to_thread.run_sync(child.line) == "busy"
    async with shared.claim(ALICE, patience=0):
        pass


async def test_who_lost_the_claim_with_its_file_sends_nothing(
    shared: SharedStore, anyio_backend: str
) -> None:
    """Another process has the claim on the new file: the note is refused, tokens that arrived are not."""
    await shared.save(session())
    async with shared.claim(ALICE, patience=0):
        entry = await shared.read(ALICE)
        assert entry.session is not None
        shutil.rmtree(runtime_dir(shared) / "locks")
        with Child(anyio_backend, "claim", shared.url, ALICE) as child:
            assert await anyio.to_thread.run_sync(child.line) == "ready"
            with pytest.raises(LockBusy):
                await shared.commit(entry.session, entry.state)
            new, state = rotated(entry.session, entry.state, 2)
            assert await shared.commit(entry.session, state, tokens=new) is Committed.DONE


async def test_nothing_is_made_where_the_store_itself_is_gone(tmp_path: Path, anyio_backend: str) -> None:
    """A folder that was moved away (a disk unmounted) is not replaced by an empty one."""
    from idiolectd.store import open_store

    async with open_store(f"file://{tmp_path}/files") as store:
        await store.save(session())
        (tmp_path / "files").rename(tmp_path / "away")
        with pytest.raises(StoreError):
            await store.save(session(generation=2))
        assert not (tmp_path / "files").exists()
        with pytest.raises(StoreError):  # which the daemon's watchdog asks for
            await store.due(9.0, limit=1)
        (tmp_path / "away").rename(tmp_path / "files")
        await store.save(session(generation=2))


def test_the_daemon_keeps_its_place_when_its_lock_is_removed(tmp_path: Path) -> None:
    """It takes the lock again, so that no second daemon starts; whoever finds one that did is told."""
    folder, presence = tmp_path / "run", own_presence(0.0, None)
    with hold_single_instance(folder) as daemonship:
        shutil.rmtree(folder)
        daemonship.keep(presence)
        with pytest.raises(LockBusy), hold_single_instance(folder):
            pass
        shutil.rmtree(folder)
        with hold_single_instance(folder), pytest.raises(LockBusy, match="another idiolectd"):
            daemonship.keep(presence)
    with hold_single_instance(folder):
        pass
