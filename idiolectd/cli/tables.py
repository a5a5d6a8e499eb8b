"""Writes tables for people: coloured and wrapped on a terminal, plain and unwrapped into a pipe."""

import io
import sys
from collections.abc import Sequence

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table
from rich.text import Text

from idiolectd.cli.output import ago, encoding, put_page
from idiolectd.cli.status_rows import StatusRow, totals
from idiolectd.clock import parse_rfc3339
from idiolectd.foreign import printable
from idiolectd.state import State

_STYLES = {
    State.FRESH: "green",
    State.DUE: "green",
    State.RETRYING: "yellow",
    State.AMBIGUOUS: "yellow",
    State.UNPERSISTED: "bold red",
    State.SUSPENDED: "red",
    State.RELOGIN_REQUIRED: "bold red",
    State.QUARANTINED: "red",
}

_PIPE_WIDTH = 10_000  # columns: wider than any line, so that nothing is cut for a program


def print_table(headers: Sequence[str], lines: Sequence[Sequence[str | Text]]) -> None:
    """Writes a plain table to standard output."""
    table = Table(box=SIMPLE_HEAD if sys.stdout.isatty() else None, pad_edge=False, show_edge=False)
    for header in headers:
        table.add_column(header, overflow="fold")
    for line in lines:
        table.add_row(*(cell if isinstance(cell, Text) else Text(printable(cell)) for cell in line))
    _print(table)


def print_status(rows: Sequence[StatusRow], now: float) -> None:
    """Writes a line of totals, then the table of sessions in the given order."""
    counts = ", ".join(f"{count} {state}" for state, count in totals(list(rows)).items())
    _print(Text(f"{len(rows)} session{'' if len(rows) == 1 else 's'}{': ' if counts else ''}{counts}"))
    if rows:
        headers = ("ACCOUNT", "STATE", "EXPIRES", "NEXT", "ENDS", "LAST ERROR", "ACTION")
        print_table(headers, [_status_line(row, now) for row in rows])


def _status_line(row: StatusRow, now: float) -> list[str | Text]:
    state = f"{row.state.value} ({row.cause})" if row.cause else row.state.value
    if row.refused_since is not None:
        state += f", refused since {_when(row.refused_since, now)}"
    if row.ending:
        state += ", ending"
    if row.account_status:
        state += f", account {row.account_status}"
    if row.overdue:
        state += ", overdue"
    if row.held_by:
        state += f", held by {row.held_by}"
    if row.withheld is not None:
        state += f", new tokens withheld ({row.withheld.todo})"
    style = (
        "yellow"
        if (row.ending or row.overdue) and row.state in (State.FRESH, State.DUE)
        else _STYLES[row.state]
    )
    return [
        _account(row),
        Text(printable(state), style=style),
        _when(row.expires_at, now),
        _when(row.next_attempt_at, now),
        _when(row.session_deadline, now),
        _last_error(row, now),
        row.action or "",
    ]


def handle_text(handle: str | None, *, confirmed: bool) -> str:
    """Formats a handle; marks one that is not confirmed."""
    if not handle:
        return "-"
    return handle if confirmed else f"{handle} (unconfirmed)"


def _account(row: StatusRow) -> str:
    if not row.handle:
        return row.did or "?"
    text = handle_text(row.handle, confirmed=row.handle_confirmed)
    return f"{text}, called {row.claimed_handle} by its server" if row.claimed_handle else text


def _last_error(row: StatusRow, now: float) -> str:
    error = row.last_error
    if error is None:
        return ""
    text = error.message if len(error.message) <= 100 else error.message[:97] + "..."
    at = parse_rfc3339(error.at)
    return f"{text} ({error.code})" if at is None else f"{text} ({error.code}, {ago(at - now)})"


def _when(text: str | None, now: float) -> str:
    at = parse_rfc3339(text)
    return "-" if at is None else ago(at - now)


class _Grid(io.StringIO):
    """A text buffer with the terminal's encoding, by which rich decides whether it can draw lines."""

    def __init__(self) -> None:
        super().__init__()
        self.terminal_encoding = encoding()

    @property
    def encoding(self) -> str:  # type: ignore[override]
        return self.terminal_encoding


def _print(what: Table | Text) -> None:
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
    console.print(what)
    put_page(sheet.getvalue())
