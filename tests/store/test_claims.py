"""Claims and the write lock, between tasks, threads and real processes."""

import os
import signal
import threading
from pathlib import Path

import anyio
import anyio.to_thread
import pytest

from idiolectd.errors import LockBusy, StoreError
from idiolectd.ports import SharedStore
from idiolectd.store import is_held, open_store, try_exclusive
from idiolectd.store.locks.claims import Locks
from idiolectd.store.locks.mounts import refuse_network_file_system
from idiolectd.store.locks.ofd import try_lock
from tests.store.support import ALICE, BOB, Child, Opener, open_in, session


@pytest.mark.anyio
async def test_a_claim_excludes_other_processes_until_its_holder_is_killed(
    shared: SharedStore, anyio_backend: str
) -> None:
    """Another process is kept out, and SIGKILL of the holder frees the claim at once."""
    with Child(anyio_backend, "claim", shared.url, ALICE) as child:
        assert await anyio.to_thread.run_sync(child.line) == "ready"
        with pytest.raises(LockBusy, match=rf"^process {child.process.pid} \(python"):
            async with shared.claim(ALICE, patience=0.1):
                pass
        async with shared.claim(BOB, patience=0):
            pass
        with anyio.fail_after(5):
            await shared.save(session())  # a login doesn't wait for a refresh
        child.process.send_signal(signal.SIGKILL)
        child.process.wait(5)
        async with shared.claim(ALICE, patience=1):
            pass


@pytest.mark.anyio
async def test_who_waits_gets_the_claim_when_it_is_freed(shared: SharedStore, anyio_backend: str) -> None:
    """A patient waiter takes over from another process that ends in order."""
    with Child(anyio_backend, "claim", shared.url, ALICE) as child:
        assert await anyio.to_thread.run_sync(child.line) == "ready"
        async with anyio.create_task_group() as group:
            group.start_soon(anyio.to_thread.run_sync, child.finish)
            async with shared.claim(ALICE, patience=10):
                pass


@pytest.mark.anyio
async def test_a_forked_child_does_not_keep_the_claim(shared: SharedStore, anyio_backend: str) -> None:
    """The holder is killed while a child that it forked lives on: the claim is free."""
    with Child(anyio_backend, "claim_and_fork", shared.url, ALICE) as child:
        said, grandchild = (await anyio.to_thread.run_sync(child.line)).split()
        assert said == "ready"
        try:
            child.process.kill()
            child.process.wait(5)
            os.kill(int(grandchild), 0)  # it lives
            async with shared.claim(ALICE, patience=1):
                pass
        finally:
            os.kill(int(grandchild), signal.SIGKILL)


@pytest.mark.anyio
async def test_a_symbolic_link_makes_no_second_claim(
    shared: SharedStore, tmp_path: Path, anyio_backend: str
) -> None:
    """The same store under another path has the same claims."""
    await shared.save(session())
    if shared.url.startswith("file:"):
        (tmp_path / "link").symlink_to(tmp_path / "files")
    else:
        (tmp_path / "link").symlink_to(tmp_path / "db" / "sessions.sqlite")
    async with shared.claim(ALICE, patience=0):
        with Child(anyio_backend, "claim", str(tmp_path / "link"), ALICE) as child:
            assert await anyio.to_thread.run_sync(child.line) == "busy"


@pytest.mark.anyio
async def test_two_stores_of_one_process_exclude_each_other(opening_shared: Opener) -> None:
    """The kernel keeps apart what no queue of ours connects."""
    async with opening_shared() as one, opening_shared() as other, one.claim(ALICE, patience=0):
        with pytest.raises(LockBusy):
            async with other.claim(ALICE, patience=0.05):
                pass


@pytest.mark.anyio
async def test_queues_are_dropped(tmp_path: Path) -> None:
    """A million DIDs leave neither queues nor files behind."""
    locks = Locks(tmp_path / "run")
    for number in range(50):
        async with locks.claim(f"did:plc:{number}", 0):
            pass
    assert len(locks._queues) == 0
    assert {file.name for file in (tmp_path / "run" / "locks").iterdir()} == {"claims", "holders"}


def test_a_lock_file_that_can_not_be_closed_hides_no_outcome(tmp_path: Path) -> None:
    """An error of close(2) comes when all is done; whoever worked under the lock has nothing to do with it."""
    held = try_lock(tmp_path / "lock")
    assert held is not None
    os.close(held.fd)  # the next close of it fails, as on a failing disk
    held.release()
    with try_exclusive(tmp_path / "lock"):
        pass


@pytest.mark.anyio
async def test_no_lock_folder_no_claim(tmp_path: Path) -> None:
    """Whatever keeps us from locking is a StoreError: fail closed."""
    (tmp_path / "run").write_text("in the way")
    entered = False
    with pytest.raises(StoreError, match="lock folder"):
        async with Locks(tmp_path / "run").claim(ALICE, 0):
            entered = True
    assert not entered


@pytest.mark.anyio
async def test_a_lock_file_that_is_a_link_is_refused(tmp_path: Path) -> None:
    """Nobody makes us lock, or create, a file elsewhere."""
    (tmp_path / "run" / "locks").mkdir(parents=True)
    (tmp_path / "run" / "locks" / "claims").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(StoreError, match="symbolic link"):
        async with Locks(tmp_path / "run").claim(ALICE, 0):
            pass
    assert not (tmp_path / "elsewhere").exists()


@pytest.mark.slow
@pytest.mark.anyio
async def test_the_write_lock_has_a_deadline(shared: SharedStore) -> None:
    """A save behind a stuck process gives up after ten seconds with LockBusy, and works later."""
    await shared.save(session())
    assert shared.runtime_dir is not None
    stuck = try_lock(shared.runtime_dir / "locks" / "claims")
    assert stuck is not None
    with stuck:
        start = anyio.current_time()
        with pytest.raises(LockBusy):
            await shared.save(session(BOB))
        assert anyio.current_time() - start > 9
    await shared.save(session(BOB))


def test_threads_exclude_each_other(tmp_path: Path) -> None:
    """A lock taken in one thread is busy in another; POSIX locks would let it in."""
    held = try_lock(tmp_path / "lock", 5, 1)
    assert held is not None
    found: list[object] = []
    thread = threading.Thread(target=lambda: found.append(try_lock(tmp_path / "lock", 5, 1)))
    thread.start()
    thread.join()
    assert found == [None]
    other = try_lock(tmp_path / "lock", 6, 1)
    assert other is not None
    other.release()
    (tmp_path / "lock").read_bytes()  # closing another descriptor of the file frees nothing
    assert try_lock(tmp_path / "lock", 5, 1) is None
    held.release()
    held.release()
    again = try_lock(tmp_path / "lock", 5, 1)
    assert again is not None
    again.release()


def test_the_bytes_of_a_file_share_a_descriptor(tmp_path: Path) -> None:
    """However many claims a process holds, the file is open once; a removed one gives way to the new one."""
    path = tmp_path / "lock"
    locks = [try_lock(path, byte, 1) for byte in range(5)]
    assert None not in locks
    assert len({lock.fd for lock in locks if lock}) == 1
    path.unlink()
    again = try_lock(path, 0, 1)
    assert again is not None
    assert again.is_current()
    assert not any(lock.is_current() for lock in locks if lock)
    assert try_lock(path, 0, 1) is None
    for lock in (again, *locks):
        assert lock is not None
        lock.release()
    assert open_in(tmp_path) == []


def test_a_descriptor_is_not_inherited(tmp_path: Path) -> None:
    """Lock descriptors are close-on-exec."""
    with try_exclusive(tmp_path / "run" / "daemon.lock") as held:
        assert not os.get_inheritable(held.fd)


def test_an_exclusive_file_is_seen_and_freed(tmp_path: Path) -> None:
    """`is_held` tells without taking; a second `try_exclusive` raises at once."""
    path = tmp_path / "run" / "daemon.lock"
    assert not is_held(path)
    with try_exclusive(path):
        assert is_held(path)
        with pytest.raises(LockBusy):
            try_exclusive(path)
        assert is_held(path)
    assert not is_held(path)
    assert path.exists()
    assert path.parent.stat().st_mode & 0o777 == 0o700


@pytest.mark.parametrize(
    ("kind", "refused"),
    [
        ("nfs4", True),
        ("cifs", True),
        ("smb3", True),
        ("9p", True),
        ("fuse.sshfs", True),
        ("fuse.unheard-of", True),
        ("ceph", True),
        ("ext4", False),
        ("btrfs", False),
        ("fuse.gocryptfs", False),
    ],
)
def test_network_file_systems_are_refused(tmp_path: Path, kind: str, *, refused: bool) -> None:
    """The mount that holds the folder decides, also if its path has a space and others lie above it."""
    folder = tmp_path / "my store"
    folder.mkdir()
    table = tmp_path / "mountinfo"
    escaped = str(folder).replace(" ", "\\040")
    table.write_text(
        f"22 1 0:9991 / / rw - ext4 /dev/a rw\n36 22 0:9992 / {escaped} rw shared:1 - {kind} host:/x rw\n"
        f"37 22 0:9993 / {escaped}-more rw - nfs host:/y rw\n"
    )
    if refused:
        with pytest.raises(StoreError, match=kind):
            refuse_network_file_system(folder, table)
    else:
        refuse_network_file_system(folder, table)


def test_an_unreadable_mount_table_is_no_permission(tmp_path: Path) -> None:
    """If the file system can't be told, nothing is locked."""
    (tmp_path / "empty").write_text("")
    for table in (tmp_path / "missing", tmp_path / "empty"):
        with pytest.raises(StoreError, match="can't tell"):
            refuse_network_file_system(tmp_path, table)


@pytest.mark.anyio
async def test_this_machine_is_local(tmp_path: Path) -> None:
    """The real mount table lets a real folder pass."""
    async with open_store(f"{tmp_path}/") as store, store.claim(ALICE, patience=0):
        pass
