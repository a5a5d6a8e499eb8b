"""What a store says of its format, and what a program does on a newer one: it says so, and changes nothing."""

import hashlib
import json
import sqlite3
import struct
from collections.abc import Callable, Iterator
from contextlib import closing
from fcntl import F_OFD_SETLK, F_WRLCK, fcntl
from pathlib import Path

import pytest

from idiolectd import open_store
from idiolectd.errors import LockBusy, RecordError, StoreError
from idiolectd.ports import SharedStore
from idiolectd.store import read_presence, try_exclusive
from tests.store.support import ALICE, session

pytestmark = pytest.mark.anyio


@pytest.fixture(params=["files", "sqlite"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    return tmp_path / "files" if request.param == "files" else tmp_path / "sessions.sqlite"


def url(place: Path) -> str:
    return f"sqlite://{place}" if place.suffix else f"file://{place}"


def runtime(place: Path) -> Path:
    return place.with_name(f"{place.name}.idiolectd") if place.suffix else place / ".idiolectd"


def make_newer(place: Path) -> None:
    """As a release to come leaves it."""
    if place.suffix:
        with closing(sqlite3.connect(place)) as db, db:
            db.execute("UPDATE idiolectd_format SET version = 3, needs = '9.1.0'")
    else:
        (runtime(place) / "format.json").write_text(json.dumps({"version": 3, "needs": "9.1.0"}))


def content(place: Path) -> dict[str, bytes]:
    """Every file of the store; of a database what it holds."""
    if place.suffix:
        with closing(sqlite3.connect(place)) as db:
            return {"dump": "\n".join(db.iterdump()).encode()}
    return {str(path): path.read_bytes() for path in sorted(place.rglob("*")) if path.is_file()}


async def test_a_newer_store_is_left_as_it_is(place: Path) -> None:
    """The error names the release that is needed."""
    async with open_store(url(place)) as store:
        await store.save(session())
    make_newer(place)
    before = content(place)
    with pytest.raises(StoreError, match=r"needs idiolectd '9\.1\.0' or newer"):
        async with open_store(url(place)):
            pass
    assert content(place) == before


async def test_a_store_that_becomes_newer_is_left_alone(place: Path) -> None:
    """The upgrade happens beside a program that runs: its next write in a new process is refused."""
    async with open_store(url(place)) as store:
        await store.save(session())
        make_newer(place)
        before = content(place)
        with pytest.raises(StoreError, match=r"9\.1\.0"):
            async with open_store(url(place)) as late:
                await late.save(session(generation=2))
        assert content(place) == before


async def test_a_newer_state_is_not_started_anew(place: Path) -> None:
    """What a newer program knows of one session is kept, and that session is left alone."""
    async with open_store(url(place)) as store:
        await store.save(session())
    text = '{"version":2,"state":"fresh","unheard":"of"}'
    if place.suffix:
        with closing(sqlite3.connect(place)) as db, db:
            db.execute("UPDATE idiolectd_state SET state_json = ?", (text,))
    else:
        (state,) = (runtime(place) / "state").iterdir()
        state.write_text(text)
    async with open_store(url(place)) as store:
        with pytest.raises(RecordError, match="upgrade"):
            await store.read(ALICE)
        with pytest.raises(RecordError, match="upgrade"):
            await store.save(session(generation=2))
    assert text.encode() in b"".join(content(place).values()).replace(b"''", b"'")


def lock(place: Path, byte: int) -> Callable[[], object] | None:
    """Takes a byte of the lock file as 0.1.0 and 0.2.0 do; returns what frees it, None if it is taken."""
    file = (runtime(place) / "locks" / "claims").open("r+b")
    try:
        fcntl(file, F_OFD_SETLK, struct.pack("hhqqi0q", F_WRLCK, 0, byte, 1, 0))
    except BlockingIOError:
        file.close()
        return None
    return file.close


CLAIM = int.from_bytes(hashlib.sha256(ALICE.encode()).digest()[:8], "big") >> 2
WRITE_LOCK = 2**62


@pytest.fixture
async def store(place: Path, anyio_backend: str) -> Iterator[SharedStore]:  # type: ignore[misc]
    async with open_store(url(place)) as opened:
        await opened.save(session())
        yield opened


async def test_two_releases_exclude_each_other(store: SharedStore, place: Path) -> None:
    """The place and the byte of a claim are those of the first release."""
    free = lock(place, CLAIM)
    assert free is not None
    with pytest.raises(LockBusy):
        async with store.claim(ALICE, patience=0):
            pass
    free()
    async with store.claim(ALICE, patience=0):
        assert lock(place, CLAIM) is None


async def test_a_note_of_a_newer_daemon_is_read(store: SharedStore, place: Path) -> None:
    """It may say more of itself than this program knows."""
    with try_exclusive(runtime(place) / "daemon.lock"):
        note = {"pid": 1, "since": "", "version": "9.1.0", "format": 2, "unheard": "of"}
        (runtime(place) / "daemon.json").write_text(json.dumps(note))
        found = read_presence(runtime(place))
    assert found is not None
    assert (found.version, found.format) == ("9.1.0", 2)
