"""``idiolectd status`` and ``idiolectd list``: show the stored sessions, without network or locks."""

import time
from functools import partial

import click

from idiolectd.cli.accounts import one_account, stored_dids
from idiolectd.cli.bug_isolation import isolate_bug
from idiolectd.cli.existing_store import open_to_read
from idiolectd.cli.exits import ExitCode, worst
from idiolectd.cli.help_sections import SectionedCommand
from idiolectd.cli.options import Options, common
from idiolectd.cli.output import put, put_json, say
from idiolectd.cli.running import run_async
from idiolectd.cli.status_rows import StatusRow, read_all_rows, read_needy_rows, read_rows
from idiolectd.cli.tables import handle_text, print_status, print_table
from idiolectd.config import Config
from idiolectd.errors import NoSessionError, RecordError
from idiolectd.outcome import Cause
from idiolectd.ports import Overview, SharedStore
from idiolectd.session import OAuthSession
from idiolectd.state import State
from idiolectd.store import read_presence

# Sessions. Of a larger store, `status` lists only those that need a look: they would be lost in the rest.
_MOST_LISTED = 1000


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
            ("idiolectd status alice.example", "one session"),
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
@common
@click.pass_obj
def status_command(options: Options, account: str | None, did: str | None, state: str | None) -> int:
    """Show the state of every session, worst first.

    Of more than 1,000 sessions in SQLite it shows the totals and those that need a look. It reads the
    store only: it sends nothing and changes nothing. It exits 0 whatever the states are, and 1 if a bug
    keeps it from showing a session. ACTION is the command to type. With --json: a list of objects, times
    in RFC 3339.
    """
    config = options.load_as_owner()
    named = one_account(account, did) if account or did else None
    wanted = State(state) if state else None
    rows = run_async(partial(_status, config, named, wanted, json=options.json))
    return ExitCode.FAILED if any(row.cause == Cause.BUG for row in rows) else ExitCode.DONE


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
    return run_async(partial(_list, config, json=options.json))


async def _status(config: Config, account: str | None, state: State | None, *, json: bool) -> list[StatusRow]:
    now = time.time()
    async with open_to_read(config) as store:
        overview = None if account or state or json else await store.overview(now, limit=_MOST_LISTED)
        if overview is not None and overview.sessions > _MOST_LISTED:
            rows = await read_needy_rows(store, config, overview.dids, now)
        elif account is None:
            overview = None
            rows = await read_all_rows(store, config, now)
        else:
            try:
                dids = await stored_dids(store, account)
            except NoSessionError:
                dids = []
            rows = await read_rows(store, config, dids, now)
            if not rows:
                say(str(NoSessionError(account)))
        head = _head(store, config)
    rows = [row for row in rows if state is None or row.state is state]
    if json:
        put_json([row.to_dict() for row in rows])
        return rows
    for line in head:
        put(line)
    if overview is not None:
        put(_totals(overview))
        put(f"{len(rows)} of the sessions that need a look (--state STATE and --json read all):")
    print_status(rows, now)
    return rows


def _totals(overview: Overview) -> str:
    """Formats the number of sessions in each state of a large store, as its index counts them."""
    well = overview.sessions - sum(overview.needy.values()) - overview.due
    counts = {**overview.needy, State.DUE.value: overview.due, State.FRESH.value: well}
    named = ", ".join(
        f"{count:,} {name or 'not looked at yet'}" for name, count in counts.items() if count > 0
    )
    return f"{overview.sessions:,} sessions in all: {named}"


def _head(store: SharedStore, config: Config) -> list[str]:
    """Returns the lines above the table: the store, the configuration, and the running daemon."""
    daemon = read_presence(store.runtime_dir)
    lines = [
        f"store: {config.store.url}",
        f"configuration: {config.path or 'none'}",
        f"daemon: running, pid {daemon.pid}, version {daemon.version}, since {daemon.since}"
        if daemon is not None
        else "daemon: not running",
    ]
    if daemon is not None and daemon.unpersisted:
        lines.append(f"NOT SAVED, look at the disk: {', '.join(daemon.unpersisted)}")
    if daemon is not None and daemon.paused:
        lines.append(f"paused: {', '.join(daemon.paused)}")
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
