"""Stores with keys: nothing readable on the disk, keys that change, and keys that are wrong."""

import sqlite3
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager, closing
from functools import partial
from pathlib import Path

import pytest

from idiolectd.errors import RecordError, SealedError, StoreError
from idiolectd.ports import NO_SERVER, Committed, ScheduleEntry, SharedStore, Spilled
from idiolectd.state import RefreshState, State, reconcile
from idiolectd.store import AS_STORED, Keys, SealingKey, keys_of, open_reading, open_store
from tests.store.support import ALICE, BOB, NOW, put_foreign, rotated, session

pytestmark = pytest.mark.anyio

OLD, NEW = SealingKey("2026-10", b"o" * 32), SealingKey("2026-11", b"n" * 32)
OLD_ONLY, BOTH, NEW_ONLY, NONE = Keys([OLD]), Keys([NEW, OLD]), Keys([NEW]), Keys()
WRONG = Keys([SealingKey(OLD.id, b"x" * 32)])

KeyedOpener = Callable[..., AbstractAsyncContextManager[SharedStore]]


@pytest.fixture
def url(shared_kind: str, tmp_path: Path) -> str:
    return f"file://{tmp_path}/files" if shared_kind == "files" else f"sqlite://{tmp_path}/db/sessions.sqlite"


@pytest.fixture
def opening(url: str, tmp_path: Path) -> KeyedOpener:
    def opened(keys: Keys, *, looking: bool = False) -> AbstractAsyncContextManager[SharedStore]:
        return open_store(url, keys=keys, looking=looking, spill_dir=str(tmp_path / "spill"))

    return opened


def on_disk(folder: Path) -> bytes:
    return b"\n".join(path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file())


def content(folder: Path) -> list[object]:
    """All records and states; whatever else a database's opening may touch does not count."""
    found: list[object] = [
        path.read_bytes() for path in sorted(folder.rglob("*.json")) if path.parent.name != "places"
    ]
    for path in folder.rglob("*.sqlite"):
        with closing(sqlite3.connect(path)) as database:
            found += database.execute("SELECT * FROM sessions ORDER BY did").fetchall()
            found += database.execute("SELECT did, state_json FROM idiolectd_state ORDER BY did").fetchall()
    return found


async def rotate(store: SharedStore, generation: int, did: str = ALICE) -> None:
    async with store.claim(did, patience=5):
        entry = await store.read(did)
        assert entry.session is not None
        tokens, state = rotated(entry.session, entry.state, generation)
        due = ScheduleEntry(NOW, did, NOW, NO_SERVER)
        assert await store.commit(entry.session, state, tokens=tokens, due=due) is Committed.DONE


async def test_no_secret_is_on_the_disk(opening: KeyedOpener, tmp_path: Path) -> None:
    """After a save, rotations, tokens that were withheld or displaced, and a spill; the claims' files too."""
    async with opening(BOTH) as store:
        await store.save(session())
        await rotate(store, 2)
        async with store.claim(ALICE, patience=5):
            entry = await store.read(ALICE)
            assert entry.session is not None
            whole = session(generation=7)
            state = entry.state.withholding(entry.session, whole, NOW, unconfirmed="x")
            await store.commit(entry.session, state)
            assert store.spill is not None
            await store.spill.put(Spilled(entry.session.refresh_token_hash, session(generation=8)))
            found = await store.spill.find(ALICE, entry.session.refresh_token_hash)
            assert found is not None
            assert found.session == session(generation=8)
        written = on_disk(tmp_path)
    for generation in (1, 2, 7, 8):
        assert f"refresh-{generation}".encode() not in written
        assert f"access-{generation}".encode() not in written
    assert b'"kty"' not in written
    assert b'\\"kty\\"' not in written
    assert written.count(b"sealed:1:2026-11:") >= 8


async def test_two_generations_of_keys(opening: KeyedOpener, url: str) -> None:
    """The first seals, all open; after `reseal` the old one can go. Records of both lie side by side meanwhile."""
    async with opening(OLD_ONLY) as store:
        await store.save(session())
        await store.save(session(BOB))
    async with opening(BOTH) as store:
        await rotate(store, 2)
        assert await store.load(BOB) == session(BOB)
        before = await store.read(BOB)
        assert await store.reseal(BOB)
        assert await store.read(BOB) == before
        assert not await store.reseal("did:plc:nobody")
        assert open_reading(url, keys=BOTH).dids() == [ALICE, BOB]
    async with opening(NEW_ONLY) as store:
        assert await store.load(BOB) == session(BOB)
        await rotate(store, 3)
        assert (await store.read(BOB)).state == before.state


async def test_a_clear_store_is_sealed(opening: KeyedOpener, url: str, tmp_path: Path) -> None:
    """What it held stays as it was, and the schedule too; a second time nothing is written."""
    async with opening(NONE) as store:
        await store.save(session(extra={"kept": [1]}))
        await rotate(store, 2)
        entry, due = await store.read(ALICE), await store.due(NOW + 1, limit=9)
    async with opening(NEW_ONLY) as store:
        assert await store.read(ALICE) == entry
        assert await store.reseal(ALICE)
        assert await store.read(ALICE) == entry
        if url.startswith("sqlite"):
            assert await store.due(NOW + 1, limit=9) == due
        sealed = content(tmp_path)
        assert await store.reseal(ALICE)
    assert content(tmp_path) == sealed
    assert b"refresh-2" not in repr(sealed).encode()


async def test_a_foreign_program_puts_a_clear_record(opening: KeyedOpener, tmp_path: Path) -> None:
    """It counts as it does in a store that is not sealed, and the next rotation seals it."""
    async with opening(NEW_ONLY) as store:
        await store.save(session(BOB))
        await put_foreign(store, tmp_path, ALICE, session().to_json().encode())
        assert await store.load(ALICE) == session()
        await rotate(store, 2)
    async with opening(AS_STORED, looking=True) as store:
        found = await store.load(ALICE)
        assert found is not None
        assert keys_of(found) == {"2026-11"}


@pytest.mark.parametrize("keys", [WRONG, NEW_ONLY], ids=["wrong", "missing"])
async def test_a_key_that_does_not_open(opening: KeyedOpener, url: str, tmp_path: Path, keys: Keys) -> None:
    """Nobody reads, saves over or quarantines it; what can be done without a key can be done."""
    async with opening(OLD_ONLY) as store:
        await store.save(session())
        await rotate(store, 2)
        assert store.spill is not None
        await store.spill.put(Spilled(session().refresh_token_hash, session(generation=8)))
    before = content(tmp_path)
    async with opening(keys) as store:
        assert await store.list_dids() == [ALICE]
        assert store.spill is not None
        for doing in (
            partial(store.load, ALICE),
            partial(store.read, ALICE),
            partial(store.save, session(generation=9)),
            partial(store.commit, session(generation=2), RefreshState()),
            partial(store.reseal, ALICE),
            partial(store.spill.find, ALICE, session().refresh_token_hash),
        ):
            with pytest.raises(StoreError) as caught:
                async with store.claim(ALICE, patience=5):
                    await doing()
            assert isinstance(caught.value, SealedError)
            assert not isinstance(caught.value, RecordError)
        with pytest.raises(SealedError):
            open_reading(url, keys=keys).record(ALICE)
    assert content(tmp_path) == before


async def test_without_a_key(opening: KeyedOpener, url: str, tmp_path: Path) -> None:
    """Clients are sent to the view; nobody writes clear tokens beside the sealed ones."""
    async with opening(OLD_ONLY) as store:
        await store.save(session())
    before = content(tmp_path)
    with pytest.raises(SealedError, match="clients' view"):
        open_reading(url).record(ALICE)
    async with opening(NONE) as store:
        with pytest.raises(StoreError, match=r"is sealed, and nothing is written .* store\.keys"):
            await store.save(session(BOB))
    async with opening(AS_STORED, looking=True) as store:
        entry = await store.read(ALICE)
        assert entry.session is not None
        assert reconcile(entry.session, entry.state, NOW).state.state is State.FRESH
    assert content(tmp_path) == before
