"""What may be on a disk after the current failed: every state that the recorded calls allow.

The rules (those of ALICE, Pillai et al., OSDI 2014, for a file system that promises no more than POSIX):

* What was done to a file's content, or to a folder's entries, before an fsync of that file or folder
  returned, is there.
* Of what was done since, any part may be there: of a file's writes each beginning, its last write by
  halves, or only its new length with nothing in it; of a folder's entries each selection.
* Files and folders know nothing of each other: a rename may be there before the content of the file
  that it names.
* What was done before an fsync that failed may be there or not, whatever is synced later.
* A rename is done or not done. A folder that is not there takes along what is in it.
"""

import itertools
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self

from tests.torture.recording import Cut, Moved, Operation, Put, Removed, Synced, SyncFailed, Written

ROOT = 0

# More states than that at one moment are not tried one by one; a commit has a few dozen.
_MOST = 20_000


@dataclass(frozen=True)
class Image:
    """The content of a disk: paths below the root; None: a folder."""

    files: tuple[tuple[str, bytes | None], ...]

    def write_to(self, root: Path) -> None:
        """Makes it real in an empty folder."""
        for name, content in self.files:
            path = root / name
            if content is None:
                path.mkdir()
            else:
                path.write_bytes(content)


@dataclass(frozen=True)
class _Version:
    """What may be in a file or folder."""

    content: bytes = b""
    entries: tuple[tuple[str, int], ...] = ()


@dataclass
class _Node:
    """A file or folder: what was there at the last sync (one of these), and what was done since."""

    bases: list[_Version]
    is_folder: bool
    since: list[Operation] = field(default_factory=list)


class Disk:
    """Follows the recorded operations.

    Args:
        nodes: what was there at the start.
    """

    def __init__(self, nodes: Mapping[int, _Node]) -> None:
        self._nodes = dict(nodes)

    @classmethod
    def holding(cls, root: Path, numbers: Mapping[str, int]) -> Self:
        """A disk that holds a folder as it is now; `numbers` are a recorder's."""
        assert numbers[str(root)] == ROOT
        nodes: dict[int, _Node] = {}
        for path, number in numbers.items():
            found = Path(path)
            within = [other for other in numbers if Path(other).parent == found]
            version = _Version(
                content=found.read_bytes() if found.is_file() else b"",
                entries=tuple((Path(other).name, numbers[other]) for other in within),
            )
            nodes[number] = _Node([version], is_folder=not found.is_file())
        return cls(nodes)

    def apply(self, operation: Operation) -> None:
        """Does one operation."""
        match operation:
            case Synced(node):
                found = self._nodes[node]
                found.bases = _different(_after(base, found.since) for base in found.bases)
                found.since = []
            case SyncFailed(node):
                found = self._nodes[node]
                found.bases = list(_versions(found))
                found.since = []
            case Written(node) | Cut(node):
                self._nodes[node].since.append(operation)
            case Put(folder, _, node, is_folder):
                self._nodes[node] = _Node([_Version()], is_folder)
                self._nodes[folder].since.append(operation)
            case Moved(folder) | Removed(folder):
                self._nodes[folder].since.append(operation)

    def dirty(self, *, but: Sequence[int] = ()) -> list[int]:
        """The files and folders with something that need not be on the disk."""
        return [number for number, node in self._nodes.items() if node.since and number not in but]

    def images(self) -> Iterator[Image]:
        """Every state that may be found after a power cut now."""
        choices = [
            [(number, version) for version in _versions(node)] for number, node in sorted(self._nodes.items())
        ]
        seen: set[Image] = set()
        for picked in itertools.islice(itertools.product(*choices), _MOST):
            image = self._image(dict(picked))
            if image not in seen:
                seen.add(image)
                yield image

    def _image(self, picked: Mapping[int, _Version]) -> Image:
        found: list[tuple[str, bytes | None]] = []

        def walk(number: int, prefix: str) -> None:
            for name, node in sorted(picked[number].entries):
                is_folder = self._nodes[node].is_folder
                found.append((prefix + name, None if is_folder else picked[node].content))
                if is_folder:
                    walk(node, f"{prefix}{name}/")

        walk(ROOT, "")
        return Image(tuple(found))


def _versions(node: _Node) -> list[_Version]:
    return _different(version for base in node.bases for version in _partly(base, node))


def _partly(base: _Version, node: _Node) -> Iterator[_Version]:
    """What may be there of what was done since."""
    since = node.since
    if node.is_folder:
        for chosen in itertools.product((False, True), repeat=len(since)):
            yield _after(
                base, [operation for operation, is_done in zip(since, chosen, strict=True) if is_done]
            )
        return
    yield base
    for number, last in enumerate(since):
        before = _after(base, since[:number])
        whole = _after(before, [last])
        yield whole
        if isinstance(last, Written):
            half = Written(last.node, last.offset, last.data[: len(last.data) // 2])
            yield _after(before, [half])
            yield _Version(before.content[: last.offset].ljust(len(whole.content), b"\0"))


def _after(version: _Version, operations: Sequence[Operation]) -> _Version:
    content, entries = version.content, dict(version.entries)
    for operation in operations:
        match operation:
            case Written(_, offset, data):
                content = content.ljust(offset, b"\0")
                content = content[:offset] + data + content[offset + len(data) :]
            case Cut(_, size):
                content = content[:size].ljust(size, b"\0")
            case Put(_, name, node, _):
                entries[name] = node
            case Moved(_, old, name, node):
                if entries.get(old) == node:
                    del entries[old]
                entries[name] = node
            case Removed(_, name):
                entries.pop(name, None)
    return _Version(content, tuple(sorted(entries.items())))


def _different(versions: Iterable[_Version]) -> list[_Version]:
    return list(dict.fromkeys(versions))
