"""What a planted bug is, and how it gets into a copy of the package."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

# Names, numbers, and every other character by itself; between two of them a line may be broken, which adds
# a comma before a closing bracket, or brackets around the whole.
_PART = re.compile(r"\w+|[^\w\s]")
_BREAK = r"\s*,?\s*"


class MisfitError(Exception):
    """The plant no longer fits the code: somebody changed the lines that it edits. Mend the plant."""


@dataclass(frozen=True)
class Edit:
    """One replacement in the package.

    Attributes:
        room: a module or a package below ``idiolectd``, as ``store/durable``: a module that is split
            into a package keeps its plants.
        old: the exact text, found there exactly once.
        new: what stands there instead.
    """

    room: str
    old: str
    new: str


@dataclass(frozen=True)
class Plant:
    """One bug.

    Attributes:
        name: for the table.
        promise: which of the eleven it breaks.
        breaks: what is no longer true, in words.
        edits: how it gets into the code; all of them, or none.
        caught_by: the tests of which one must fail, by node id.
        short: whether the short version tries it: it is among the most important, and quick.
    """

    name: str
    promise: int
    breaks: str
    edits: tuple[Edit, ...]
    caught_by: tuple[str, ...]
    short: bool = False


def plant_into(package: Path, edits: Sequence[Edit]) -> dict[Path, str]:
    """Makes the edits; returns what the files held before.

    Args:
        package: the copy's ``idiolectd`` folder.
        edits: made in this order, so that a later one may stand on an earlier one.

    Raises:
        MisfitError: the old text of one is not found exactly once. Nothing is changed then.
    """
    before: dict[Path, str] = {}
    after: dict[Path, str] = {}
    for edit in edits:
        found = []
        for path in _files(package / edit.room):
            text = after[path] if path in after else path.read_text()
            before.setdefault(path, text)
            found += [(path, text, match) for match in _loosely(edit.old).finditer(text)]
        if len(found) != 1:
            raise MisfitError(f"{edit.room}: found {len(found)} times instead of once: {edit.old!r}")
        ((path, text, match),) = found
        after[path] = text[: match.start()] + edit.new + text[match.end() :]
    for path, text in after.items():
        compile(text, str(path), "exec")
        path.write_text(text)
    return {path: before[path] for path in after}


def _loosely(code: str) -> re.Pattern[str]:
    """Finds a piece of code however its lines are broken: the formatter moves those when a name grows."""
    parts = [re.escape(part) for part in _PART.findall(code)]
    lead = re.match(r"\s*", code)
    tail = re.search(r"\s*$", code)
    return re.compile(
        re.escape(lead[0] if lead else "") + _BREAK.join(parts) + re.escape(tail[0] if tail else "")
    )


def take_out(before: dict[Path, str]) -> None:
    """Puts back what `plant_into` replaced."""
    for path, text in before.items():
        path.write_text(text)


def _files(room: Path) -> list[Path]:
    module = room.with_name(room.name + ".py")
    return [module] if module.exists() else sorted(room.rglob("*.py"))
