"""``idiolectd refresh``: refreshes sessions once, by the daemon's code and under the same claim."""

from dataclasses import asdict, dataclass, replace
from functools import partial
from typing import TYPE_CHECKING

import anyio
import click

from idiolectd.cli.accounts import stored_did
from idiolectd.cli.bug_isolation import isolate_bug
from idiolectd.cli.command_note import note
from idiolectd.cli.existing_store import require_store
from idiolectd.cli.exits import CommandFailed, ExitCode, code_of, worst
from idiolectd.cli.help_sections import SectionedCommand
from idiolectd.cli.options import Options, command_events, common
from idiolectd.cli.output import put, put_json
from idiolectd.cli.running import run_async
from idiolectd.config import Config
from idiolectd.errors import IdiolectError, RecordError
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
from idiolectd.remedy import remedy_for, remedy_for_unreadable
from idiolectd.session import OAuthSession
from idiolectd.state import State, reconcile

if TYPE_CHECKING:
    from idiolectd.parts import Parts

# How many sessions `--all` works on at a time, unless `refresh.concurrency` says.
_AT_ONCE = 8


# Results that nobody reads of in the daemon's log.
_NOTHING_DONE = ("current", "gone")


@dataclass(frozen=True)
class RefreshResult:
    """The result of one session's refresh; a line of the output."""

    did: str
    result: str
    code: str | None = None
    message: str | None = None
    expires_at: str | None = None
    cause: str | None = None
    action: str | None = None
    advice: str | None = None


@click.command(
    "refresh",
    cls=SectionedCommand,
    sections={
        "Examples": (
            ("idiolectd refresh HANDLE", "if it is due"),
            ("idiolectd refresh --force HANDLE", "now"),
            ("idiolectd refresh --all --json", "what is due, for a program"),
            (
                "idiolectd refresh --revive HANDLE",
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
            session = await _stored_session(parts, did)
            unusable = _unusable_key(parts, session)
            if unusable is not None:
                todo = remedy_for(did, State.SUSPENDED, unusable.cause, session=session)
                advice = todo.advice if todo is not None else None
                result = RefreshResult(did, "failed", unusable.code, unusable.message, advice=advice)
                return result, ExitCode.USAGE
            attempt = await parts.engine.refresh(did, force=force, revive=revive, patience=CLAIM_PATIENCE)
        except RecordError as error:
            todo = remedy_for_unreadable(did, error.place, commands=parts.commands)
            result = RefreshResult(did, "failed", Cause.UNREADABLE, redact(str(error)))
            return replace(result, action=todo.command, advice=todo.advice), ExitCode.FAILED
        except IdiolectError as error:
            code = code_of(error)
            name = "try_later" if code is ExitCode.TRY_LATER else "failed"
            return RefreshResult(did, name, message=redact(str(error))), code
        result, state, code = _judged(did, attempt.outcome)
        todo = None
        if state is not None:
            todo = remedy_for(did, state, result.cause, session=session, commands=parts.commands)
        if todo is not None:
            result = replace(result, action=todo.command, advice=todo.advice)
        return result, code

    return await isolate_bug(
        did, work, lambda message: (RefreshResult(did, "failed", Cause.BUG, message), ExitCode.FAILED)
    )


async def _stored_session(parts: "Parts", did: str) -> OAuthSession | None:
    entry = await parts.store.read(did)
    if entry.session is None:
        return None
    return reconcile(entry.session, entry.state, parts.clock.now()).session


def _unusable_key(parts: "Parts", session: OAuthSession | None) -> Suspended | None:
    """Returns why this process can't use the client's key; it may not be allowed to read the daemon's key.

    Checked before the engine runs, because the engine would save this as the session's state, and the daemon
    would then suspend the session.
    """
    if session is None or session.kind != "dpop":
        return None
    found = parts.clients.client_of(session)
    return found if isinstance(found, Suspended) and found.cause == Cause.CLIENT_KEY_UNUSABLE else None


def _judged(did: str, outcome: RefreshOutcome) -> tuple[RefreshResult, State | None, ExitCode]:
    """Returns the result, the state that a person may have to mend, and the exit code."""
    match outcome:
        case Refreshed(session):
            return RefreshResult(did, "refreshed", expires_at=session.expires_at), None, ExitCode.DONE
        case Current(session):
            return RefreshResult(did, "current", expires_at=session.expires_at), None, ExitCode.DONE
        case Gone():
            result = RefreshResult(did, "gone", "gone", "no session is stored")
            return result, State.RELOGIN_REQUIRED, ExitCode.LOGIN_REQUIRED
        case Retry(code, message):
            return RefreshResult(did, "retrying", code, message), None, ExitCode.TRY_LATER
        case Ambiguous(code, message):
            return RefreshResult(did, "ambiguous", code, message), None, ExitCode.TRY_LATER
        case Suspended(cause, code, message):
            result = RefreshResult(did, "suspended", code, message, cause=cause)
            return result, State.SUSPENDED, ExitCode.FAILED
        case ReloginRequired(cause, code, message):
            result = RefreshResult(did, "relogin_required", code, message, cause=cause)
            return result, State.RELOGIN_REQUIRED, ExitCode.LOGIN_REQUIRED
        case Unpersisted(message):
            result = RefreshResult(did, "unpersisted", Code.UNPERSISTED, message)
            return result, State.UNPERSISTED, ExitCode.FAILED


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
                result = done[did][0]
                if result.result not in _NOTHING_DONE:
                    await note(parts, did, "refresh", result.result, code=result.code, error=result.message)
                if not json:
                    for line in _lines(done[did][0]):
                        put(line)

        # As many workers as requests may be in flight at one server, instead of a task per session.
        async with anyio.create_task_group() as tg:
            for _ in range(min(config.refresh.concurrency or _AT_ONCE, len(dids))):
                tg.start_soon(work)
    lines = [done[did] for did in dids]
    if json:
        put_json([asdict(line) for line, _ in lines])
    return lines


def _lines(found: RefreshResult) -> list[str]:
    """Formats a result: one line, and below it what to do, the command on a line of its own."""
    parts = [f"{found.did}: {found.result}"]
    if found.expires_at is not None:
        parts.append(f", expires at {found.expires_at or 'an unknown time'}")
    if found.message is not None:
        parts.append(f": {found.message}{f' ({found.code})' if found.code else ''}")
    todo = [f"    {text}" for text in (found.advice, found.action) if text is not None]
    return ["".join(parts), *todo]
