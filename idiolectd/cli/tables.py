"""Writes tables and pages for people: coloured and fitted on a terminal, plain and whole into a pipe."""

import io
import sys
from collections.abc import Iterable, Sequence

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table
from rich.text import Text

from idiolectd.cli.output import encoding, put_page
from idiolectd.foreign import printable

_PIPE_WIDTH = 10_000  # columns: wider than any line, so that nothing is cut for a program


def print_table(headers: Sequence[str], lines: Sequence[Sequence[str | Text]]) -> None:
    """Writes a plain table to standard output."""
    table = Table(box=SIMPLE_HEAD if sys.stdout.isatty() else None, pad_edge=False, show_edge=False)
    for header in headers:
        table.add_column(header, overflow="fold")
    for line in lines:
        table.add_row(*(cell if isinstance(cell, Text) else Text(printable(cell)) for cell in line))
    console, sheet = _console()
    console.print(table)
    put_page(sheet.getvalue())


def print_lines(lines: Iterable[Text]) -> None:
    """Writes lines to standard output, none of them wrapped or cut; control characters are escaped already."""
    console, sheet = _console()
    for line in lines:
        console.print(line, soft_wrap=True)
    put_page(sheet.getvalue())


def terminal_width() -> int | None:
    """Returns the width of the terminal in columns; None: standard output is none."""
    return _console()[0].width if sys.stdout.isatty() else None


def is_ascii_only() -> bool:
    """Returns whether standard output takes no characters to draw with."""
    try:
        "…█░".encode(encoding())
    except (UnicodeEncodeError, LookupError):
        return True
    return False


def handle_text(handle: str | None, *, confirmed: bool) -> str:
    """Formats a handle; marks one that is not confirmed."""
    if not handle:
        return "-"
    return handle if confirmed else f"{handle} (unconfirmed)"


class _Grid(io.StringIO):
    """A text buffer with the terminal's encoding, by which rich decides whether it can draw lines."""

    def __init__(self) -> None:
        super().__init__()
        self.terminal_encoding = encoding()

    @property
    def encoding(self) -> str:  # type: ignore[override]
        return self.terminal_encoding


def _console() -> tuple[Console, _Grid]:
    """Returns a console and the sheet that it writes on."""
    terminal = sys.stdout.isatty()
    sheet = _Grid()
    console = Console(
        file=sheet,
        width=None if terminal else _PIPE_WIDTH,
        force_terminal=terminal,
        color_system="auto" if terminal else None,
        highlight=False,
        markup=False,
        emoji=False,
    )
    return console, sheet
