"""Copies of a store, the file that they are kept in, and the way back."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from idiolectd.clock import rfc3339
from idiolectd.errors import RecordError, StoreError
from idiolectd.ports import Committed, SharedStore, Spilled, StoredCopy
from idiolectd.session import OAuthSession
from idiolectd.store import Backup, BackupWriter
from tests.store.support import ALICE, BOB, Opener, opener, session
from tests.support import did

pytestmark = pytest.mark.anyio


async def copies(store: SharedStore) -> dict[str, StoredCopy]:
    return {copy.did: copy async for page in store.copies() for copy in page}


def written(path: Path, *found: StoredCopy, overwrite: bool = False) -> None:
    writer = BackupWriter(path, "2026-01-31T12:00:00.000Z")
    try:
        for each in found:
            writer.put(each)
        writer.finish(overwrite=overwrite)
    finally:
        writer.discard()


def at(seconds: float) -> OAuthSession:
    return replace(session(), issued_at=rfc3339(1e9 + seconds), refresh_jwt=f"refresh-{seconds}")


async def test_what_is_copied_comes_back(store: SharedStore, tmp_path: Path) -> None:
    """Every record and state, from one store into an empty one of either kind."""
    for number in range(120):
        await store.save(session(did(number)))
    found = await copies(store)
    assert len(found) == 120
    for kind in ("files", "sqlite"):
        (tmp_path / f"to-{kind}").mkdir()
        async with opener(kind, tmp_path / f"to-{kind}")() as other:
            for copy in found.values():
                assert await other.restore(copy) is Committed.DONE
            for each in found:
                stored, before = await other.read(each), await store.read(each)
                assert stored.session is not None
                assert stored.session == before.session
                assert stored.state.is_restored(stored.session)


async def test_the_newer_record_stays(store: SharedStore) -> None:
    """What the store holds is replaced by a newer record only; the same one is left without a mark."""
    await store.save(at(0))
    old = (await copies(store))[at(0).did]
    await store.save(at(10))
    new = (await copies(store))[at(0).did]
    assert await store.restore(old) is Committed.SUPERSEDED
    assert await store.restore(new) is Committed.SUPERSEDED
    await store.delete(at(0).did)
    assert await store.restore(old) is Committed.DONE
    assert await store.restore(new) is Committed.DONE
    stored = await store.read(at(0).did)
    assert stored.session == at(10)
    assert stored.state.is_restored(at(10))


async def test_an_unreadable_copy_is_an_error(store: SharedStore) -> None:
    """It is named, and nothing is stored."""
    with pytest.raises(RecordError):
        await store.restore(StoredCopy(session().did, b"{", None))
    assert await store.load(session().did) is None


async def test_a_damaged_record_is_copied_too(opening_shared: Opener) -> None:
    """A backup leaves nothing out that may be mended later."""
    async with opening_shared() as store:
        await store.save(session(ALICE))
        await store.restore(StoredCopy(session(BOB).did, session(BOB).to_json().encode(), b"no state"))
        assert set(await copies(store)) == {session(ALICE).did, session(BOB).did}


async def test_spilled_tokens_are_copied(shared: SharedStore) -> None:
    """As they lie there, by a name that nothing else can be put under."""
    assert shared.spill is not None
    await shared.spill.put(Spilled("hash", session()))
    ((name, text),) = (await shared.spill.copies()).items()
    await shared.spill.remove(session().did)
    await shared.spill.put_copy(name, text)
    assert await shared.spill.find(session().did, "hash") == Spilled("hash", session())
    with pytest.raises(ValueError, match="elsewhere"):
        await shared.spill.put_copy("../elsewhere.json", text)


def test_a_backup_is_private_and_whole(tmp_path: Path) -> None:
    """It holds what was put, byte for byte, and nobody else can read it."""
    path = tmp_path / "a.backup"
    found = (StoredCopy("did:plc:a", b"\xff{", None), StoredCopy("did:plc:b", b"{}", b"{}"))
    written(path, *found)
    assert path.stat().st_mode & 0o777 == 0o600
    backup = Backup.open(path)
    assert (backup.summary.sessions, tuple(backup.sessions())) == (2, found)
    assert [each.name for each in tmp_path.iterdir()] == ["a.backup"]


def test_a_backup_replaces_nothing_unless_told(tmp_path: Path) -> None:
    """What is there stays, and nothing is left beside it."""
    path = tmp_path / "a.backup"
    written(path)
    before = path.read_bytes()
    with pytest.raises(FileExistsError):
        written(path, StoredCopy("did:plc:a", b"{}", None))
    assert path.read_bytes() == before
    written(path, StoredCopy("did:plc:a", b"{}", None), overwrite=True)
    assert Backup.open(path).summary.sessions == 1
    assert [each.name for each in tmp_path.iterdir()] == ["a.backup"]


def test_a_damaged_backup_is_refused(tmp_path: Path) -> None:
    """Cut short anywhere or changed anywhere, it is not read."""
    path = tmp_path / "a.backup"
    written(path, StoredCopy("did:plc:a", b"{}", None))
    whole = path.read_bytes()
    for cut in range(0, len(whole) - 1, 7):
        path.write_bytes(whole[:cut])
        with pytest.raises(StoreError):
            Backup.open(path)
    path.write_bytes(whole.replace(b"plc:a", b"plc:b"))
    with pytest.raises(StoreError, match="checksum"):
        Backup.open(path)


def test_a_newer_backup_is_refused(tmp_path: Path) -> None:
    """The message names the release that it needs."""
    path = tmp_path / "a.backup"
    path.write_text(json.dumps({"format": "idiolectd-backup", "version": 2, "needs": "9.9.9"}) + "\n{}\n")
    with pytest.raises(StoreError, match=r"9\.9\.9"):
        Backup.open(path)
