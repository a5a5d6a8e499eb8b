"""Where a command's words go: results to standard output, everything else to standard error."""

import json
import sys
from collections.abc import Iterable
from typing import Any

import click


def say(text: str) -> None:
    """A line for the person at the terminal; never part of the output."""
    for line in text.splitlines():
        click.echo(f"idiolectd: {printable(line)}", err=True)


def show(text: str) -> None:
    """A line for the person to copy, alone between two empty ones."""
    click.echo(f"\n    {printable(text)}\n", err=True)


def put(text: str) -> None:
    """A line of the output."""
    click.echo(printable(text))


def put_json(value: Any) -> None:
    """The whole output of a command, for programs."""
    json.dump(value, sys.stdout, ensure_ascii=False, indent=2)
    sys.stdout.write("\n")


def printable(text: str) -> str:
    """The text without what could move a terminal's cursor: it may come from a server."""
    return "".join(char if char.isprintable() else "\N{REPLACEMENT CHARACTER}" for char in text)


def ago(seconds: float) -> str:
    """A distance in time, coarse: ``in 42m``, ``3d ago``, ``now``."""
    size = abs(seconds)
    for unit, length in (("d", 86400), ("h", 3600), ("m", 60), ("s", 1)):
        # Two of the larger unit read better than one: 90 minutes, 36 hours.
        if size >= (2 * length if length > 60 else length):
            amount = f"{size // length:.0f}{unit}"
            return f"in {amount}" if seconds > 0 else f"{amount} ago"
    return "now"


def joined(words: Iterable[str]) -> str:
    """A list in a sentence."""
    return ", ".join(words)
