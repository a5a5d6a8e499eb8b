"""Who may read: as `store.group` says now, not as it said when a file was written."""

import grp
import os
from pathlib import Path

import pytest

from idiolectd.errors import StoreError
from idiolectd.store import open_store
from idiolectd.store.access import RecordAccess
from idiolectd.store.durable import Access
from tests.store.support import ALICE, session

pytestmark = pytest.mark.anyio


def own_group() -> str:
    return grp.getgrgid(os.getegid()).gr_name


def url_of(kind: str, folder: Path) -> str:
    return f"file://{folder}/s" if kind == "files" else f"sqlite://{folder}/s.db"


def readable(folder: Path) -> set[str]:
    """What somebody of the group could open, below a folder that he can enter."""
    return {path.name for path in folder.rglob("*") if path.stat().st_mode & 0o070}


async def test_a_group_that_is_taken_away_reads_nothing_more(shared_kind: str, tmp_path: Path) -> None:
    """Records, side files and the folder are closed again, also those that nobody writes any more."""
    url = url_of(shared_kind, tmp_path)
    async with open_store(url, group=own_group()) as store:
        await store.save(session())
    assert readable(tmp_path)
    async with open_store(url) as store:
        await store.secure()
        assert await store.load(ALICE) == session()
        assert readable(tmp_path) == set()


async def test_a_group_that_comes_reads_what_is_there(shared_kind: str, tmp_path: Path) -> None:
    """Not only what is written from then on."""
    url = url_of(shared_kind, tmp_path)
    async with open_store(url) as store:
        await store.save(session())
    assert readable(tmp_path) == set()
    async with open_store(url, group=own_group()) as store:
        await store.secure()
        assert readable(tmp_path) >= ({"s"} if shared_kind == "files" else {"s.db", "s.db-wal", "s.db-shm"})


def test_a_group_that_is_made_anew_is_followed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its number counts that the system gives now; while it is missing, the one before."""
    clock = iter((0.0, 1.0, 100.0, 100.0, 200.0, 200.0, 201.0))
    monkeypatch.setattr("idiolectd.store.access.time.monotonic", lambda: next(clock))
    numbers = {"readers": 7}

    def look_up(name: str) -> grp.struct_group:
        return grp.struct_group((name, "x", numbers[name], []))

    monkeypatch.setattr("idiolectd.store.access.grp.getgrnam", look_up)
    access = RecordAccess("readers")
    numbers["readers"] = 8
    assert access.now() == Access(0o640, 7)
    assert access.now() == Access(0o640, 8)
    del numbers["readers"]
    assert access.now() == Access(0o640, 8)
    with pytest.raises(StoreError, match="no group"):
        RecordAccess("readers")


async def test_ensuring_that_the_store_can_be_written(shared_kind: str, tmp_path: Path) -> None:
    """It writes, and leaves nothing; where writing is not possible it says so."""
    url = url_of(shared_kind, tmp_path)
    async with open_store(url) as store:
        await store.save(session())
        assert store.runtime_dir is not None
        before = {path.name for path in tmp_path.rglob("*")}
        await store.ensure_writable()
        assert {path.name for path in tmp_path.rglob("*")} == before
        assert await store.list_dids() == [ALICE]
