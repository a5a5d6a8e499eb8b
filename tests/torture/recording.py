"""Writes down what a process does to the files of a store, call by call, for `disk` to replay.

Files and folders get numbers when they are first seen, because inode numbers are used again. What is
mapped into memory (SQLite's shared-memory file) is not seen; nothing durable is kept there.
"""

import errno
import os
from dataclasses import dataclass
from pathlib import Path

from tests.torture import tracer
from tests.torture.syscalls import Call, words


@dataclass(frozen=True)
class Put:
    """A folder got an entry; it takes the place of an older one of that name."""

    folder: int
    name: str
    node: int
    is_folder: bool


@dataclass(frozen=True)
class Moved:
    """An entry got another name in the same folder, in one step."""

    folder: int
    old: str
    name: str
    node: int


@dataclass(frozen=True)
class Removed:
    """A folder lost an entry."""

    folder: int
    name: str


@dataclass(frozen=True)
class Written:
    """A file got content."""

    node: int
    offset: int
    data: bytes


@dataclass(frozen=True)
class Cut:
    """A file got another length."""

    node: int
    size: int


@dataclass(frozen=True)
class Synced:
    """A file's content, or a folder's entries, are on the disk."""

    node: int


@dataclass(frozen=True)
class SyncFailed:
    """The same was tried. What it was to bring there may be forgotten, and no later sync brings it."""

    node: int


Operation = Put | Moved | Removed | Written | Cut | Synced | SyncFailed


@dataclass
class Open:
    """An open file and where the next write goes."""

    node: int
    position: int = 0


_WATCHED = words(
    "openat open close write pwrite64 writev fsync fdatasync ftruncate truncate fallocate rename renameat renameat2 "
    "unlink unlinkat mkdir mkdirat rmdir lseek"
)
_UNKNOWN = words("writev truncate fallocate rmdir")


class Recorder:
    """Records one traced run.

    Args:
        root: the folder; what is in it already counts as durable.
        failing: the number of the one sync that fails, from 0; None: none does.

    Attributes:
        operations: what was done, in order.
        syncs: how many calls to sync there were.
        sent: for each time that bytes went to a server, how many operations had been done.
        nodes: the number of each path as it was at the start; the root is 0.
        names: the name that each number had last, for messages.
    """

    def __init__(self, root: Path, failing: int | None = None) -> None:
        self._root = str(root)
        self._failing = failing
        self.syncs = 0
        paths = [root, *sorted(root.rglob("*"))] if root.exists() else [root]
        self.nodes = {str(path): number for number, path in enumerate(paths)}
        self.operations: list[Operation] = []
        self.sent: list[int] = []
        self.names = {number: Path(path).name for path, number in self.nodes.items()}
        self._now = dict(self.nodes)
        self._open: dict[int, Open] = {}
        self._sockets: set[str] = set()
        self._pending: dict[int, tuple[str, str, bytes]] = {}

    def on_call(self, call: Call) -> tracer.Action:
        """Notes what only can be seen before the call is done."""
        if call.name == "connect":
            self._sockets.add(call.path)
        elif call.name in ("sendto", "sendmsg") and call.path in self._sockets:
            self.sent.append(len(self.operations))
        if call.name in _WATCHED and self._is_ours(call.path):
            target = call.target if call.name.startswith("rename") else ""
            data = call.memory(call.args[1], call.args[2]) if call.name in ("write", "pwrite64") else b""
            self._pending[call.tid] = (call.path, target, data)
            if call.name in ("fsync", "fdatasync"):
                self.syncs += 1
                return tracer.Fail(errno.EIO) if self.syncs - 1 == self._failing else None
        return None

    def on_done(self, call: Call, result: int) -> None:
        """Notes what was done."""
        path, target, data = self._pending.pop(call.tid, ("", "", b""))
        if path and result < 0 and call.name in ("fsync", "fdatasync"):
            self.operations.append(SyncFailed(self._open[call.args[0]].node))
        if not path or result < 0:
            return
        if call.name in _UNKNOWN:
            raise NotImplementedError(f"{call.name} of {path}: the disk's model does not know it")
        self._done(call, result, path, target, data)

    def _done(self, call: Call, result: int, path: str, target: str, data: bytes) -> None:
        match call.name:
            case "openat" | "open":
                flags = call.args[2 if call.name == "openat" else 1]
                if path not in self._now:
                    self._put(path, is_folder=False)
                if flags & os.O_TRUNC:
                    self.operations.append(Cut(self._now[path], 0))
                self._open[result] = Open(self._now[path])
            case "close":
                self._open.pop(call.args[0], None)
            case "write":
                file = self._open[call.args[0]]
                self.operations.append(Written(file.node, file.position, data[:result]))
                file.position += result
            case "pwrite64":
                node = self._open[call.args[0]].node
                self.operations.append(Written(node, call.args[3], data[:result]))
            case "lseek":
                if call.args[0] in self._open:
                    self._open[call.args[0]].position = result
            case "ftruncate":
                self.operations.append(Cut(self._open[call.args[0]].node, call.args[1]))
            case "fsync" | "fdatasync":
                self.operations.append(Synced(self._open[call.args[0]].node))
            case "mkdir" | "mkdirat":
                self._put(path, is_folder=True)
            case "unlink" | "unlinkat":
                folder, name = self._place(path)
                del self._now[path]
                self.operations.append(Removed(folder, name))
            case _:
                self._move(path, target)

    def _put(self, path: str, *, is_folder: bool) -> None:
        folder, name = self._place(path)
        node = len(self.names)
        self._now[path] = node
        self.names[node] = name
        self.operations.append(Put(folder, name, node, is_folder))

    def _move(self, path: str, target: str) -> None:
        (folder, old), (other, name) = self._place(path), self._place(target)
        if folder != other:
            raise NotImplementedError("the disk's model knows no renames between folders")
        node = self._now.pop(path)
        self._now[target] = node
        self.names[node] = name
        self.operations.append(Moved(folder, old, name, node))

    def _place(self, path: str) -> tuple[int, str]:
        parent, _, name = path.rpartition("/")
        return self._now[parent], name

    def _is_ours(self, path: str) -> bool:
        return path == self._root or path.startswith(self._root + "/")
