"""``idiolectd status`` and ``idiolectd list``: show the stored sessions, without network or locks."""

from functools import partial

import click

from idiolectd.cli.accounts import one_account
from idiolectd.cli.bug_isolation import isolate_bug
from idiolectd.cli.existing_store import open_to_read
from idiolectd.cli.exits import ExitCode, worst
from idiolectd.cli.help_sections import SectionedCommand
from idiolectd.cli.options import Options, common
from idiolectd.cli.output import put, put_json, say
from idiolectd.cli.running import run_async
from idiolectd.cli.status_report import StatusReport, read_report
from idiolectd.cli.tables import handle_text, print_status, print_table
from idiolectd.config import Config
from idiolectd.errors import NoSessionError, RecordError
from idiolectd.outcome import Cause
from idiolectd.session import OAuthSession
from idiolectd.state import State


@click.command(
    "status",
    cls=SectionedCommand,
    sections={
        "States": (
            ("fresh, due", "all is well"),
            ("..., overdue", "the access token has ended; the log names what holds its refresh"),
            ("..., held by", "that process has the session's claim; if it hangs, end it"),
            (
                "retrying",
                "the last attempt failed or was refused; the daemon tries again",
            ),
            ("ambiguous", "a refresh was sent and its response lost; the daemon asks the PDS"),
            (
                "..., new tokens withheld",
                "the response does not say that they are this session's, or says that they are not",
            ),
            ("unpersisted", "new tokens could not be saved yet: look at the disk"),
            ("suspended", "a person must change something; nothing is sent meanwhile"),
            ("relogin_required", "the server has ended the session"),
            ("quarantined", "the record can't be read"),
        ),
        "Examples": (
            ("idiolectd status", "everything"),
            ("idiolectd status HANDLE", "one session"),
            ("idiolectd status --state relogin_required --json", "who needs a login, for a program"),
        ),
    },
)
@click.argument("account", required=False, metavar="[ACCOUNT]")
@click.option("--did", metavar="DID", help="The same as ACCOUNT.")
@click.option(
    "--state",
    type=click.Choice([state.value for state in State]),
    help="Only sessions in this state.",
)
@click.option(
    "--all", "everything", is_flag=True, help="List the sessions of a large store that are well too."
)
@click.option(
    "--exit-code",
    is_flag=True,
    help="Exit with 1 if a session needs a person, with 3 if no daemon runs on the store.",
)
@common
@click.pass_obj
def status_command(
    options: Options,
    account: str | None,
    did: str | None,
    state: str | None,
    everything: bool,
    exit_code: bool,
) -> int:
    """Show the state of every session, worst first.

    Of more than 1,000 sessions in SQLite it shows the totals and those that need a look. It reads the
    store only: it sends nothing and changes nothing. It exits 0 whatever the states are, and 1 if a bug
    keeps it from showing a session; see --exit-code. ACTION is the command to type. With --json: an object
    {daemon, store, sessions, totals}, times in RFC 3339.
    """
    config = options.load_as_owner()
    options.say_unused()
    named = one_account(account, did) if account or did else None
    wanted = State(state) if state else None
    report = run_async(partial(read_report, config, named, wanted, everything=everything))
    if report.account is not None and not report.sessions:
        say(str(NoSessionError(report.account)))
    if options.json:
        put_json(report.to_dict())
    else:
        _show(report)
    if exit_code:
        return need(report)
    return ExitCode.FAILED if any(row.cause == Cause.BUG for row in report.sessions) else ExitCode.DONE


def need(report: StatusReport) -> int:
    """Returns the exit code of ``--exit-code``: 0 all is well, 1 a session needs a person, 3 no daemon runs."""
    if report.daemon.running is False:
        return 3
    is_missing = report.account is not None and not report.sessions
    return 1 if report.totals.need_person or is_missing else 0


@click.command(
    "list",
    cls=SectionedCommand,
    sections={
        "Examples": (
            ("idiolectd list", "DID, handle and PDS of each"),
            ("idiolectd list --json | jq -r '.[].did'", "DIDs alone"),
        ),
    },
)
@common
@click.pass_obj
def list_command(options: Options) -> int:
    """List the stored accounts: DID, handle, PDS."""
    config = options.load_as_owner()
    options.say_unused()
    return run_async(partial(_list, config, json=options.json))


def _show(report: StatusReport) -> None:
    for line in _head(report):
        put(line)
    if report.totals.listed < report.totals.sessions:
        counts = ", ".join(f"{count:,} {name}" for name, count in report.totals.states.items())
        put(f"{report.totals.sessions:,} sessions in all: {counts}")
        put(f"{report.totals.listed} of them need a look (--all lists all):")
    print_status(report.sessions, report.at)


def _head(report: StatusReport) -> list[str]:
    """Returns the lines above the table: the store, the configuration, and the running daemon."""
    daemon = report.daemon
    running = {
        True: f"running, pid {daemon.pid}, version {daemon.version}, since {daemon.since}",
        False: "not running",
        None: "this user is not allowed to know",
    }
    lines = [
        f"store: {report.store.url}",
        f"configuration: {report.store.config or 'none'}",
        f"daemon: {running[daemon.running]}",
    ]
    if daemon.unpersisted:
        lines.append(f"NOT SAVED, look at the disk: {', '.join(daemon.unpersisted)}")
    if daemon.paused:
        lines.append(f"paused: {', '.join(daemon.paused)}")
    if daemon.outrun:
        lines.append(f"refreshed too slowly, see refresh.rate: {', '.join(daemon.outrun)}")
    return lines


async def _list(config: Config, *, json: bool) -> ExitCode:
    code = ExitCode.DONE
    found: list[OAuthSession] = []
    async with open_to_read(config) as store:

        async def read(did: str) -> ExitCode:
            try:
                session = await store.load(did)
            except RecordError as error:
                say(str(error))
            else:
                found.extend([session] if session is not None else ())
            return ExitCode.DONE

        for did in await store.list_dids():
            code = worst([code, await isolate_bug(did, partial(read, did), lambda _: ExitCode.FAILED)])
    if json:
        put_json([_listed(session) for session in found])
    elif found:
        lines = [
            (
                session.did,
                handle_text(session.known_as, confirmed=bool(session.confirmed_handle)),
                session.pds_url,
            )
            for session in found
        ]
        print_table(("DID", "HANDLE", "PDS"), lines)
    return code


def _listed(session: OAuthSession) -> dict[str, str | bool | None]:
    return {
        "did": session.did,
        "handle": session.known_as,
        "handle_confirmed": bool(session.confirmed_handle),
        "pds_url": session.pds_url,
        "kind": session.kind,
    }
