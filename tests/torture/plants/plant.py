"""What a planted bug is, and how it gets into a copy of the package."""

import ast
import io
import re
import tokenize
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

# Code is compared by these parts: names, numbers, and every other character by itself, in strings too.
_PART = re.compile(r"\w+|[^\w\s]")
_CLOSING = frozenset(")]}")


class MisfitError(Exception):
    """The plant no longer fits the code: somebody changed what it edits. Mend the plant."""


@dataclass(frozen=True)
class Edit:
    """One replacement in the package.

    Attributes:
        room: a module or a package below ``idiolectd``, as ``store``. What moves from one module of a
            package to another keeps its plants.
        where: the function or class whose source is searched, by its qualified name, as
            ``RefreshEngine.refresh``; decorators belong to it. Empty: all of the module.
        old: a piece of its code, found there exactly once, however its lines are broken and commented.
        new: what stands there instead. Further lines of it are indented as the line in which the old
            piece begins.
    """

    room: str
    where: str
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


@dataclass(frozen=True)
class _Part:
    """A part of code, and its place in the file, in characters from the start."""

    text: str
    start: int
    end: int


def plant_into(package: Path, edits: Sequence[Edit]) -> dict[Path, str]:
    """Makes the edits; returns what the files held before.

    Args:
        package: the copy's ``idiolectd`` folder.
        edits: made in this order, so that a later one may stand on an earlier one.

    Raises:
        MisfitError: the old code of one is not found exactly once, or the new code does not compile.
            Nothing is changed then.
    """
    before: dict[Path, str] = {}
    after: dict[Path, str] = {}
    for edit in edits:
        found = []
        for path in _files(package / edit.room):
            text = after[path] if path in after else path.read_text()
            before.setdefault(path, text)
            found += [(path, text, start, end) for start, end in _places(text, edit.where, edit.old)]
        if len(found) != 1:
            raise MisfitError(
                f"{edit.room}: {edit.where or 'module'}: found {len(found)} times instead of once: {edit.old!r}"
            )
        ((path, text, start, end),) = found
        after[path] = text[:start] + _indented(edit.new, text, start) + text[end:]
    for path, text in after.items():
        try:
            compile(text, str(path), "exec")
        except SyntaxError as error:
            raise MisfitError(f"{path.name} does not compile with the bug: {error}") from None
    for path, text in after.items():
        path.write_text(text)
    return {path: before[path] for path in after}


def take_out(before: dict[Path, str]) -> None:
    """Puts back what `plant_into` replaced."""
    for path, text in before.items():
        path.write_text(text)


def _files(room: Path) -> list[Path]:
    module = room.with_name(room.name + ".py")
    return [module] if module.exists() else sorted(room.rglob("*.py"))


def _places(text: str, where: str, old: str) -> Iterator[tuple[int, int]]:
    """Where the piece begins and ends, each time that it stands in the source of the function."""
    wanted = [part.text for part in _without_last_commas(_parts_of(old, 0))]
    for start, end in _scopes(text, where):
        parts = _parts_without_comments(text[start:end])
        for at in range(len(parts) - len(wanted) + 1):
            if all(parts[at + n].text == name for n, name in enumerate(wanted)):
                yield start + parts[at].start, start + parts[at + len(wanted) - 1].end


@lru_cache(maxsize=256)
def _parts_without_comments(code: str) -> list[_Part]:
    """The parts of whole lines."""
    starts = _starts_of_lines(code)
    found: list[_Part] = []
    for token in tokenize.generate_tokens(io.StringIO(code).readline):
        if token.type != tokenize.COMMENT:
            row, column = token.start
            found += _parts_of(token.string, starts[row - 1] + column)
    return _without_last_commas(found)


def _parts_of(code: str, start: int) -> list[_Part]:
    return [_Part(match[0], start + match.start(), start + match.end()) for match in _PART.finditer(code)]


def _without_last_commas(parts: Sequence[_Part]) -> list[_Part]:
    """Leaves out commas before a closing bracket: the formatter adds them where it breaks a line."""
    following = [*(part.text for part in parts[1:]), ""]
    return (
        [
            part
            for part, after in zip(parts, following, strict=True)
            if not (part.text == "," and after in _CLOSING)
        ]
        if parts
        else []
    )


def _starts_of_lines(text: str) -> list[int]:
    """Where each line starts, and where the text ends."""
    starts = [0]
    for line in io.StringIO(text):
        starts.append(starts[-1] + len(line))
    return starts


def _scopes(text: str, where: str) -> list[tuple[int, int]]:
    """From where to where each definition with that name goes, in whole lines."""
    if not where:
        return [(0, len(text))]
    return [(start, end) for name, start, end in _definitions(text) if name == where]


@lru_cache(maxsize=256)
def _definitions(text: str) -> list[tuple[str, int, int]]:
    """All functions and classes of a module by their qualified names, and from where to where they go."""
    starts = _starts_of_lines(text)
    found: list[tuple[str, int, int]] = []

    def look_into(node: ast.AST, outside: str) -> None:
        for child in ast.iter_child_nodes(node):
            name = outside
            if isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
                name = f"{outside}.{child.name}" if outside else child.name
                first = min([child.lineno, *(decorator.lineno for decorator in child.decorator_list)])
                found.append((name, starts[first - 1], starts[child.end_lineno or first]))
            if isinstance(child, ast.stmt | ast.excepthandler | ast.match_case):
                look_into(child, name)

    try:
        look_into(ast.parse(text), "")
    except SyntaxError as error:
        raise MisfitError(f"an edit before this one does not compile: {error}") from None
    return found


def _indented(new: str, text: str, start: int) -> str:
    line = text[text.rfind("\n", 0, start) + 1 : start]
    indent = line[: len(line) - len(line.lstrip())]
    return new.replace("\n", "\n" + indent)
