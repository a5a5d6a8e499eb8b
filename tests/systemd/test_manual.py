"""The manual pages say what the commands and the configuration say, and are valid."""

import re
import shutil
import subprocess

import click
import pytest

from deploy.manual import configuration_page, program_page
from idiolectd.cli import group
from idiolectd.config.settings import KEYS

PAGES = {"idiolectd.1": program_page(), "idiolectd.toml.5": configuration_page()}


def commands(parent: click.Group) -> list[click.Command]:
    found = list(parent.commands.values())
    return [*found, *(below for each in found if isinstance(each, click.Group) for below in commands(each))]


def test_commands() -> None:
    """Each command and each of its options is there."""
    page = PAGES["idiolectd.1"].replace("\\-", "-")
    for command in commands(group):
        assert command.name is not None
        assert command.name in page
        for parameter in command.params:
            if isinstance(parameter, click.Option) and not parameter.hidden:
                assert re.search(rf'^\.B ".*{parameter.opts[-1]}\b', page, re.MULTILINE), parameter.opts


def test_keys() -> None:
    """Each key of the configuration is there, with its variable."""
    page = PAGES["idiolectd.toml.5"]
    for key in KEYS.values():
        assert f'\n.B "{key.name} = ' in page
        assert f"\nVariable: {key.variable}\n" in page


def test_dashes() -> None:
    """What a person copies to a shell has real dashes."""
    assert not re.search(r"(?<!\\)-", re.sub(r"^\.\w.*", "", PAGES["idiolectd.1"], flags=re.MULTILINE))


@pytest.mark.skipif(shutil.which("groff") is None, reason="groff is not installed")
@pytest.mark.parametrize("name", PAGES)
def test_valid(name: str) -> None:
    """troff has nothing to warn of, but for words that are longer than a line."""
    command = ["groff", "-man", "-Tutf8", "-ww", "-Wbreak", "-K", "utf-8"]
    done = subprocess.run(command, input=PAGES[name], capture_output=True, text=True, timeout=60, check=True)
    assert done.stderr == ""
