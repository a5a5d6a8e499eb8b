"""Files that survive a crash, and work that is not to be interrupted."""

import asyncio
import os
import re
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import anyio
import pytest

from idiolectd.did import file_name
from idiolectd.finish import finish, in_thread
from idiolectd.store.durable import Access, NewFile, make_private_folder, remove, replace_file, sweep
from tests.store.support import ALICE, Child


@pytest.mark.parametrize("umask", [0o000, 0o077, 0o777])
def test_the_umask_has_no_say(tmp_path: Path, umask: int) -> None:
    """Files are 0600 and folders 0700, or as asked for, under any umask."""
    before = os.umask(umask)
    try:
        make_private_folder(tmp_path / "a" / "b")
        replace_file(tmp_path / "a" / "private", b"x")
        replace_file(tmp_path / "a" / "shared", b"x", Access(0o640, os.getgid()))
    finally:
        os.umask(before)
    modes = {path.name: path.stat().st_mode & 0o7777 for path in tmp_path.rglob("*")}
    assert modes == {"a": 0o700, "b": 0o700, "private": 0o600, "shared": 0o640}


def test_a_temporary_is_private_from_the_first_byte(tmp_path: Path) -> None:
    """Before it takes its place nobody but the owner sees the new content, and no reader takes it for a record."""
    new = NewFile(tmp_path / "x.json", b"x", Access(0o600))
    new.write()
    (found,) = tmp_path.iterdir()
    assert found.stat().st_mode & 0o777 == 0o600
    assert found.suffix != ".json"
    new.discard()


def test_a_failure_leaves_the_old_file_and_nothing_else(tmp_path: Path) -> None:
    """If anything fails before the rename the old content stays and the temporary goes."""
    path = tmp_path / "x.json"
    replace_file(path, b"old")
    (tmp_path / "folder").mkdir()
    with pytest.raises(IsADirectoryError):
        replace_file(tmp_path / "folder", b"new")
    new = NewFile(path, b"new")
    new.write()
    new.sync()
    new.discard()
    new.discard()
    assert {p.name for p in tmp_path.iterdir()} == {"x.json", "folder"}
    assert path.read_bytes() == b"old"


def test_a_private_folder_must_be_a_folder(tmp_path: Path) -> None:
    """A symbolic link in its place is refused, an open folder is closed to others."""
    (tmp_path / "real").mkdir(0o755)
    (tmp_path / "link").symlink_to(tmp_path / "real")
    with pytest.raises(NotADirectoryError):
        make_private_folder(tmp_path / "link")
    make_private_folder(tmp_path / "real")
    assert (tmp_path / "real").stat().st_mode & 0o777 == 0o700


def test_old_leftovers_are_swept(tmp_path: Path) -> None:
    """Temporaries of ours go after an hour; younger ones and other files stay."""
    for name, age in ((".idiolectd-1.tmp", 4000), (".idiolectd-2.tmp", 3000), ("did_plc_a.json.tmp", 9000)):
        (tmp_path / name).write_text("x")
        os.utime(tmp_path / name, (time.time() - age,) * 2)
    sweep(tmp_path)
    assert {p.name for p in tmp_path.iterdir()} == {".idiolectd-2.tmp", "did_plc_a.json.tmp"}


def test_remove_says_whether_there_was_one(tmp_path: Path) -> None:
    """Removing twice is no error."""
    replace_file(tmp_path / "x", b"x")
    assert remove(tmp_path / "x")
    assert not remove(tmp_path / "x")


_FULL_DISK = """
import resource, sys, anyio
from idiolectd.errors import StoreError
from idiolectd.store import open_store
from tests.store.support import ALICE, session

async def main(url):
    async with open_store(url) as store:
        await store.save(session())
        limit = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (3000, limit[1]))
        for _ in range(20):
            try:
                await store.save(session(generation=2, extra={"pad": "x" * 20000}))
            except StoreError as error:
                print(error)
                break
        else:
            raise SystemExit("nothing was ever full")
        resource.setrlimit(resource.RLIMIT_FSIZE, limit)
        assert await store.load(ALICE) == session(), "torn"
        await store.save(session(generation=3))
        assert await store.load(ALICE) == session(generation=3)

anyio.run(main, sys.argv[2], backend=sys.argv[1])
"""


def test_a_full_disk_is_an_error_and_passes(shared_kind: str, anyio_backend: str, tmp_path: Path) -> None:
    """A write that ends half-way is a StoreError; the old session stays, and later writes work."""
    url = f"file://{tmp_path}/s" if shared_kind == "files" else f"sqlite://{tmp_path}/s.db"
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", _FULL_DISK, anyio_backend, url],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        cwd=Path(__file__).parents[2],
    )
    assert done.returncode == 0, done.stderr
    assert "can't" in done.stdout
    assert "refresh-" not in done.stdout + done.stderr
    if shared_kind == "files":
        assert len(list((tmp_path / "s").glob("*.json"))) == 1
        assert not list((tmp_path / "s").rglob("*.tmp"))


def _trace(tmp_path: Path, *arguments: str) -> list[str]:
    """The system calls that matter for durability, of a child's work."""
    log = tmp_path / "trace"
    calls = "fsync,fdatasync,rename,renameat,renameat2,openat,open"
    command = ["strace", "-f", "-y", "-o", str(log), "-e", f"trace={calls}", sys.executable]
    subprocess.run(
        [*command, "-m", "tests.store.child", "trio", *arguments],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        timeout=110,
        check=True,
        cwd=Path(__file__).parents[2],
    )
    return [line for line in log.read_text().splitlines() if str(tmp_path) in line and "ENOENT" not in line]


@pytest.mark.skipif(not Path("/usr/bin/strace").exists(), reason="needs strace")
def test_content_is_synced_before_the_rename_and_the_folder_after(tmp_path: Path) -> None:
    """For record and state: fsync of the temporary, rename, fsync of the folder, in this order."""
    lines = _trace(tmp_path, "save", f"file://{tmp_path}/s", ALICE)
    for folder in (f"{tmp_path}/s", f"{tmp_path}/s/.idiolectd/state"):
        renames = [n for n, line in enumerate(lines) if re.search(rf'rename\w*\(.*"{folder}/did_', line)]
        assert len(renames) == 1, folder
        synced = next(
            n for n, line in enumerate(lines) if re.search(rf"fsync\(\d+<{folder}/\.idiolectd-", line)
        )
        folder_synced = [n for n, line in enumerate(lines) if re.search(rf"fsync\(\d+<{folder}>", line)]
        assert synced < renames[0] < folder_synced[-1]


_UNSURE_STATE = """
import sys, anyio
from dataclasses import replace
from pathlib import Path
from idiolectd.errors import StoreError
from idiolectd.store import open_store
from tests.store.support import ALICE, session

async def main(url, file):
    async with open_store(url) as store:
        await store.save(session())
        entry = await store.read(ALICE)
        changed = replace(entry.state, attempts=7)
        for _ in range(4):
            await anyio.sleep(0.02)  # file times tick a hundred times a second at least
            try:
                await store.commit(session(), changed)
                print("done", Path(file).stat().st_mtime_ns)
            except StoreError:
                print("failed", Path(file).stat().st_mtime_ns)

anyio.run(main, *sys.argv[1:], backend="trio")
"""


@pytest.mark.skipif(not Path("/usr/bin/strace").exists(), reason="needs strace")
def test_a_state_whose_folder_was_not_synced_is_written_again(tmp_path: Path) -> None:
    """It reads as wanted, and may be gone after a power cut: it is no reason to write nothing."""
    folder = tmp_path / "s" / ".idiolectd" / "state"
    # The first is the login's, the second and third the commit's and its repetition's.
    fault = ["-P", str(folder), "-e", "trace=fsync", "-e", "inject=fsync:error=EIO:when=2..3"]
    python = [sys.executable, "-c", _UNSURE_STATE, f"file://{tmp_path}/s", str(folder / file_name(ALICE))]
    done = subprocess.run(
        ["strace", "-f", "-o", str(tmp_path / "trace"), *fault, *python],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        cwd=Path(__file__).parents[2],
    )
    assert done.returncode == 0, done.stderr
    outcomes, times = zip(*(line.split() for line in done.stdout.splitlines()), strict=True)
    assert outcomes == ("failed", "failed", "done", "done")
    assert len(set(times)) == 3, "each of the first three wrote it anew, the last had no reason to"


@pytest.mark.skipif(not Path("/usr/bin/strace").exists(), reason="needs strace")
def test_a_transaction_is_synced_when_it_is_committed(tmp_path: Path) -> None:
    """The write-ahead log reaches the disk with each of twenty commits (synchronous=FULL)."""
    url = f"sqlite://{tmp_path}/s.db"
    with Child("trio", "save", url, ALICE) as child:
        assert child.line() == "ready"
        assert child.finish() == 0
    lines = _trace(tmp_path, "rewrite", url, ALICE, "21")
    assert len([line for line in lines if re.search(r"f(data)?sync\(\d+<[^>]*s\.db-wal>", line)]) >= 20


# Work that is not to be interrupted ----------------------------------------------------------------


@pytest.mark.anyio
async def test_a_cancelled_scope_waits_for_the_thread(tmp_path: Path) -> None:
    """A cancelled task goes on only after its worker thread has ended."""
    done = []

    def work() -> None:
        time.sleep(0.2)
        done.append(1)

    with anyio.move_on_after(0.02):
        await in_thread(work)
    assert done == [1]


@pytest.mark.anyio
async def test_work_raises_what_it_raises() -> None:
    """An error of the work is the caller's."""

    async def fail() -> None:
        raise ValueError("x")

    with pytest.raises(ValueError, match="x"):
        await finish(fail)


def test_asyncios_own_cancellation_waits_too() -> None:
    """`Task.cancel`, repeated, ends the task only when the work is done, and then as cancelled."""

    async def main() -> None:
        done = []

        async def work() -> None:
            await asyncio.sleep(0.2)
            done.append(1)

        task = asyncio.create_task(finish(work))
        for _ in range(5):
            await asyncio.sleep(0.01)
            task.cancel()
        with suppress(asyncio.CancelledError):
            await task
        assert task.cancelled()
        assert done == [1]
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.01):
                await finish(work)
        assert done == [1, 1]

    asyncio.run(main())
