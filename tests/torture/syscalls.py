"""System calls of Linux on x86-64: what they are called, and which file they are about."""

import os
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path


def words(text: str) -> frozenset[str]:
    """The names in a text."""
    return frozenset(text.split())


_NAMES = {
    0: "read", 1: "write", 3: "close", 5: "fstat", 7: "poll", 8: "lseek", 9: "mmap", 10: "mprotect",
    11: "munmap", 12: "brk", 13: "rt_sigaction", 14: "rt_sigprocmask", 16: "ioctl", 17: "pread64",
    18: "pwrite64", 20: "writev", 24: "sched_yield", 25: "mremap", 26: "msync", 28: "madvise", 32: "dup",
    35: "nanosleep", 39: "getpid", 41: "socket", 42: "connect", 44: "sendto", 45: "recvfrom",
    46: "sendmsg", 47: "recvmsg", 48: "shutdown", 51: "getsockname", 52: "getpeername", 53: "socketpair",
    54: "setsockopt", 55: "getsockopt", 56: "clone", 60: "exit", 72: "fcntl", 74: "fsync",
    75: "fdatasync", 76: "truncate", 77: "ftruncate", 79: "getcwd", 80: "chdir", 82: "rename",
    83: "mkdir", 84: "rmdir", 87: "unlink", 89: "readlink", 90: "chmod", 91: "fchmod", 93: "fchown",
    95: "umask", 102: "getuid", 107: "geteuid", 121: "getpgid", 131: "sigaltstack", 137: "statfs",
    138: "fstatfs", 186: "gettid", 202: "futex", 204: "sched_getaffinity", 217: "getdents64",
    228: "clock_gettime", 230: "clock_nanosleep", 231: "exit_group", 232: "epoll_wait",
    233: "epoll_ctl", 234: "tgkill", 257: "openat", 258: "mkdirat", 262: "newfstatat", 263: "unlinkat",
    264: "renameat", 268: "fchmodat", 269: "faccessat", 273: "set_robust_list", 281: "epoll_pwait",
    285: "fallocate", 290: "eventfd2", 291: "epoll_create1", 293: "pipe2", 302: "prlimit64",
    316: "renameat2", 318: "getrandom", 332: "statx", 334: "rseq", 435: "clone3", 439: "faccessat2",
    4: "stat", 6: "lstat", 21: "access", 2: "open", 73: "flock", 162: "sync", 306: "syncfs",
}  # fmt: skip

# Their first argument is a descriptor; the others' is a path, or a folder's descriptor and a path.
_BY_DESCRIPTOR = words(
    "read write close fstat lseek pread64 pwrite64 writev fsync fdatasync ftruncate fchmod fchown fcntl "
    "sendto recvfrom sendmsg recvmsg connect getdents64 ioctl shutdown setsockopt getsockopt fallocate "
    "fstatfs flock"
)
_BY_PATH = words("stat lstat access open mkdir rmdir unlink rename chmod truncate readlink statfs")
_BY_FOLDER = words(
    "openat mkdirat unlinkat renameat renameat2 newfstatat fchmodat faccessat faccessat2 statx"
)


def call_name(number: int) -> str:
    """The name of a call."""
    return _NAMES.get(number, f"syscall-{number}")


@dataclass(frozen=True)
class Call:
    """A system call that is about to be made.

    Attributes:
        number: its place in the sequence, from 0.
        tid: the thread.
        name: what it is called.
        args: its six arguments, as numbers.
    """

    number: int
    tid: int
    name: str
    args: tuple[int, ...]

    @property
    def path(self) -> str:
        """The file it is about; empty if it is about none."""
        if self.name in _BY_DESCRIPTOR:
            return self.descriptor_path(self.args[0])
        if self.name in _BY_PATH:
            return self.text(self.args[0])
        if self.name in _BY_FOLDER:
            return self._joined(self.args[0], self.args[1])
        return self.descriptor_path(self.args[4]) if self.name == "mmap" else ""

    @property
    def target(self) -> str:
        """The second path of a rename."""
        if self.name == "rename":
            return self.text(self.args[1])
        return self._joined(self.args[2], self.args[3])

    def descriptor_path(self, fd: int) -> str:
        """What a descriptor of the child leads to."""
        with suppress(OSError):
            return str(Path(f"/proc/{self.tid}/fd/{fd & 0xFFFFFFFF}").readlink())
        return ""

    def memory(self, address: int, length: int) -> bytes:
        """A piece of the child's memory."""
        with Path(f"/proc/{self.tid}/mem").open("rb", buffering=0) as memory:
            memory.seek(address)
            return memory.read(length)

    def text(self, address: int) -> str:
        """A C string of the child's."""
        found = bytearray()
        while b"\0" not in found and len(found) < 4096:
            # Up to the end of the page: the next one may not be there.
            found += self.memory(address + len(found), 4096 - (address + len(found)) % 4096)
        return os.fsdecode(bytes(found.partition(b"\0")[0]))

    def _joined(self, folder: int, path: int) -> str:
        text = self.text(path)
        if text.startswith("/") or folder & 0xFFFFFFFF == 0xFFFFFF9C:  # AT_FDCWD
            return text
        return f"{self.descriptor_path(folder)}/{text}" if text else self.descriptor_path(folder)
