"""The documents that a command writes: ``python -m tests.documents`` (``make documents``). A test compares them."""

from collections.abc import Callable, Mapping
from pathlib import Path

from tests.documents import events, status_screens

FOLDER = Path(__file__).parents[2] / "docs"

DOCUMENTS: Mapping[str, Callable[[], str]] = {
    "events.md": events.document,
    "status.md": status_screens.document,
}
