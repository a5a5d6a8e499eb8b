"""The words, colours and lines that all parts of the ``status`` page share. Pure."""

import textwrap
from dataclasses import dataclass

from rich.cells import cell_len, set_cell_size

from idiolectd.cli.output import ago
from idiolectd.cli.status_report import DaemonStatus
from idiolectd.cli.status_rows import OVERDUE, PAUSED, StatusRow
from idiolectd.clock import parse_rfc3339
from idiolectd.foreign import printable
from idiolectd.state import ENDING, State

BAD = "bold red"
_STYLES = {
    OVERDUE: BAD,
    ENDING: "yellow",
    PAUSED: "yellow",
    State.FRESH: "green",
    State.DUE: "green",
    State.RETRYING: "yellow",
    State.AMBIGUOUS: "yellow",
    State.UNPERSISTED: BAD,
    State.SUSPENDED: BAD,
    State.RELOGIN_REQUIRED: BAD,
    State.QUARANTINED: BAD,
}


@dataclass(frozen=True)
class Canvas:
    """What is drawn on.

    Attributes:
        width: in columns; None: no line is cut or wrapped.
        ascii_only: the output takes no other characters.
    """

    width: int | None = None
    ascii_only: bool = False


def name(row: StatusRow) -> str:
    """Returns what the account is called in a line; ``?`` behind a handle that nobody has confirmed."""
    if not row.handle:
        return printable(row.did or "(unreadable)")
    return printable(row.handle if row.handle_confirmed else f"{row.handle}?")


def style_of(row: StatusRow, daemon: DaemonStatus) -> str:
    """Returns the colour of a session's word; what is due while no daemon runs is not well."""
    if daemon.running is False and row.state is State.DUE and not row.overdue:
        return "yellow"
    return _STYLES[row.word]


def cut(text: str, width: int, canvas: Canvas) -> str:
    """Shortens a text to a width, and shows that."""
    if cell_len(text) <= width:
        return text
    return set_cell_size(text, width - 1) + ("~" if canvas.ascii_only else "…")


def when(text: str | None, now: float) -> str:
    """Formats a time of RFC 3339 relative to now."""
    at = parse_rfc3339(text)
    return "-" if at is None else ago(at - now)


def error_text(row: StatusRow, now: float | None) -> str | None:
    """Formats the last error; `now`: and when it was."""
    error = row.last_error
    if error is None:
        return None
    at = parse_rfc3339(error.at)
    more = [error.code] if error.code != row.cause else []
    if at is not None and now is not None:
        more.append(ago(at - now))
    return f"{error.message} ({', '.join(more)})" if more else error.message


def wrapped(text: str, canvas: Canvas, *, indent: str = "") -> list[str]:
    """Returns the lines of a text as wide as the canvas; a word is never broken."""
    text = printable(text)
    if canvas.width is None:
        return [indent + text]
    return textwrap.wrap(
        text,
        canvas.width,
        initial_indent=indent,
        subsequent_indent=indent or "  ",
        break_long_words=False,
        break_on_hyphens=False,
    )
