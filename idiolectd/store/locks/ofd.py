"""Kernel locks on byte ranges of a file, owned by an open file description.

Open file description locks (`F_OFD_SETLK`, fcntl(2)): the kernel frees them when the last descriptor
of the description is closed, so also when the process dies. POSIX `lockf` would drop its lock when anybody
in the process closes the file.

The single bytes of a file that this process holds share one description, because opening a file costs more
than locking it; it is closed with the last of them. The kernel lets one description lock a byte twice, so
which bytes are held is written down here, and other tasks and threads of this process are excluded too. Whoever
waits for a byte, or takes a whole file, has a description of his own.

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

# The descriptions of single bytes. One whose file was removed gives way to that of the new file.
_shared: dict[Path, "_Description"] = {}

# The lock files that are being opened now: at most one, and only a signal handler finds it here.
_opening: list[Path] = []


class _Description:
    """An open lock file. Everything is done under `_guard`.

    Attributes:
        fd: its descriptor.
        held: the first bytes of what is locked through it.
    """

    def __init__(self, path: Path) -> None:
        flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW
        self.fd = os.open(path, flags, 0o600)
        self._path = path
        self._file = os.fstat(self.fd)
        self.held: set[int] = set()

    def is_at_its_path(self) -> bool:
        """Whether others who open the path get this file."""
        try:
            return os.path.samestat(self._file, self._path.lstat())
        except OSError:
            return False

    def lock(self, kind: int, start: int, length: int) -> None:
        """Takes or frees a range, without waiting."""
        fcntl.fcntl(self.fd, fcntl.F_OFD_SETLK, flock(kind, start, length))

    def close_if_unused(self) -> None:
        """Closes it if nothing is locked through it any more."""
        if not self.held:
            if _shared.get(self._path) is self:
                del _shared[self._path]
            os.close(self.fd)


class HeldLock:
    """A lock that is held until `release`, or until the process ends."""

    def __init__(self, description: _Description, start: int, length: int) -> None:
        self._description = description
        self._start = start
        self._length = length
        description.held.add(start)
        _held.add(self)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.release()

    @property
    def fd(self) -> int:
        """The descriptor that it is held by, perhaps together with others."""
        return self._description.fd

    def is_current(self) -> bool:
        """Whether the locked file is the one at its path; else others can lock another one there."""
        return self._description.is_at_its_path()

    def release(self) -> None:
        """Frees the lock. Harmless when repeated, and in a forked child."""
        with _guard:
            if self not in _held:
                return
            _held.discard(self)
            self._description.held.discard(self._start)
            # An I/O error here must not replace the result of the work under the lock. Linux frees the
            # descriptor, and with it the lock, whatever close(2) returns.
            with contextlib.suppress(OSError):
                # Unlocked also where the description is closed: a copy of the descriptor in a child that C
                # code forked, without Python's handlers, would otherwise keep the lock.
                self._description.lock(fcntl.F_UNLCK, self._start, self._length)
            with contextlib.suppress(OSError):
                self._description.close_if_unused()


def try_lock(path: Path, start: int = 0, length: int = 0, *, has_turn: bool = False) -> HeldLock | None:
    """Takes an exclusive lock on a range of a file; None if somebody else holds a part of it.

    Args:
        path: the lock file; made if it is missing.
        start: the first byte; the file need not be that long.
        length: how many bytes; 0: all that follow.
        has_turn: None is returned also if the byte that follows is held, because its holder waits for the lock;
            see `wait_lock`.

    Raises:
        OSError: the state of the lock is unknown. The caller must not go on without it.
    """
    with _guard, _entered_as_opening(path):
        while True:
            description = _shared.get(path) if length == 1 else None
            if description is None:
                description = _Description(path)
                if length == 1:
                    _shared[path] = description
            elif start in description.held:
                if description.is_at_its_path():
                    return None
                del _shared[path]  # held on a file that is gone: on the new one it may be free
                continue
            is_locked = False
            try:
                is_locked = _lock_now(description, start, length, has_turn=has_turn)
            finally:
                if not is_locked:
                    description.close_if_unused()
            if not is_locked:
                return None
            held = HeldLock(description, start, length)
            if held.is_current():
                return held
            # Removed since it was opened: the next process would lock another file.
            _shared.pop(path, None)
            held.release()


def _lock_now(description: _Description, start: int, length: int, *, has_turn: bool) -> bool:
    try:
        # Both bytes by one call: whoever takes the lock has had the turn.
        description.lock(fcntl.F_WRLCK, start, length + 1 if has_turn else length)
        if has_turn:
            description.lock(fcntl.F_UNLCK, start + length, 1)
    except OSError as error:
        if error.errno in (errno.EAGAIN, errno.EACCES):
            return False
        with contextlib.suppress(OSError):
            description.lock(fcntl.F_UNLCK, start, length + 1 if has_turn else length)
        raise
    return True


@contextlib.contextmanager
def _entered_as_opening(path: Path) -> Iterator[None]:
    _opening.append(path)
    try:
        yield
    finally:
        if path in _opening:  # not in a forked child
            _opening.remove(path)


def wait_lock(path: Path, start: int, *, has_turn: bool = False) -> HeldLock:
    """Takes an exclusive lock on one byte of a file, however long that takes; can't be interrupted.

    The kernel wakes waiters in the order in which they asked. But a process that asks while the lock is free
    gets it before a waiter that is just being woken, and a busy process asks all the time. So with `has_turn` a
    process first takes the byte that follows, and only the holder of that byte waits for the lock.

    Args:
        path: the lock file; made if it is missing.
        start: the byte.
        has_turn: the byte that follows is held while waiting for this one.

    Raises:
        OSError: the state of the lock is unknown. The caller must not go on without it.
    """
    while True:
        with _guard, _entered_as_opening(path):
            # Not held yet; but a forked child must not go on waiting with it.
            held = HeldLock(_Description(path), start, 1)
        try:
            if has_turn:
                fcntl.fcntl(held.fd, fcntl.F_OFD_SETLKW, flock(fcntl.F_WRLCK, start + 1, 1))
            fcntl.fcntl(held.fd, fcntl.F_OFD_SETLKW, flock(fcntl.F_WRLCK, start, 1))
            if has_turn:
                fcntl.fcntl(held.fd, fcntl.F_OFD_SETLK, flock(fcntl.F_UNLCK, start + 1, 1))
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
    for fd in {lock.fd for lock in _held}:
        os.close(fd)
    _held.clear()
    _shared.clear()
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
