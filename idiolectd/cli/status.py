"""``idiolectd status`` and ``idiolectd list``: show the stored sessions, without network or locks."""

import sys
from functools import partial
from typing import Any

import click

from idiolectd.cli.accounts import one_account
from idiolectd.cli.bug_isolation import isolate_bug
from idiolectd.cli.existing_store import open_to_read, require_store
from idiolectd.cli.exits import CommandFailed, ExitCode, worst
from idiolectd.cli.help_sections import SectionedCommand
from idiolectd.cli.options import Options, common
from idiolectd.cli.output import put_json, say
from idiolectd.cli.running import run_async
from idiolectd.cli.starting import start_command
from idiolectd.cli.status_page import page
from idiolectd.cli.status_report import StatusReport, read_report
from idiolectd.cli.status_text import Canvas
from idiolectd.cli.tables import handle_text, is_ascii_only, print_lines, print_table, terminal_width
from idiolectd.config import Config
from idiolectd.errors import RecordError
from idiolectd.outcome import Cause
from idiolectd.session import OAuthSession
from idiolectd.state import State


@click.command(
    "status",
    cls=SectionedCommand,
    sections={
        "States": (
            ("fresh, due", "all is well"),
            ("overdue", "the access token has ended; the log names what holds its refresh"),
            ("ending", "the session ends soon, and needs a login before"),
            (
                "retrying",
                "the last attempt failed or was refused; the daemon tries again",
            ),
            ("ambiguous", "a refresh was sent and its response lost; the daemon asks the PDS"),
            ("unpersisted", "new tokens could not be saved yet: look at the disk"),
            ("suspended", "a person must change something; nothing is sent meanwhile"),
            ("paused", "suspended by `idiolectd pause`"),
            ("relogin_required", "the server has ended the session"),
            ("quarantined", "the record can't be read"),
        ),
        "Examples": (
            ("idiolectd status", "everything"),
            ("idiolectd status HANDLE", "all that is known of one session"),
            ("idiolectd status --watch", "live"),
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
    "--all", "everything", is_flag=True, help="List the sessions that are well too, however many there are."
)
@click.option(
    "--exit-code",
    is_flag=True,
    help="Exit with 1 if a session needs a person, with 3 if no daemon runs on the store.",
)
@click.option("--watch", is_flag=True, help="Show it live on the terminal; q quits.")
@common
@click.pass_obj
def status_command(
    options: Options,
    account: str | None,
    did: str | None,
    state: str | None,
    everything: bool,
    exit_code: bool,
    watch: bool,
) -> int:
    """Show how every session is, and the commands that mend it.

    What needs a person comes first.     Of more than 100 sessions it lists those that need a look. With ACCOUNT it shows all that is known of one
    session. It reads the store only: it sends nothing and changes nothing. It exits 0 whatever the states
    are, and 1 if a bug keeps it from showing a session; see --exit-code. With --json: an object {daemon,
    store, sessions, totals}, times in RFC 3339.
    """
    if watch and (options.json or exit_code):
        raise CommandFailed(ExitCode.USAGE, "--watch is for people: leave --json and --exit-code out")
    if watch and not (sys.stdout.isatty() and sys.stdin.isatty()):
        raise CommandFailed(ExitCode.USAGE, "--watch needs a terminal; leave it out for a pipe or a file")
    config = options.load_as_owner()
    named = one_account(account, did) if account or did else None
    wanted = State(state) if state else None
    read = partial(read_report, config, named, wanted, everything=everything)
    start = start_command(config)
    if watch:
        from idiolectd.cli.status_watch import watch as watch_until_quit

        require_store(config)
        run_async(partial(watch_until_quit, read, start=start, commands=config.commands))
        return ExitCode.DONE
    options.say_unused()
    report = run_async(read)
    if report.account is not None and not report.sessions:
        login = config.commands.typed("login", report.account)
        say(f"no session is stored for {report.account}; run: {login}")
    if options.json:
        put_json(report.to_dict())
    else:
        canvas = Canvas(terminal_width(), is_ascii_only())
        print_lines(page(report, canvas, start=start, commands=config.commands, everything=everything))
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


async def _list(config: Config, *, json: bool) -> ExitCode:
    code = ExitCode.DONE
    found: list[
        dict[str, Any]
    ] = []  # what is shown, and no record: of very many, those would fill the memory
    async with open_to_read(config) as store:

        async def read(did: str) -> ExitCode:
            try:
                session = await store.load(did)
            except RecordError as error:
                say(str(error))
            else:
                found.extend([_listed(session)] if session is not None else ())
            return ExitCode.DONE

        for did in await store.list_dids():
            code = worst([code, await isolate_bug(did, partial(read, did), lambda _: ExitCode.FAILED)])
    if json:
        put_json(found)
    elif found:
        lines = [
            (row["did"], handle_text(row["handle"], confirmed=row["handle_confirmed"]), row["pds_url"])
            for row in found
        ]
        print_table(("DID", "HANDLE", "PDS"), lines)
    return code


def _listed(session: OAuthSession) -> dict[str, Any]:
    return {
        "did": session.did,
        "handle": session.known_as,
        "handle_confirmed": bool(session.confirmed_handle),
        "pds_url": session.pds_url,
        "kind": session.kind,
    }
