"""Finds out which process holds a lock, for messages.

A lock is owned by an open file description, and the kernel does not say which process that belongs to. So
each process that takes a lock also signs it: it takes a POSIX lock on the same byte of a second file, whose
owner ``F_GETLK`` returns (fcntl(2)). The sign keeps nobody out. The kernel frees it when the process dies, so
unlike a PID file it is never out of date. Holders that don't sign (older versions, SQLite) are searched for
in ``/proc``, which shows the processes of the same user, and all processes to root.

A process loses all its POSIX locks on a file when it closes *any* descriptor of it, so a process opens each
file of signs once and closes it with the last sign. A forked child inherits neither signs nor locks.
"""

import fcntl
import os
import struct
import threading
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from idiolectd.store.locks.ofd import flock

_SIGNS = "holders"

_PROC = Path("/proc")


@dataclass
class _HolderFile:
    """An open file of signs."""

    fd: int
    signs: int = 0


_guard = threading.RLock()  # this thread can fork in a signal handler: it must not wait for itself
_files: dict[Path, _HolderFile] = {}


@lru_cache(maxsize=64)
def _signs_beside(lock: Path) -> Path:
    return lock.with_name(_SIGNS)


def sign(lock: Path, byte: int) -> bool:
    """Signs a lock that this process holds on a byte of a file; call `unsign` before releasing the lock.

    Returns whether it succeeded. A lock without a sign is valid all the same.
    """
    path = _signs_beside(lock)
    with _guard, suppress(OSError):
        file = _files.get(path)
        if file is None:
            flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW
            file = _files[path] = _HolderFile(os.open(path, flags, 0o600))
        file.signs += 1
        with suppress(OSError):
            fcntl.fcntl(file.fd, fcntl.F_SETLK, flock(fcntl.F_WRLCK, byte, 1))
        return True
    return False


def unsign(lock: Path, byte: int) -> None:
    """Removes a sign, before the lock is released; once for each successful `sign`."""
    path = _signs_beside(lock)
    with _guard:
        file = _files.get(path)
        if file is None:
            return  # in a forked child
        file.signs -= 1
        with suppress(OSError):
            if file.signs:
                fcntl.fcntl(file.fd, fcntl.F_SETLK, flock(fcntl.F_UNLCK, byte, 1))
            else:
                del _files[path]
                os.close(file.fd)


def holder_of(path: Path, byte: int) -> str | None:
    """The other process that holds a lock on a byte of a file, for people: ``process 812 (python3)``.

    None: nobody does, this process itself does, or the system doesn't tell this user. Never raises, and
    never opens `path` itself: closing it would drop this process' own POSIX locks on it, and so SQLite's.

    Blocks for some milliseconds if the holder has not signed: call it from a worker thread.

    Args:
        path: the locked file. SQLite's writers in WAL mode hold byte 120 of its ``-shm`` file.
        byte: which byte of it.
    """
    pid = _signed(path, byte) or _seen(path, byte)
    return None if pid is None else _named(pid)


def signed_holder_of(path: Path, byte: int) -> str | None:
    """As `holder_of`, but finds only holders that signed, by one system call."""
    pid = _signed(path, byte)
    return None if pid is None else _named(pid)


def _signed(lock: Path, byte: int) -> int | None:
    path = _signs_beside(lock)
    with _guard:
        try:
            file = _files.get(path)
            fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW) if file is None else file.fd
            try:
                found = fcntl.fcntl(fd, fcntl.F_GETLK, flock(fcntl.F_WRLCK, byte, 1))
            finally:
                if file is None:
                    os.close(fd)
        except OSError:
            return None
    kind, _, _, _, pid = struct.unpack_from("hhqqi", found)
    # 0: in a pid namespace that this one doesn't see.
    return pid if kind != fcntl.F_UNLCK and pid > 0 else None


def _seen(path: Path, byte: int) -> int | None:
    with suppress(OSError):
        wanted = path.stat()
        for process in _PROC.iterdir():
            if process.name.isdecimal() and process.name != str(os.getpid()):
                for descriptor in _descriptors_on(process, wanted):
                    if _is_locked(process / "fdinfo" / descriptor, byte):
                        return int(process.name)
    return None


def _descriptors_on(process: Path, wanted: os.stat_result) -> Iterator[str]:
    with suppress(OSError):  # another user's, or gone
        for entry in (process / "fd").iterdir():
            with suppress(OSError):
                if os.path.samestat(entry.stat(), wanted):
                    yield entry.name


def _is_locked(fdinfo: Path, byte: int) -> bool:
    """Whether the process has locked the byte through this descriptor (proc_pid_fdinfo(5))."""
    with suppress(OSError):
        for line in fdinfo.read_text().splitlines():
            # lock:   1: OFDLCK ADVISORY  WRITE -1 fe:00:2295813 120 EOF
            words = line.split()
            if len(words) == 9 and words[0] == "lock:" and words[4] == "WRITE":
                first, last = words[7:]
                if int(first) <= byte and (last == "EOF" or byte <= int(last)):
                    return True
    return False


def _named(pid: int) -> str:
    # The program's name only: arguments of foreign programs may hold secrets.
    try:
        name = (_PROC / str(pid) / "comm").read_text().strip()
    except (OSError, UnicodeDecodeError):
        name = ""
    return f"process {pid} ({name})" if name.isprintable() and name else f"process {pid}"


def _forget_in_child() -> None:
    for file in _files.values():
        with suppress(OSError):
            os.close(file.fd)
    _files.clear()
    _guard.release()


os.register_at_fork(before=_guard.acquire, after_in_parent=_guard.release, after_in_child=_forget_in_child)
