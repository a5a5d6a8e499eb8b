"""The README says what is there."""

import inspect
import re
import tomllib
from dataclasses import fields
from pathlib import Path

from idiolectd import events

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text()


def test_the_map_is_the_contract() -> None:
    """The README's map of modules names the layers that import-linter keeps, in their order."""
    contract = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]["contracts"][0]
    block = README[README.index("```\ncli ") : README.index("errors\n```")] + "errors"
    layers = [re.split(r"  +", line)[0] for line in block.splitlines()[1:]]
    assert layers == contract["layers"]


def test_every_event_is_explained() -> None:
    """The table of events has each with its level and its fields, and no other."""
    rows = {
        name: (level, shown)
        for name, level, shown in re.findall(
            r"^\| `([a-z_.]+)` \| (\w+) \| ([\w, ]+) \|", README, re.MULTILINE
        )
    }
    vocabulary = {
        kind.name: (kind.level, ", ".join(field.name for field in fields(kind)))
        for kind in vars(events).values()
        if inspect.isclass(kind) and issubclass(kind, events.Event) and "name" in vars(kind)
    }
    assert rows == vocabulary


def test_every_test_that_is_named_exists() -> None:
    """The table of promises names files and folders that are there."""
    section = README[README.index("## The promises") : README.index("## Commands")]
    folder = ""
    for name in re.findall(r"`([\w/]+(?:\.py)?)`", section):
        if name.startswith("tests/"):
            folder = name.rpartition("/")[0]
            assert (ROOT / name).exists(), name
        elif name.endswith(".py"):
            assert (ROOT / folder / name).exists(), name


def test_every_word_of_the_glossary_is_used() -> None:
    """What the README explains is what the code says, as a name or in a text."""
    glossary = README[README.index("## Words") : README.index("## For those who come")]
    words = [
        word for row in re.findall(r"^\| ([a-z ,]+) \|", glossary, re.MULTILINE) for word in row.split(", ")
    ]
    assert words.pop(0) == "word"
    assert len(words) >= 25
    code = "\n".join(path.read_text() for path in (ROOT / "idiolectd").rglob("*.py")).lower()
    names = code.replace("_", "") + code
    unused = [word for word in words if word not in names and word.replace(" ", "") not in names]
    assert unused == []
