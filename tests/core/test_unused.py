"""Nothing is offered that nobody uses: the source is read for it."""

import ast
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path

ROOT = Path(__file__).parents[2]

# Interfaces of others: idiolect-oauth's names, and what httpx, anyio, click and structlog call by themselves.
_CALLED_FROM_OUTSIDE = {
    *("SessionAuth", "load_session", "refresh_if_needed", "is_expired", "needs_refresh", "refresh_expired"),
    "remove_record",  # what a foreign program does to a store, for the one in memory
    *("sync_auth_flow", "async_auth_flow", "format_epilog", "list_commands", "debug", "info", "warning"),
    *("extra_attributes", "send_eof"),
}

# Rooms that are there for other people's programs.
_FOR_PROGRAMS = (ROOT / "idiolectd/adapters", ROOT / "idiolectd/testing")


@cache
def trees() -> dict[Path, ast.Module]:
    """The syntax trees of the package."""
    return {path: ast.parse(path.read_text()) for path in sorted((ROOT / "idiolectd").rglob("*.py"))}


def exported(tree: ast.Module) -> list[str]:
    """The names in a module's `__all__`."""
    for node in tree.body:
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "__all__":
            names: list[str] = ast.literal_eval(node.value)
            return names
    return []


_IMPORT = re.compile(r"^ *from (idiolectd[\w.]*) import (?:\(([^)]*)\)|(.*))$", re.MULTILINE)


def imported(path: Path) -> Iterator[tuple[str, str]]:
    """What a module takes out of the package: the room or module, and the name."""
    text = path.read_text()
    for module, several, one in _IMPORT.findall(text):
        yield from (
            (module, name.split()[0]) for name in re.sub("#.*", "", several or one).split(",") if name.strip()
        )
    for room, name in re.findall(r"\b(daemon)\.(\w+)", text):  # taken as a whole
        yield f"idiolectd.{room}", name


def test_every_exported_name_is_used() -> None:
    """Each name in a room's `__all__` is taken from there by another module. The package's top is for programs."""
    taken: dict[tuple[str, str], set[Path]] = {}
    for folder in ("idiolectd", "tests", "bench", "examples"):
        for path in (ROOT / folder).rglob("*.py"):
            for found in imported(path):
                taken.setdefault(found, set()).add(path)
    unused = [
        f"{room}.{name}"
        for path, tree in trees().items()
        if path.name == "__init__.py"
        and (room := ".".join(path.relative_to(ROOT).parent.parts)) != "idiolectd"
        for name in exported(tree)
        if not taken.get((room, name), set()) - {path}
    ]
    assert unused == []


def test_every_function_and_class_is_used() -> None:
    """Each is named somewhere in the package, and not by tests alone."""
    used = set(_CALLED_FROM_OUTSIDE)
    for tree in trees().values():
        for node in ast.walk(tree):
            match node:
                case ast.Name(id=name) | ast.Attribute(attr=name):
                    used.add(name)
    unused = [
        f"{path.relative_to(ROOT)}:{node.lineno} {node.name}"
        for path, tree in trees().items()
        for node in ast.walk(tree)
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef)
        and not node.name.startswith("__")
        and node.name not in used
        and path.parent not in _FOR_PROGRAMS
        # A decorator may have registered it: click's commands, what runs at the process's end.
        and not any("command" in ast.unparse(d) or "register" in ast.unparse(d) for d in node.decorator_list)
    ]
    assert unused == []
