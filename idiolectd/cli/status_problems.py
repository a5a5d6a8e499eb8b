"""Below the table of ``status``: what is wrong, with whom, and the commands that mend it. Pure.

A command stands on a line of its own, each once, and is never cut or wrapped, so that it can be copied.
"""

from collections.abc import Iterable, Iterator, Sequence

from rich.text import Text

from idiolectd.cli.status_report import StatusReport
from idiolectd.cli.status_rows import OVERDUE, PAUSED, StatusRow
from idiolectd.cli.status_text import BAD, Canvas, error_text, name, style_of, when, wrapped
from idiolectd.foreign import printable
from idiolectd.outcome import Cause
from idiolectd.remedy import Commands
from idiolectd.state import ENDING, State

# Commands and names of one paragraph; how to get the others is said behind them.
_MOST_COMMANDS = 20
_MOST_NAMES = 8


def what_to_do(report: StatusReport, canvas: Canvas, *, start: str, commands: Commands) -> Iterator[Text]:
    """Yields a paragraph for each thing that is wrong: whose, what, and the commands that mend it.

    Args:
        report: what is shown.
        canvas: what is drawn on.
        start: the command that starts the daemon.
        commands: how commands are typed that find this store.
    """
    if report.daemon.running is False and report.totals.sessions:
        yield Text("no daemon runs: nobody refreshes these sessions", style=BAD)
        yield _command(start)
        yield Text()
    elif report.daemon.running is None:
        known = (
            "whether a daemon runs, and whether new tokens wait, is known to the store's owner and to root"
        )
        yield from map(Text, wrapped(known, canvas))
        yield _command(f"sudo {commands.typed('status')}")
        yield Text()
    if report.is_empty:
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
        error = row.last_error
        # Of a record that can't be read the message names the place, so each is a paragraph of its own.
        what = error and (error.message if row.state is State.QUARANTINED else error.code)
        beside = (row.withheld and row.withheld.reason, row.account_status, row.held_by, row.advice)
        groups.setdefault((row.word, row.state, row.cause, what, beside), []).append(row)
    return groups.values()


def _paragraph(
    rows: Sequence[StatusRow], report: StatusReport, canvas: Canvas, commands: Commands
) -> Iterator[Text]:
    """Yields what is wrong with sessions that are alike, the advice, and their commands."""
    row = rows[0]
    names = [name(each) for each in rows[:_MOST_NAMES]]
    if len(rows) > _MOST_NAMES:
        names.append(f"{len(rows) - _MOST_NAMES:,} more")
    for number, line in enumerate(wrapped(f"{', '.join(names)}: {_wrong(rows, report)}", canvas)):
        text = Text(line)
        if number == 0:
            text.stylize(style_of(row, report.daemon), 0, line.find(":") if ":" in line else None)
        yield text
    if row.withheld is not None:
        yield from map(Text, wrapped(f"new tokens are withheld: {row.withheld.todo}", canvas, indent="  "))
    if row.advice is not None:
        yield from map(Text, wrapped(f"{row.advice}:", canvas, indent="  "))
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
        ended = f", the token ended {when(row.expires_at, now)}" if len(rows) == 1 else ""
        parts.append(f"{row.state}{ended}")
    if row.word == ENDING and row.session_deadline:
        latest = " at the latest" if row.deadline_is_latest else ""
        parts.append(
            f"the session ends{latest} {when(row.session_deadline, now)}, and a login begins another"
        )
    if row.account_status:
        parts.append(f"account {row.account_status}")
    if row.held_by:
        parts.append(f"held by {row.held_by}")
    if row.refused_since is not None:
        parts.append(f"refused since {when(row.refused_since, now)}")
    if parts:
        text += f": {', '.join(parts)}"
    if row.last_error is None or row.state in (State.FRESH, State.DUE) or row.word == PAUSED:
        return text
    if len({each.last_error and each.last_error.message for each in rows}) == 1:
        return f"{text}: {error_text(row, now if len(rows) == 1 else None)}"
    return f"{text}: {row.last_error.code}"


def _command(command: str) -> Text:
    return Text(printable(f"    {command}"), style="bold")
