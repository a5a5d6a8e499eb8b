"""The documents: what is in them is true; some of them are written by ``python -m tests.docs`` (``make documents``)."""

from collections.abc import Callable, Mapping
from pathlib import Path

from tests.docs import commands, events, status_screens

FOLDER = Path(__file__).parents[2] / "docs"

WRITTEN: Mapping[str, Callable[[], str]] = {
    "commands.md": commands.commands,
    "events.md": events.document,
    "status.md": status_screens.document,
}
