"""Reading without an event loop: the same answers and the same errors as the stores' own reading."""

import gc
import json
import os
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, suppress
from pathlib import Path
from typing import Any

import anyio
import pytest

from idiolectd.errors import (
    ConfigError,
    DidError,
    LockBusy,
    NoSessionError,
    RecordError,
    SessionError,
    StoreError,
)
from idiolectd.ports import Committed
from idiolectd.session import OAuthSession
from idiolectd.state import State
from idiolectd.store import (
    MemoryReading,
    Reading,
    find_did,
    is_daemon_running,
    load_session,
    open_reading,
    open_store,
    try_exclusive,
)
from tests.memory_store import MemoryStore
from tests.store.support import ALICE, BOB, WEB_COLON, WEB_UNDERSCORE, put_foreign, rotated, session

URLS = {"files": "file://{}/files", "sqlite": "sqlite://{}/db/sessions.sqlite"}


@pytest.fixture
def url(shared_kind: str, tmp_path: Path) -> str:
    """A store on disk, made by its first opening."""
    made = URLS[shared_kind].format(tmp_path)
    save(made)
    return made


def save(url: str, *sessions: OAuthSession) -> None:
    async def main() -> None:
        async with open_store(url) as store:
            for one in sessions:
                await store.save(one)

    anyio.run(main, backend="trio")


def loaded(reading: Reading, did: str, *, waiting: bool = False) -> OAuthSession | None:
    """The session that is stored now."""
    found = reading.record(did, waiting=waiting)
    return None if found is None else found.session


def foreign(url: str, folder: Path, did: str, text: bytes) -> None:
    async def main() -> None:
        async with open_store(url) as store:
            await put_foreign(store, folder, did, text)

    anyio.run(main)


def test_what_is_saved_is_read(url: str) -> None:
    """Each save is seen by the next look; nothing stored is None; a malformed DID is an error."""
    reading = open_reading(url)
    assert loaded(reading, ALICE) is None
    for generation in (1, 2, 3):
        save(url, session(generation=generation))
        assert loaded(reading, ALICE) == session(generation=generation)
    assert loaded(reading, BOB) is None
    with pytest.raises(DidError):
        loaded(reading, "nonsense")


def test_names_that_upstream_confuses_are_told_apart(url: str) -> None:
    """As by the store itself."""
    save(url, session(WEB_COLON), session(WEB_UNDERSCORE, generation=7))
    reading = open_reading(url)
    for did, generation in ((WEB_COLON, 1), (WEB_UNDERSCORE, 7)):
        found = loaded(reading, did)
        assert found is not None
        assert (found.did, found.access_jwt) == (did, f"access-{generation}")


@pytest.mark.parametrize(
    "text", [b"", b"{", b"\xff", b"[]", session(BOB).to_json().encode(), b" " * 1_100_000, b"x" * 9_000_000]
)
def test_a_damaged_record_is_the_same_error(url: str, tmp_path: Path, text: bytes) -> None:
    """Type, place and reason are those of the store's own `load`."""
    foreign(url, tmp_path, ALICE, text)

    async def own() -> RecordError:
        async with open_store(url) as store:
            with pytest.raises(RecordError) as raised:
                await store.load(ALICE)
            return raised.value

    expected = anyio.run(own)
    with pytest.raises(RecordError) as raised:
        loaded(open_reading(url), ALICE)
    assert str(raised.value) == str(expected)
    assert (raised.value.did, raised.value.place) == (expected.did, expected.place)


def test_the_state_is_read(url: str) -> None:
    """Of a session that was refreshed, of one that never was, of one that is not there."""

    async def main() -> None:
        async with open_store(url) as store:
            await store.save(session())
            tokens, state = rotated(session(), (await store.read(ALICE)).state, 2)
            assert await store.commit(session(), state, tokens=tokens) is Committed.DONE

    anyio.run(main)
    reading = open_reading(url)
    assert session().refresh_token_hash in reading.state(ALICE, 0.0).spent
    assert reading.state(BOB, 0.0).state is State.FRESH


def test_accounts_by_handle(url: str, tmp_path: Path) -> None:
    """A handle with or without ``@``, in any case; damaged records are passed over; two are ambiguous."""
    save(
        url,
        session(handle="Alice.example", confirmed_handle="alice.example"),
        session(BOB, handle="bob.example", confirmed_handle="bob.example"),
    )
    foreign(url, tmp_path, WEB_COLON, b"{")
    reading = open_reading(url)
    assert reading.dids() == [ALICE, BOB]
    assert find_did(reading, "@alice.EXAMPLE") == ALICE
    assert find_did(reading, WEB_COLON) == WEB_COLON
    assert load_session(url, "bob.example").did == BOB
    with pytest.raises(NoSessionError):
        load_session(url, "carol.example")
    with pytest.raises(NoSessionError):
        load_session(url, "did:plc:nobody")
    save(url, session(BOB, handle="alice.example", confirmed_handle="alice.example"))
    with pytest.raises(SessionError, match=f"{ALICE}, {BOB}"):
        find_did(reading, "alice.example")


def test_a_store_in_memory() -> None:
    """An open one has a reading side; its URL alone means nothing."""
    store = MemoryStore()
    reading: Reading = MemoryReading(store)
    assert (loaded(reading, ALICE), reading.runtime_dir, reading.dids()) == (None, None, [])
    anyio.run(store.save, session())
    store.put_record(BOB, b"{")
    assert loaded(reading, ALICE) == session()
    assert reading.dids() == [ALICE]
    assert reading.state(ALICE, 0.0).state is State.FRESH
    with pytest.raises(RecordError):
        loaded(reading, BOB)
    with pytest.raises(ConfigError, match="open store"):
        open_reading("memory:")


def test_nothing_is_made_and_nothing_missed(shared_kind: str, tmp_path: Path) -> None:
    """A store that is not there is an error with its path, and can come later; a look makes nothing."""
    url = URLS[shared_kind].format(tmp_path)
    reading = open_reading(url)
    for look in (lambda: loaded(reading, ALICE), lambda: reading.state(ALICE, 0.0), reading.dids):
        with pytest.raises(StoreError, match=f"{tmp_path}.*check the store's path"):
            look()
    assert list(tmp_path.iterdir()) == []
    save(url, session())
    assert loaded(reading, ALICE) == session()


def test_a_path_of_the_other_kind_is_named(tmp_path: Path) -> None:
    """A folder called a database, a file called a folder, a file that is no database."""
    (tmp_path / "file").write_bytes(b"x" * 5000)
    with pytest.raises(StoreError, match="file:///FOLDER"):
        loaded(open_reading(f"sqlite://{tmp_path}"), ALICE)
    with pytest.raises(StoreError, match="sqlite:///PATH"):
        loaded(open_reading(f"file://{tmp_path}/file"), ALICE)
    with pytest.raises(StoreError, match="not an SQLite database"):
        loaded(open_reading(f"sqlite://{tmp_path}/file"), ALICE)


def test_a_store_that_vanishes_is_trouble(url: str, shared_kind: str, tmp_path: Path) -> None:
    """Moved away: a store error and never "no session". Another database in its place is read."""
    save(url, session())
    reading = open_reading(url)
    assert loaded(reading, ALICE) is not None
    place = next(tmp_path.iterdir())
    place.rename(tmp_path / "away")
    with pytest.raises(StoreError):
        loaded(reading, ALICE)
    if shared_kind == "sqlite":
        save(url, session(generation=9))
        assert loaded(reading, ALICE) == session(generation=9)
    else:
        place.mkdir()
        with pytest.raises(StoreError, match="not the folder that was opened"):
            loaded(reading, ALICE)


def test_threads_read_while_somebody_writes(url: str) -> None:
    """Eight threads see whole records, each no older than the one before; no error."""
    save(url, session(generation=1))
    reading = open_reading(url)
    stop = threading.Event()

    def look() -> int:
        newest = 0
        while not stop.is_set():
            found = loaded(reading, ALICE, waiting=True)
            assert found is not None
            generation = int(found.access_jwt.removeprefix("access-"))
            assert generation >= newest
            newest = generation
            time.sleep(0.0005)
        return newest

    async def write() -> None:
        async with open_store(url) as store:
            for generation in range(2, 16):
                await store.save(session(generation=generation))

    with ThreadPoolExecutor(8) as pool:
        looks = [pool.submit(look) for _ in range(8)]
        try:
            anyio.run(write)
        finally:
            stop.set()
        assert min(one.result(timeout=10) for one in looks) > 1
    assert loaded(reading, ALICE) == session(generation=15)


def test_a_forked_child_reads_by_itself(url: str) -> None:
    """It uses nothing of its parent's, not even a lock that a thread of the parent holds just then."""
    save(url, session())
    program = """if True:
        import os, sys, threading
        from idiolectd.store import open_reading
        reading = open_reading(sys.argv[1])
        did = sys.argv[2]
        reading.record(did)
        stop = threading.Event()
        def busy():
            while not stop.is_set():
                reading.record(did, waiting=True)
        threads = [threading.Thread(target=busy) for _ in range(4)]
        for thread in threads:
            thread.start()
        codes = []
        for _ in range(20):
            child = os.fork()
            if child == 0:
                try:
                    reader = getattr(reading, "_rows", None)
                    if reader is not None and reader._connection is not None:
                        os._exit(3)  # the parent's
                    os._exit(0 if reading.record(did, waiting=True) is not None else 1)
                except BaseException:
                    os._exit(2)
            codes.append(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
        stop.set()
        for thread in threads:
            thread.join()
        print(codes)
        """
    done = subprocess.run(
        [sys.executable, "-c", program, url, ALICE],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.stdout == f"{[0] * 20}\n", done.stderr


def test_ten_thousand_readings_are_one(url: str, tmp_path: Path) -> None:
    """They share a connection; when the last one is gone, so are its files."""
    save(url, session())
    readings = [open_reading(url) for _ in range(100)]
    for reading in readings:
        assert loaded(reading, ALICE) is not None
    assert len({id(reading) for reading in readings}) == 1
    assert len(descriptors(tmp_path)) in (0, 3)  # none of a folder; database, -wal and -shm
    del readings, reading
    gc.collect()
    assert descriptors(tmp_path) == set()


def descriptors(folder: Path) -> set[str]:
    """What this process has open there."""
    found = set()
    for entry in Path("/proc/self/fd").iterdir():
        with suppress(OSError):  # the one that lists them
            found.add(str(entry.readlink()))
    return {name for name in found if name.startswith(str(folder))}


def test_a_foreign_lock_is_waited_for_only_if_asked(tmp_path: Path) -> None:
    """A rollback-journal database that somebody keeps locked: at once `LockBusy`, or the wait that was given."""
    path = tmp_path / "upstream.sqlite"
    with closing(sqlite3.connect(path)) as upstream:
        upstream.execute("CREATE TABLE sessions (did TEXT PRIMARY KEY NOT NULL, body_json TEXT NOT NULL)")
        upstream.execute("INSERT INTO sessions VALUES (?, ?)", (ALICE, session().to_json()))
        upstream.commit()
        reading = open_reading(f"sqlite://{path}")
        assert loaded(reading, ALICE) == session()
        assert reading.state(ALICE, 0.0).state is State.FRESH  # only upstream has written so far
        upstream.execute("BEGIN EXCLUSIVE")
        began = time.monotonic()
        with pytest.raises(LockBusy):
            loaded(reading, ALICE)
        assert time.monotonic() - began < 2.0
        with ThreadPoolExecutor(1) as pool:
            waiting = pool.submit(loaded, reading, ALICE, waiting=True)
            time.sleep(0.1)
            assert not waiting.done()
            with pytest.raises(LockBusy, match="other threads"):
                loaded(reading, ALICE)
            upstream.rollback()
            assert waiting.result(timeout=20) == session()


def test_a_look_is_short(url: str) -> None:
    """Well below a millisecond of work, or it would have no business in an event loop."""
    save(url, session())
    reading = open_reading(url)
    loaded(reading, ALICE)
    took = []
    for _ in range(200):
        began = time.thread_time()  # not the clock's: others work here too
        loaded(reading, ALICE)
        took.append(time.thread_time() - began)
    assert sorted(took)[100] < 0.001


def test_load_session_keeps_the_connection(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Opening one costs more than twenty reads; another database at the path is opened anew."""
    url = URLS["sqlite"].format(tmp_path)
    save(url, session())
    opened: list[str] = []
    connect = sqlite3.connect

    def counting(name: str, **options: Any) -> sqlite3.Connection:
        opened.append(name)
        made: sqlite3.Connection = connect(name, **options)
        return made

    monkeypatch.setattr(sqlite3, "connect", counting)
    for _ in range(5):
        assert load_session(url, ALICE) == session()
    gc.collect()
    assert load_session(url, ALICE) == session()
    assert len(opened) == 1
    place = next(tmp_path.iterdir())
    place.rename(tmp_path / "away")
    save(url, session(generation=9))
    opened.clear()
    assert load_session(url, ALICE) == load_session(url, ALICE) == session(generation=9)
    assert len(opened) == 1


def test_the_configured_store(
    url: str, shared_kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without a URL the configuration names the store, for reading and for opening."""
    save(url, session())
    monkeypatch.setenv("IDIOLECTD_CONFIG", os.devnull)
    monkeypatch.setenv("IDIOLECTD_STORE__URL", url)
    assert load_session(None, ALICE) == session()

    async def main() -> str:
        async with open_store() as store:
            return store.url

    assert anyio.run(main) == url
    monkeypatch.setenv("IDIOLECTD_STORE__URL", "nonsense")
    with pytest.raises(ConfigError, match=r"store\.url"):
        open_reading(None)
    with pytest.raises(ConfigError, match=r"store\.url"):
        anyio.run(main)


def test_a_program_that_reads_pays_for_nothing_else(url: str) -> None:
    """No event loop, HTTP, or other kind of store is imported for a look at a record."""
    save(url, session())
    program = (
        "import sys, idiolectd\n"
        "print(idiolectd.load_session(sys.argv[1], sys.argv[2]).did)\n"
        "print([m for m in sys.argv[3:] if m in sys.modules])\n"
    )
    heavy = ["httpx", "trio", "aiosqlite", "cryptography", "idiolectd.config", "idiolectd.refresh"]
    done = subprocess.run(
        [sys.executable, "-c", program, url, ALICE, *heavy], capture_output=True, text=True, check=True
    )
    assert done.stdout == f"{ALICE}\n[]\n"


def test_whether_a_daemon_runs(tmp_path: Path) -> None:
    """Yes while its lock is held, no before and after, and no for what has no place on disk."""
    assert is_daemon_running(None) is False
    assert is_daemon_running(tmp_path) is False
    with try_exclusive(tmp_path / "daemon.lock"):
        assert is_daemon_running(tmp_path) is True
    assert is_daemon_running(tmp_path) is False


@pytest.mark.skipif(os.geteuid() == 0, reason="root may look everywhere")
def test_whether_a_daemon_runs_can_be_nobodys_business(tmp_path: Path) -> None:
    """A reader who may not enter the store's private folder is not told "no"."""
    private = tmp_path / "private"
    private.mkdir(0o000)
    try:
        assert is_daemon_running(private) is None
    finally:
        private.chmod(0o700)


def test_nothing_secret_is_shown(url: str) -> None:
    """Not by `repr`, not by the error for a damaged record."""
    reading = open_reading(url)
    assert repr(reading).endswith(f"{url}>")
    looks: list[Callable[[], object]] = [lambda: load_session(url, ALICE), lambda: loaded(reading, ALICE)]
    save(url, session(access_jwt="sensitive"))
    assert all("sensitive" not in repr(look()) for look in looks)
    assert "sensitive" in json.dumps(json.loads(load_session(url, ALICE).to_json()))
