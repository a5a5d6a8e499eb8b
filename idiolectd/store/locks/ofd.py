"""Kernel locks on byte ranges of a file, owned by an open file description.

Open file description locks (`F_OFD_SETLK`, fcntl(2)): the kernel frees them when the last descriptor
of the description is closed, so also when the process dies. Each acquisition opens the file anew,
and therefore excludes other tasks and threads of this process too. POSIX `lockf` would not, and it
drops its lock when anybody in the process closes the file.

Rules: lock files are never unlinked by us, or two processes could lock two files of one name. Where
somebody else removes one, a lock on it keeps nobody out any more: a lock is only taken on the file that
is at its path, and `HeldLock.is_current` tells whether it still is. Descriptors are close-on-exec, and a
forked child closes them: it would keep the lock when its parent dies.
"""

import contextlib
import errno
import fcntl
import os
import struct
import threading
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Self

from idiolectd.errors import LockBusy
from idiolectd.store.durable import make_private_folder
from idiolectd.store.error_translation import translated

# struct flock: l_type, l_whence, l_start, l_len, l_pid (must be 0). "0q": padded as the C struct is.
_FLOCK = "hhqqi0q"

# Between opening a lock file and entering it here, no other thread may fork. This thread can, in a signal
# handler: it must not wait for itself, and closes in the child what was not entered yet.
_guard = threading.RLock()
_held: set["HeldLock"] = set()

# The lock files that are being opened now: at most one, and only a signal handler finds it here.
_opening: list[Path] = []


class HeldLock:
    """A lock that is held until `release`, or until the process ends."""

    def __init__(self, fd: int, path: Path) -> None:
        self._fd = fd
        self._path = path

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.release()

    def is_current(self) -> bool:
        """Whether the locked file is the one at its path; else others can lock another one there."""
        return _is_at(self._path, self._fd)

    def release(self) -> None:
        """Frees the lock. Harmless when repeated, and in a forked child."""
        with _guard:
            if self not in _held:
                return
            _held.discard(self)
            # An I/O error here must not replace the result of the work under the lock. Linux frees the
            # descriptor, and with it the lock, whatever close(2) returns.
            with contextlib.suppress(OSError):
                # Unlocked explicitly: a copy of the descriptor in a child that C code forked, without
                # Python's handlers, would otherwise keep the lock.
                fcntl.fcntl(self._fd, fcntl.F_OFD_SETLK, flock(fcntl.F_UNLCK, 0, 0))
            with contextlib.suppress(OSError):
                os.close(self._fd)


def try_lock(path: Path, start: int = 0, length: int = 0, *, turn: int | None = None) -> HeldLock | None:
    """Takes an exclusive lock on a range of a file; None if somebody else holds a part of it.

    Args:
        path: the lock file; made if it is missing.
        start: the first byte; the file need not be that long.
        length: how many bytes; 0: all that follow.
        turn: another byte; None is returned also if it is held, because its holder waits for the lock; see
            `wait_lock`.

    Raises:
        OSError: the state of the lock is unknown. The caller must not go on without it.
    """
    with _guard, _entered_as_opening(path):
        while True:
            fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
            try:
                if turn is not None:
                    fcntl.fcntl(fd, fcntl.F_OFD_SETLK, flock(fcntl.F_WRLCK, turn, 1))
                fcntl.fcntl(fd, fcntl.F_OFD_SETLK, flock(fcntl.F_WRLCK, start, length))
                if turn is not None:
                    fcntl.fcntl(fd, fcntl.F_OFD_SETLK, flock(fcntl.F_UNLCK, turn, 1))
            except OSError as error:
                os.close(fd)  # and frees the turn, if that was had
                if error.errno in (errno.EAGAIN, errno.EACCES):
                    return None
                raise
            if _is_at(path, fd):
                break
            os.close(fd)  # removed between the two calls: the next process would lock another file
        held = HeldLock(fd, path)
        _held.add(held)
        return held


@contextlib.contextmanager
def _entered_as_opening(path: Path) -> Iterator[None]:
    _opening.append(path)
    try:
        yield
    finally:
        if path in _opening:  # not in a forked child
            _opening.remove(path)


def wait_lock(path: Path, start: int, *, turn: int | None = None) -> HeldLock:
    """Takes an exclusive lock on one byte of a file, however long that takes; can't be interrupted.

    The kernel wakes waiters in the order in which they asked. But a process that asks while the lock is free
    gets it before a waiter that is just being woken, and a busy process asks all the time. So with `turn` a
    process first takes that byte, and only the holder of that byte waits for the lock.

    Args:
        path: the lock file; made if it is missing.
        start: the byte.
        turn: another byte that is held while waiting for this one.

    Raises:
        OSError: the state of the lock is unknown. The caller must not go on without it.
    """
    while True:
        with _guard, _entered_as_opening(path):
            fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
            held = HeldLock(fd, path)
            _held.add(held)  # not yet; but a forked child must not go on waiting with it
        try:
            if turn is not None:
                fcntl.fcntl(fd, fcntl.F_OFD_SETLKW, flock(fcntl.F_WRLCK, turn, 1))
            fcntl.fcntl(fd, fcntl.F_OFD_SETLKW, flock(fcntl.F_WRLCK, start, 1))
            if turn is not None:
                fcntl.fcntl(fd, fcntl.F_OFD_SETLK, flock(fcntl.F_UNLCK, turn, 1))
            if held.is_current():
                return held
        except BaseException:
            held.release()
            raise
        held.release()


def try_exclusive(path: Path) -> HeldLock:
    """Locks a whole file without waiting; makes its private folder if that is missing.

    Raises:
        LockBusy: another process, or another part of this one, holds it.
        StoreError: it can't be locked.
    """
    with translated(f"can't lock {path}"):
        make_private_folder(path.parent)
        held = try_lock(path)
    if held is None:
        raise LockBusy(f"{path} is locked by another process")
    return held


def is_held(path: Path, byte: int | None = None) -> bool:
    """Whether a lock file, or a byte of it, is locked now; takes no lock itself.

    False also if this user may not open the file.

    Raises:
        StoreError: it can't be told.
    """
    wanted = flock(fcntl.F_WRLCK, byte or 0, 0 if byte is None else 1)
    with translated(f"can't look at {path}"):
        try:
            fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
        except (FileNotFoundError, PermissionError):
            return False
        try:
            found = fcntl.fcntl(fd, fcntl.F_OFD_GETLK, wanted)
        finally:
            os.close(fd)
    return bool(struct.unpack(_FLOCK, found)[0] != fcntl.F_UNLCK)


def _is_at(path: Path, fd: int) -> bool:
    try:
        return os.path.samestat(os.fstat(fd), path.lstat())
    except OSError:
        return False


def flock(kind: int, start: int, length: int) -> bytes:
    """The ``struct flock`` for fcntl(2): a lock of this kind on this range; length 0: all that follows."""
    return struct.pack(_FLOCK, kind, os.SEEK_SET, start, length, 0)


def _close_in_child() -> None:
    for lock in _held:
        os.close(lock._fd)  # noqa: SLF001 (this module's own class)
    _held.clear()
    if _opening:
        _close_descriptors_of(_opening)
        _opening.clear()
    _guard.release()


def _close_descriptors_of(paths: Collection[Path]) -> None:
    """Closes this process's descriptors of files, whoever opened them."""
    for path in paths:
        for entry in Path("/proc/self/fd").iterdir():
            if _is_at(path, int(entry.name)):
                os.close(int(entry.name))


os.register_at_fork(before=_guard.acquire, after_in_parent=_guard.release, after_in_child=_close_in_child)
