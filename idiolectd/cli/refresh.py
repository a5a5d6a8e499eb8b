"""``idiolectd refresh``: refreshes sessions once, by the daemon's code and under the same claim."""

from dataclasses import asdict, dataclass
from functools import partial
from typing import TYPE_CHECKING

import anyio
import click

from idiolectd.cli.accounts import stored_did
from idiolectd.cli.bug_isolation import isolate_bug
from idiolectd.cli.existing_store import require_store
from idiolectd.cli.exits import CommandFailed, ExitCode, code_of, worst
from idiolectd.cli.help_sections import SectionedCommand
from idiolectd.cli.options import Options, command_events, common
from idiolectd.cli.output import put, put_json
from idiolectd.cli.running import run_async
from idiolectd.config import Config
from idiolectd.errors import IdiolectError
from idiolectd.log import redact
from idiolectd.outcome import (
    Ambiguous,
    Cause,
    Code,
    Current,
    Gone,
    Refreshed,
    RefreshOutcome,
    ReloginRequired,
    Retry,
    Suspended,
    Unpersisted,
)
from idiolectd.policy import CLAIM_PATIENCE
from idiolectd.refresh import report
from idiolectd.state import State, reconcile

if TYPE_CHECKING:
    from idiolectd.parts import Parts


@dataclass(frozen=True)
class RefreshResult:
    """The result of one session's refresh; a line of the output."""

    did: str
    result: str
    code: str | None = None
    message: str | None = None
    expires_at: str | None = None
    action: str | None = None


@click.command(
    "refresh",
    cls=SectionedCommand,
    sections={
        "Examples": (
            ("idiolectd refresh alice.example", "if it is due"),
            ("idiolectd refresh --force alice.example", "now"),
            ("idiolectd refresh --all --json", "what is due, for a program"),
            (
                "idiolectd refresh --revive alice.example",
                "a session that counts as ended, once more",
            ),
        ),
    },
)
@click.argument("accounts", nargs=-1, metavar="ACCOUNT...")
@click.option("--did", "dids", multiple=True, metavar="DID", help="The same as ACCOUNT; may be repeated.")
@click.option("--all", "everybody", is_flag=True, help="All sessions of the store.")
@click.option(
    "--force", is_flag=True, help="Refresh even if it is not due; not if its server has ended the session."
)
@click.option(
    "--revive",
    is_flag=True,
    help="Try a session that needs a login once more; if its server accepts the refresh, it lives again.",
)
@common
@click.pass_obj
def refresh_command(
    options: Options,
    accounts: tuple[str, ...],
    dids: tuple[str, ...],
    everybody: bool,
    force: bool,
    revive: bool,
) -> int:
    """Refresh sessions now, if they are due.

    ACCOUNT is a DID, or a handle that is in the store. The command takes the same claim as a running
    daemon, so both can be used at once. Exit codes: 0 all have live tokens, 3 one needs a login, 1 one
    needs something else, 75 one can't be refreshed now; try again later.
    """
    named = [*accounts, *dids]
    if everybody == bool(named):
        raise CommandFailed(ExitCode.USAGE, "name accounts, or --all; not both and not neither")
    if revive and everybody:
        raise CommandFailed(ExitCode.USAGE, "--revive is for sessions that are named, not for --all")
    config = options.load_as_owner()
    require_store(config)
    work = partial(_refresh, config, named, force=force, revive=revive, json=options.json)
    lines = run_async(work)
    return worst(code for _, code in lines)


async def refresh_one(
    parts: "Parts", did: str, *, force: bool, revive: bool = False
) -> tuple[RefreshResult, ExitCode]:
    """Refreshes one session; errors of this session become its result and are not raised."""

    async def work() -> tuple[RefreshResult, ExitCode]:
        try:
            unusable = await _unusable_key(parts, did)
            if unusable is not None:
                return RefreshResult(did, "failed", unusable.code, unusable.message), ExitCode.USAGE
            attempt = await parts.engine.refresh(did, force=force, revive=revive, patience=CLAIM_PATIENCE)
        except IdiolectError as error:
            code = code_of(error)
            result = "try_later" if code is ExitCode.TRY_LATER else "failed"
            return RefreshResult(did, result, message=redact(str(error))), code
        return _judged(did, attempt.outcome)

    return await isolate_bug(
        did, work, lambda message: (RefreshResult(did, "failed", Cause.BUG, message), ExitCode.FAILED)
    )


async def _unusable_key(parts: "Parts", did: str) -> Suspended | None:
    """Returns why this process can't use the client's key; it may not be allowed to read the daemon's key.

    Checked before the engine runs, because the engine would save this as the session's state, and the daemon
    would then suspend the session.
    """
    entry = await parts.store.read(did)
    if entry.session is None or entry.session.kind != "dpop":
        return None
    session = reconcile(entry.session, entry.state, parts.clock.now()).session
    found = parts.clients.client_of(session)
    return found if isinstance(found, Suspended) and found.cause == Cause.CLIENT_KEY_UNUSABLE else None


def _judged(did: str, outcome: RefreshOutcome) -> tuple[RefreshResult, ExitCode]:
    match outcome:
        case Refreshed(session):
            return RefreshResult(did, "refreshed", expires_at=session.expires_at), ExitCode.DONE
        case Current(session):
            return RefreshResult(did, "current", expires_at=session.expires_at), ExitCode.DONE
        case Gone():
            todo = report.action(did, State.RELOGIN_REQUIRED, None)
            return RefreshResult(
                did, "gone", "gone", "no session is stored", action=todo
            ), ExitCode.LOGIN_REQUIRED
        case Retry(code, message):
            return RefreshResult(did, "retrying", code, message), ExitCode.TRY_LATER
        case Ambiguous(code, message):
            return RefreshResult(did, "ambiguous", code, message), ExitCode.TRY_LATER
        case Suspended(cause, code, message):
            todo = report.action(did, State.SUSPENDED, cause)
            return RefreshResult(did, "suspended", code, message, action=todo), ExitCode.FAILED
        case ReloginRequired(cause, code, message):
            todo = report.action(did, State.RELOGIN_REQUIRED, cause)
            return RefreshResult(did, "relogin_required", code, message, action=todo), ExitCode.LOGIN_REQUIRED
        case Unpersisted(message):
            return RefreshResult(did, State.UNPERSISTED, Code.UNPERSISTED, message), ExitCode.FAILED


async def _refresh(
    config: Config, named: list[str], *, force: bool, revive: bool, json: bool
) -> list[tuple[RefreshResult, ExitCode]]:
    from idiolectd.parts import open_parts

    async with open_parts(config, command_events(config)) as parts:
        if named:
            dids = list(dict.fromkeys([await stored_did(parts, account) for account in named]))
        else:
            dids = await parts.store.list_dids()
        done: dict[str, tuple[RefreshResult, ExitCode]] = {}
        waiting = iter(dids)

        async def work() -> None:
            for did in waiting:
                done[did] = await refresh_one(parts, did, force=force, revive=revive)
                if not json:
                    put(_text(done[did][0]))

        # As many workers as requests are allowed at one server, instead of a task per session.
        async with anyio.create_task_group() as tg:
            for _ in range(min(config.refresh.concurrency, len(dids))):
                tg.start_soon(work)
    lines = [done[did] for did in dids]
    if json:
        put_json([asdict(line) for line, _ in lines])
    return lines


def _text(line: RefreshResult) -> str:
    parts = [f"{line.did}: {line.result}"]
    if line.expires_at is not None:
        parts.append(f", expires at {line.expires_at or 'an unknown time'}")
    if line.message is not None:
        parts.append(f": {line.message}{f' ({line.code})' if line.code else ''}")
    if line.action is not None:
        parts.append(f"; {line.action}")
    return "".join(parts)
