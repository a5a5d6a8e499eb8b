"""The contracts of import-linter cover all that they are about."""

import tomllib
from pathlib import Path

ROOT = Path(__file__).parents[2]


def test_every_command_is_kept_from_the_others() -> None:
    """Each module of `idiolectd.cli` that holds a command stands in the contract, and no other."""
    contracts = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]["contracts"]
    (contract,) = (one for one in contracts if one["type"] == "independence")
    commands = {
        f"idiolectd.cli.{path.stem}"
        for path in (ROOT / "idiolectd/cli").rglob("*.py")
        if path.name != "__init__.py" and "\n@click." in path.read_text()
    }
    assert commands == set(contract["modules"])
