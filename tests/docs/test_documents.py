"""The documents say what is there."""

import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
README = (ROOT / "README.md").read_text()


@pytest.mark.slow
def test_the_site_is_built_and_its_links_lead_somewhere(tmp_path: Path) -> None:
    """Sphinx finds every document, heading and docstring that is linked or named, and has nothing to warn of."""
    build = [sys.executable, "-m", "sphinx", "-q", "-W", "--keep-going", "-b", "dirhtml"]
    built = subprocess.run(
        [*build, "-d", tmp_path / "trees", DOCS, tmp_path / "site"],
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )
    assert (built.returncode, built.stderr) == (0, "")
    for document in DOCS.glob("*.md"):
        page = tmp_path / "site" / ("" if document.stem == "index" else document.stem) / "index.html"
        assert page.exists(), document.name


@pytest.mark.parametrize(
    "document", [ROOT / "README.md", *sorted(DOCS.glob("*.md"))], ids=lambda path: path.name
)
def test_every_link_leads_somewhere(document: Path) -> None:
    """A link to a file of the repository names one, from where the document is."""
    links = re.findall(r"\]\((?!https?://|#)([^)#\s]+)", document.read_text())
    assert [link for link in links if not (document.parent / link).exists()] == []


def test_the_readme_can_be_finished() -> None:
    """It is short; all else is in docs."""
    assert 3000 <= len(README) <= 5000


def test_the_map_is_the_contract() -> None:
    """The map of modules names the layers that import-linter keeps, in their order."""
    contract = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]["contracts"][0]
    text = (DOCS / "development.md").read_text()
    block = text[text.index("```\ncli ") : text.index("errors\n```")] + "errors"
    layers = [re.split(r"  +", line)[0] for line in block.splitlines()[1:]]
    assert layers == contract["layers"]


def test_every_test_that_is_named_exists() -> None:
    """The table of promises names files and folders that are there."""
    folder = ""
    named = re.findall(r"`([\w/]+(?:\.py)?)`", (DOCS / "promises.md").read_text())
    assert len(named) > 30
    for name in named:
        if name.startswith("tests/"):
            folder = name.rpartition("/")[0]
            assert (ROOT / name).exists(), name
        elif name.endswith(".py"):
            assert (ROOT / folder / name).exists(), name


def test_every_word_of_the_glossary_is_used() -> None:
    """What the glossary explains is what the code says, as a name or in a text."""
    glossary = (DOCS / "words.md").read_text()
    words = [
        word for row in re.findall(r"^\| ([a-z ,]+) \|", glossary, re.MULTILINE) for word in row.split(", ")
    ]
    assert words.pop(0) == "word"
    assert len(words) >= 25
    code = "\n".join(path.read_text() for path in (ROOT / "idiolectd").rglob("*.py")).lower()
    names = code.replace("_", "") + code
    unused = [word for word in words if word not in names and word.replace(" ", "") not in names]
    assert unused == []
