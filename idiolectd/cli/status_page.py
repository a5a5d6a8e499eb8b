"""Lays out ``status`` for people: one line a session, what needs a person first, below it what to type.

Pure: it makes lines of text for a width and writes nothing. A line of the table is cut to the width. A command
stands on a line of its own, each once, and is never cut or wrapped, so that it can be copied.
"""

import textwrap
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

from rich.cells import cell_len, set_cell_size
from rich.text import Text

from idiolectd import __version__
from idiolectd.cli.output import ago
from idiolectd.cli.status_report import DaemonStatus, StatusReport
from idiolectd.cli.status_rows import OVERDUE, PAUSED, StatusRow
from idiolectd.clock import parse_rfc3339
from idiolectd.foreign import printable
from idiolectd.outcome import Cause
from idiolectd.remedy import Commands
from idiolectd.state import ENDING, State

# Lines of the table. Of more sessions only those that need a look are listed: the others would hide them.
MOST_LINES = 100

# Commands and names of one paragraph; how to get the others is said behind them.
_MOST_COMMANDS = 20
_MOST_NAMES = 8

_BAD = "bold red"
_STYLES = {
    OVERDUE: _BAD,
    ENDING: "yellow",
    PAUSED: "yellow",
    State.FRESH: "green",
    State.DUE: "green",
    State.RETRYING: "yellow",
    State.AMBIGUOUS: "yellow",
    State.UNPERSISTED: _BAD,
    State.SUSPENDED: _BAD,
    State.RELOGIN_REQUIRED: _BAD,
    State.QUARANTINED: _BAD,
}

_GAP = 2  # columns of the terminal between two columns of the table


@dataclass(frozen=True)
class Canvas:
    """What is drawn on.

    Attributes:
        width: in columns; None: no line is cut or wrapped.
        ascii_only: the output takes no other characters.
    """

    width: int | None = None
    ascii_only: bool = False


def page(
    report: StatusReport, canvas: Canvas, *, start: str, commands: Commands, everything: bool = False
) -> Iterator[Text]:
    """Yields the lines of a report.

    Args:
        report: what to show.
        canvas: what it is drawn on.
        start: the command that starts the daemon.
        commands: how commands are typed that find this store.
        everything: list the sessions that are well too, however many there are.
    """
    yield from head(report, canvas)
    yield Text()
    rows = report.sessions
    if report.account is not None:
        for row in rows:
            yield from _details(row, report)
            yield Text()
    elif rows:
        if len(rows) > MOST_LINES and not everything:
            rows = [row for row in rows if row.needs_a_look][:MOST_LINES]
        yield from table(rows, report, canvas)
        left = report.totals.sessions - len(rows)
        if left:
            yield Text(f"{left:,} more (--all lists all)")
        yield Text()
    yield from what_to_do(report, canvas, start=start, commands=commands)


def head(report: StatusReport, canvas: Canvas) -> Iterator[Text]:
    """Yields the lines above the table: the store, the configuration, the daemon, the numbers."""
    store = report.store
    by = (
        ""
        if store.config is not None and store.named_by == store.config
        else f" ({store.named_by or 'the default'})"
    )
    yield Text(printable(f"store: {store.url}{by}"))
    yield Text(printable(f"configuration: {store.config or 'none'}"))
    yield _daemon(report.daemon, report.at)
    if report.daemon.unpersisted:
        names = ", ".join(report.daemon.unpersisted)
        yield Text(printable(f"NOT SAVED, look at the disk: {names}"), style=_BAD)
    if report.daemon.paused:
        yield Text(printable(f"in trouble: {', '.join(report.daemon.paused)}"), style="yellow")
    if report.daemon.outrun:
        outrun = f"refreshed too slowly, see refresh.rate: {', '.join(report.daemon.outrun)}"
        yield Text(printable(outrun), style="yellow")
    if report.account is None:
        yield from _numbers(report, canvas)


def _daemon(daemon: DaemonStatus, now: float) -> Text:
    if daemon.running is None:
        return Text("daemon: not allowed to know", style="yellow")
    if not daemon.running:
        return Text("daemon: not running", style=_BAD)
    text = f"daemon: running, pid {daemon.pid}, version {daemon.version}, started {_when(daemon.since, now)}"
    if daemon.version in (None, __version__):
        return Text(printable(text), style="green")
    return Text(printable(f"{text} (this is {__version__}: restart it)"), style="yellow")


def _numbers(report: StatusReport, canvas: Canvas) -> Iterator[Text]:
    totals = report.totals
    if not totals.sessions:
        yield Text("no sessions")
        return
    states = ", ".join(f"{count:,} {state}" for state, count in totals.states.items())
    noun = "session" if totals.sessions == 1 else "sessions"
    yield from map(Text, _wrapped(f"{totals.sessions:,} {noun}: {states}", canvas))
    if totals.need_person:
        verb = "needs" if totals.need_person == 1 else "need"
        yield Text(f"{totals.need_person:,} {verb} a person", style=_BAD)


# The table -----------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Column:
    """A column of the table.

    Attributes:
        title: above it.
        cell: what stands in it for a session.
        least: the width below which the whole table has to be for it to be left out.
        right: aligned to the right.
    """

    title: str
    cell: Callable[[StatusRow], str]
    least: int = 0


def table(
    rows: Sequence[StatusRow], report: StatusReport, canvas: Canvas, *, bars: int = 0
) -> Iterator[Text]:
    """Yields the titles, and one line for each session.

    Args:
        rows: the sessions, in this order.
        report: what they are of.
        canvas: what is drawn on.
        bars: the width of a bar that shows what is left of the access token's life; 0: none.
    """
    now = report.at
    columns = [
        _Column("STATE", lambda row: row.word),
        *([_Column("LEFT", lambda row: _bar(row, now, bars, canvas))] if bars else []),
        _Column("EXPIRES", lambda row: _when(row.expires_at, now)),
        _Column("NEXT", lambda row: _when(row.next_attempt_at, now), 50),
        _Column("LAST", lambda row: _when(row.last_success_at, now), 70),
        _Column("WHY", _why, 100),
    ]
    if canvas.width is not None:
        columns = [column for column in columns if column.least <= canvas.width]
    cells = [[printable(column.cell(row)) for column in columns] for row in rows]
    widths = [
        max(cell_len(text) for text in (column.title, *(line[at] for line in cells)))
        for at, column in enumerate(columns)
    ]
    names = [name(row) for row in rows]
    first = max(cell_len(text) for text in ("HANDLE", *names))
    if canvas.width is not None:
        first = min(first, max(8, canvas.width - sum(widths) - _GAP * len(widths)))
    titles = [_padded(column.title, width) for column, width in zip(columns, widths, strict=True)]
    yield _line(_padded("HANDLE", first), titles, canvas, "bold")
    for row, text, line in zip(rows, names, cells, strict=True):
        found = _line(
            _padded(_cut(text, first, canvas), first),
            [_padded(cell, width) for cell, width in zip(line, widths, strict=True)],
            canvas,
        )
        start = first + _GAP
        style = style_of(row, report.daemon)
        found.stylize(style, start, start + widths[0] + (_GAP + widths[1] if bars else 0))
        yield found


def _line(first: str, cells: Iterable[str], canvas: Canvas, style: str = "") -> Text:
    text = (" " * _GAP).join((first, *cells)).rstrip()
    if canvas.width is not None:
        text = _cut(text, canvas.width, canvas)
    return Text(text, style=style)


def _padded(text: str, width: int) -> str:
    return text + " " * (width - cell_len(text))


def _cut(text: str, width: int, canvas: Canvas) -> str:
    if cell_len(text) <= width:
        return text
    return set_cell_size(text, width - 1) + ("~" if canvas.ascii_only else "…")


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


def _why(row: StatusRow) -> str:
    if not row.needs_a_look or row.word in (PAUSED, ENDING):
        return ""
    return row.cause or (row.last_error.code if row.last_error is not None else "")


def _when(text: str | None, now: float) -> str:
    at = parse_rfc3339(text)
    return "-" if at is None else ago(at - now)


def _bar(row: StatusRow, now: float, width: int, canvas: Canvas) -> str:
    """Draws what is left of the access token's life."""
    issued, expires = parse_rfc3339(row.issued_at), parse_rfc3339(row.expires_at)
    if expires is None:
        return ""
    life = expires - issued if issued is not None and issued < expires else 3600.0
    left = min(1.0, max(0.0, (expires - now) / life))
    full = round(left * width)
    on, off = ("#", ".") if canvas.ascii_only else ("█", "░")
    return on * full + off * (width - full)


# One session ---------------------------------------------------------------------------------------


def _details(row: StatusRow, report: StatusReport) -> Iterator[Text]:
    """Yields everything that is known of one session."""
    now = report.at
    handle = row.handle or "-"
    if row.handle and not row.handle_confirmed:
        handle += " (unconfirmed)"
    if row.claimed_handle:
        handle += f", called {row.claimed_handle} by its server"
    state = row.word
    if state != row.state:
        state += f" ({row.state})"
    if row.account_status:
        state += f", account {row.account_status}"
    facts = {
        "handle": handle,
        "did": row.did or "-",
        "state": state,
        "cause": row.cause,
        "refused": f"since {_moment(row.refused_since, now)}" if row.refused_since else None,
        "held by": row.held_by,
        "withheld": f"new tokens; {row.withheld.todo}" if row.withheld is not None else None,
        "kind": {"dpop": "OAuth (dpop)", "bearer": "app password (bearer)", None: None}[row.kind],
        "PDS": row.pds_url,
        "issuer": row.issuer,
        "expires": _moment(row.expires_at, now),
        "next": _moment(row.next_attempt_at, now),
        "last": _moment(row.last_success_at, now),
        "ends": _moment(row.session_deadline, now),
        "last error": _error(row, now),
    }
    for title, text in facts.items():
        if text is not None:
            line = Text(printable(f"{title:<10}  {text}"))
            if title == "state":
                line.stylize(style_of(row, report.daemon), 12)
            yield line


def _moment(text: str | None, now: float) -> str | None:
    return None if text is None else f"{_when(text, now)} ({text})"


def _error(row: StatusRow, now: float | None) -> str | None:
    """Formats the last error; `now`: and when it was."""
    error = row.last_error
    if error is None:
        return None
    at = parse_rfc3339(error.at)
    more = [error.code] if error.code != row.cause else []
    if at is not None and now is not None:
        more.append(ago(at - now))
    return f"{error.message} ({', '.join(more)})" if more else error.message


# What to do ----------------------------------------------------------------------------------------


def what_to_do(report: StatusReport, canvas: Canvas, *, start: str, commands: Commands) -> Iterator[Text]:
    """Yields a paragraph for each thing that is wrong: whose, what, and the commands that mend it.

    Args:
        report: what is shown.
        canvas: what is drawn on.
        start: the command that starts the daemon.
        commands: how commands are typed that find this store.
    """
    if report.daemon.running is False and report.totals.sessions:
        yield Text("no daemon runs: nobody refreshes these sessions", style=_BAD)
        yield _command(start)
        yield Text()
    elif report.daemon.running is None:
        yield Text("whether a daemon runs is known to the store's owner and to root")
        yield _command(f"sudo {commands.typed('status')}")
        yield Text()
    if not report.totals.sessions and report.account is None:
        yield Text("log in, to store the first session")
        yield _command(commands.typed("login", "ACCOUNT"))
        return
    for alike in _alike(row for row in report.sessions if row.needs_a_look):
        if report.daemon.running is False and _waits_for_daemon(alike[0]):
            continue
        yield from _paragraph(alike, report, canvas, commands)
        if report.account is not None and alike[0].state is State.RELOGIN_REQUIRED:
            yield Text("  or, if its server was wrong, try it once more:")
            yield _command(commands.typed("refresh", "--revive", alike[0].did or ""))
        yield Text()


def _waits_for_daemon(row: StatusRow) -> bool:
    """Whether nothing is wrong with it but that no daemon runs."""
    return row.overdue and row.state in (State.FRESH, State.DUE) and not row.held_by


def _alike(rows: Iterable[StatusRow]) -> Iterable[list[StatusRow]]:
    """Groups the sessions with which the same is wrong, in the order of the first of each group."""
    groups: dict[tuple[object, ...], list[StatusRow]] = {}
    for row in rows:
        code = row.last_error.code if row.last_error is not None else None
        reason = (row.withheld and row.withheld.reason, row.account_status, row.held_by, row.kind)
        place = row.advice if row.state is State.QUARANTINED else None
        groups.setdefault((row.word, row.state, row.cause, code, reason, place), []).append(row)
    return groups.values()


def _paragraph(
    rows: Sequence[StatusRow], report: StatusReport, canvas: Canvas, commands: Commands
) -> Iterator[Text]:
    """Yields what is wrong with sessions that are alike, the advice, and their commands."""
    row = rows[0]
    names = [name(each) for each in rows[:_MOST_NAMES]]
    if len(rows) > _MOST_NAMES:
        names.append(f"{len(rows) - _MOST_NAMES:,} more")
    for number, line in enumerate(_wrapped(f"{', '.join(names)}: {_wrong(rows, report)}", canvas)):
        text = Text(line)
        if number == 0:
            text.stylize(style_of(row, report.daemon), 0, line.find(":") if ":" in line else None)
        yield text
    if row.withheld is not None:
        yield from map(Text, _wrapped(f"new tokens are withheld: {row.withheld.todo}", canvas, indent="  "))
    if row.advice is not None:
        yield from map(Text, _wrapped(f"{row.advice}:", canvas, indent="  "))
    actions = list(dict.fromkeys(each.action for each in rows if each.action is not None))
    yield from map(_command, actions[:_MOST_COMMANDS])
    if len(actions) > _MOST_COMMANDS:
        yield Text(f"  and {len(actions) - _MOST_COMMANDS:,} more; to list them all:")
        listed = commands.typed("status", "--state", row.state, "--json")
        yield _command(f"{listed} | jq -r '.sessions[].action'")


def _wrong(rows: Sequence[StatusRow], report: StatusReport) -> str:
    """Says what is wrong with sessions that are alike."""
    row, now = rows[0], report.at
    text = row.word
    if row.cause is not None and row.cause not in (row.word, Cause.UNREADABLE):
        text += f" ({row.cause})"
    parts = []
    if row.word == OVERDUE:
        ended = f", the token ended {_when(row.expires_at, now)}" if len(rows) == 1 else ""
        parts.append(f"{row.state}{ended}")
    if row.word == ENDING and row.session_deadline:
        parts.append(f"the session ends {_when(row.session_deadline, now)}, and a login begins another")
    if row.account_status:
        parts.append(f"account {row.account_status}")
    if row.held_by:
        parts.append(f"held by {row.held_by}")
    if row.refused_since is not None:
        parts.append(f"refused since {_when(row.refused_since, now)}")
    if parts:
        text += f": {', '.join(parts)}"
    messages = {each.last_error.message for each in rows if each.last_error is not None}
    if len(messages) == 1 and row.state not in (State.FRESH, State.DUE) and row.word != PAUSED:
        text += f": {_error(row, now if len(rows) == 1 else None)}"
    return text


def _command(command: str) -> Text:
    return Text(printable(f"    {command}"), style="bold")


def _wrapped(text: str, canvas: Canvas, *, indent: str = "") -> list[str]:
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
