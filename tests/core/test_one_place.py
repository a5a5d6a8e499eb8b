"""What is decided in one place stays there: the source is read for it."""

import ast
import inspect
import re
from collections.abc import Iterator
from dataclasses import fields
from functools import cache
from pathlib import Path

import idiolectd
from idiolectd import events
from idiolectd.outcome import Cause, Code
from idiolectd.remedy import ADVICE
from idiolectd.state import RefreshState, State

PACKAGE = Path(idiolectd.__file__).parent


@cache
def modules() -> dict[str, ast.Module]:
    """The syntax trees of the package by module, as ``refresh/engine``."""
    return {
        path.relative_to(PACKAGE).with_suffix("").as_posix(): ast.parse(path.read_text())
        for path in sorted(PACKAGE.rglob("*.py"))
    }


def outside(room: str) -> Iterator[tuple[str, ast.AST]]:
    """Every node of every module that is not in one room, with the module's name."""
    for name, tree in modules().items():
        if name.split("/")[0] != room:
            for node in ast.walk(tree):
                yield name, node


# Copies of other classes that have a field of the same name.
OTHERS = {("cli/status_rows", "row"), ("daemon/signs_of_life", "presence")}


def test_only_state_changes_a_state() -> None:
    """Outside `idiolectd.state` no field of a `RefreshState` is set, by a copy or by making one."""
    own = {f.name for f in fields(RefreshState)}
    found = []
    for name, call in outside("state"):
        if not isinstance(call, ast.Call):
            continue
        made = ast.unparse(call.func)
        given = own.intersection(keyword.arg or "" for keyword in call.keywords)
        if made == "RefreshState" and given:
            found.append(f"{name}:{call.lineno}")
        if made in ("replace", "dataclasses.replace") and given:
            copied = ast.unparse(call.args[0])
            # Who works on a session exchanges its state as a whole: `replace(claimed, state=...)`.
            is_whole = given == {"state"} and not copied.endswith("state")
            if not is_whole and (name, copied) not in OTHERS:
                found.append(f"{name}:{call.lineno}")
    assert found == []


NAMES = {*Cause, *Code}


def literals(node: ast.AST) -> Iterator[str]:
    """The text constants in a piece of code."""
    for part in ast.walk(node):
        if isinstance(part, ast.Constant) and isinstance(part.value, str):
            yield part.value


def test_nobody_compares_the_text_of_a_cause_or_a_code() -> None:
    """Outside `idiolectd.outcome` their members are compared, so that a name has one spelling."""
    found = []
    for name, node in outside("outcome"):
        if isinstance(node, ast.Compare | ast.MatchValue) and NAMES.intersection(literals(node)):
            found.append(f"{name}:{node.lineno}")
    assert found == []


def test_every_event_of_a_session_names_it() -> None:
    """Whoever makes one gives it what `events.about` knows: handle, kind, PDS and issuer, not the DID alone."""
    kinds = {
        name
        for name, kind in vars(events).items()
        if inspect.isclass(kind) and issubclass(kind, events.SessionEvent)
    }
    made = [
        (name, call)
        for name, call in outside("events")
        if isinstance(call, ast.Call) and ast.unparse(call.func).removeprefix("events.") in kinds
    ]
    assert len(made) > 15
    assert [
        f"{name}:{call.lineno}" for name, call in made if None not in {k.arg for k in call.keywords}
    ] == []


def test_every_cause_and_code_is_used() -> None:
    """Each is given somewhere; the causes of refusals in the table of `idiolectd.outcome`."""
    used = {
        ast.unparse(node)
        for tree in modules().values()
        for node in ast.walk(tree)
        if isinstance(node, ast.Attribute)
    }
    wanted = {f"{type(name).__name__}.{name.name}" for name in (*Cause, *Code)}
    assert wanted - used == set()


def test_every_cause_and_code_is_explained() -> None:
    """docs/runbook.md has each once, and no other, with what the code tells a person to do."""
    text = (PACKAGE.parent / "docs" / "runbook.md").read_text()
    _, states, causes, codes = (
        table_rows(part) for part in re.split(r"^## (?!A )", text, flags=re.MULTILINE)[1:]
    )
    assert [state for state, *_ in states] == [
        *(state.value for state in State),
        *("overdue", "ending", "held by", "withheld"),
    ]
    placeholders = {"{client_id}": "*client*", "{key_id}": "*key*", "{pds_url}": "*PDS*", "{did}": "DID"}
    told = []
    for cause in Cause:
        first = re.sub(r"{\w+}", lambda found: placeholders[found[0]], ADVICE.get(cause, "-"))
        command = cause.remedy.value.replace("{did}", "DID")
        told.append((cause.value, first, f"`idiolectd {command}`"))
    assert [(cause, first, command) for cause, meaning, first, command in causes if meaning] == sorted(told)
    assert [code for code, sent, meaning, todo in codes if sent and meaning and todo] == sorted(Code)


def table_rows(text: str) -> list[tuple[str, ...]]:
    """The cells of each row whose first cell begins with a word in backticks; of that cell, the word."""
    lines = [line for line in text.splitlines() if line.startswith("| `")]
    rows = [[cell.strip() for cell in line.strip("|").split(" | ")] for line in lines]
    return [(first.split("`")[1], *rest) for first, *rest in rows if first.endswith("`")]
