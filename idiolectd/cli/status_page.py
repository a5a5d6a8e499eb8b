"""Lays out ``status`` for people: one line a session, what needs a person first, below it what to type.

Pure: it makes lines of text for a width and writes nothing. A line of the table is cut to the width.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

from rich.cells import cell_len
from rich.text import Text

from idiolectd import __version__
from idiolectd.cli.status_problems import what_to_do
from idiolectd.cli.status_report import MOST_LISTED, DaemonStatus, StatusReport
from idiolectd.cli.status_rows import PAUSED, StatusRow
from idiolectd.cli.status_text import BAD, Canvas, cut, error_text, name, style_of, when, wrapped
from idiolectd.clock import parse_rfc3339
from idiolectd.foreign import printable
from idiolectd.remedy import Commands
from idiolectd.state import ENDING

# Lines of the table. Of more sessions only those that need a look are listed: the others would hide them.
MOST_LINES = 100

_GAP = 2  # columns of the terminal between two columns of the table


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
        yield Text(printable(f"NOT SAVED, look at the disk: {names}"), style=BAD)
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
        return Text("daemon: not running", style=BAD)
    text = f"daemon: running, pid {daemon.pid}, version {daemon.version}, started {when(daemon.since, now)}"
    if daemon.version in (None, __version__):
        return Text(printable(text), style="green")
    return Text(printable(f"{text} (this is {__version__}: restart it)"), style="yellow")


def _numbers(report: StatusReport, canvas: Canvas) -> Iterator[Text]:
    totals = report.totals
    if not totals.sessions:
        yield Text("no sessions" if report.state is None else f"no sessions that are {report.state}")
        return
    states = ", ".join(f"{count:,} {state}" for state, count in totals.states.items())
    noun = "session" if totals.sessions == 1 else "sessions"
    yield from map(Text, wrapped(f"{totals.sessions:,} {noun}: {states}", canvas))
    if totals.need_person:
        verb = "needs" if totals.need_person == 1 else "need"
        least = "at least " if MOST_LISTED <= totals.listed < totals.sessions else ""
        yield Text(f"{least}{totals.need_person:,} {verb} a person", style=BAD)


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
        _Column("EXPIRES", lambda row: when(row.expires_at, now)),
        _Column("NEXT", lambda row: when(row.next_attempt_at, now), 50),
        _Column("LAST", lambda row: when(row.last_success_at, now), 70),
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
            _padded(cut(text, first, canvas), first),
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
        text = cut(text, canvas.width, canvas)
    return Text(text, style=style)


def _padded(text: str, width: int) -> str:
    return text + " " * (width - cell_len(text))


def _why(row: StatusRow) -> str:
    if not row.needs_a_look or row.word in (PAUSED, ENDING):
        return ""
    return row.cause or (row.last_error.code if row.last_error is not None else "")


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
    ends = _moment(row.session_deadline, now)
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
        "ends": f"{ends}, at the latest: nobody knows when it began" if row.deadline_is_latest else ends,
        "last error": error_text(row, now),
    }
    for title, text in facts.items():
        if text is not None:
            line = Text(printable(f"{title:<10}  {text}"))
            if title == "state":
                line.stylize(style_of(row, report.daemon), 12)
            yield line


def _moment(text: str | None, now: float) -> str | None:
    return None if text is None else f"{when(text, now)} ({text})"
