"""``idiolectd import``: takes over the sessions that another program keeps.

First it shows what it would do. A session that is taken over is refreshed here, which uses up the refresh token
that the other program still has, so that program has to stop; only a person can say that it has. Each session is
checked like the one of a login before it is stored, and never replaces a stored one that lives, unless the
server's own times say that it is newer. Each is stored by itself: an import that was interrupted is repeated.
"""

import sys
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import click

from idiolectd.cli.bug_isolation import isolate_bug
from idiolectd.cli.command_note import note
from idiolectd.cli.exits import CommandFailed, ExitCode, code_of, worst
from idiolectd.cli.help_sections import SectionedCommand
from idiolectd.cli.options import Options, command_events, common
from idiolectd.cli.output import joined, put, put_json, say
from idiolectd.cli.progress import progress
from idiolectd.cli.running import run_async
from idiolectd.cli.store_to_come import open_parts_to_log_in
from idiolectd.config import Config
from idiolectd.errors import IdiolectError, RecordError
from idiolectd.log import redact
from idiolectd.moving import (
    FORMS,
    Found,
    Unusable,
    form_named,
    read_sessions,
    read_source,
    with_columns,
)
from idiolectd.moving.columns import COLUMNS
from idiolectd.policy import CLAIM_PATIENCE
from idiolectd.session import OAuthSession
from idiolectd.state import RecordOrder, State, order_of

if TYPE_CHECKING:
    from idiolectd.parts import Parts

Result = Literal["would_import", "imported", "stored_already", "kept", "unusable", "failed", "try_later"]

_CODES: dict[Result, ExitCode] = {
    "would_import": ExitCode.DONE,
    "imported": ExitCode.DONE,
    "stored_already": ExitCode.DONE,
    "kept": ExitCode.DONE,
    "unusable": ExitCode.FAILED,
    "failed": ExitCode.FAILED,
    "try_later": ExitCode.TRY_LATER,
}


@dataclass(frozen=True)
class ImportLine:
    """What becomes of one entry of the source; a line of the output.

    Attributes:
        where: its place in the source.
        form: what it was taken for; None: nothing that is known.
        did: whose session it is.
        result: what became of it.
        message: why, or what else there is to know.
    """

    where: str
    form: str | None
    did: str | None
    result: Result
    message: str | None = None


@dataclass(frozen=True)
class _Wishes:
    """How sessions are taken over.

    Attributes:
        client_id: the OAuth client of those that name none.
        offline: no server is asked whether it hosts the account.
        storing: whether they are stored, or only looked at.
    """

    client_id: str | None
    offline: bool
    storing: bool


def _columns(_context: click.Context, _parameter: click.Parameter, pairs: Sequence[str]) -> dict[str, str]:
    named = {}
    for pair in pairs:
        ours, _, theirs = pair.partition("=")
        if ours not in COLUMNS or not theirs:
            raise click.BadParameter(f"{pair!a}: expected NAME=COLUMN, NAME one of {joined(COLUMNS)}")
        named[ours] = theirs
    return named


@click.command(
    "import",
    cls=SectionedCommand,
    sections={
        "Examples": (
            ("idiolectd import sessions.json", "what would be imported"),
            ("idiolectd import sessions.json --yes", "import it; the other program is stopped"),
            (
                "idiolectd import app.db --client-id https://app.example/client-metadata.json",
                "of this client",
            ),
            (
                "idiolectd import bots.csv --column did=account --column pds_url=server",
                "names of your own",
            ),
        ),
        "Forms": tuple((form.name, form.program) for form in FORMS),
    },
)
@click.argument("source", metavar="SOURCE", type=click.Path(path_type=Path))
@click.option(
    "--form",
    metavar="FORM",
    type=click.Choice([form.name for form in FORMS]),
    help="Take every entry for this form. [default: each is what it looks like]",
)
@click.option(
    "--column",
    "columns",
    metavar="NAME=COLUMN",
    multiple=True,
    callback=_columns,
    help=f"How a source of your own calls a column; NAME is one of {joined(COLUMNS)}.",
)
@click.option(
    "--client-id",
    metavar="URL",
    help="The OAuth client of those sessions that don't name theirs, and whose tokens don't.",
)
@click.option(
    "--offline", is_flag=True, help="Ask no server whether it hosts the account: a wrong entry is stored too."
)
@click.option("--yes", is_flag=True, help="Import; whoever refreshed these sessions until now is stopped.")
@common
@click.pass_obj
def import_command(
    options: Options,
    source: Path,
    form: str | None,
    columns: dict[str, str],
    client_id: str | None,
    offline: bool,
    yes: bool,
) -> int:
    """Take over sessions that another program keeps.

    SOURCE is a file, a folder or a SQLite database, and is not changed. Without --yes it is shown what would be
    imported; on a terminal, you are asked then.

    Stop the other program first. From the first refresh here its refresh token is used up, and a session
    whose old token is sent ends.
    """
    if columns and form not in (None, "columns"):
        raise CommandFailed(ExitCode.USAGE, "--column is for a source of your own: leave --form out")
    entries = read_source(source)  # before root becomes the store's owner, who may not be allowed to read it
    config = options.load_as_owner(making=True)
    options.say_unused()
    wanted = with_columns(columns) if columns else form_named(form) if form is not None else None
    found, others = _sorted_out(read_sessions(entries, wanted))
    _say_what_was_found(found, others)
    wishes = _Wishes(client_id, offline, storing=yes)
    lines = run_async(partial(_import, config, found, wishes, show=not options.json))
    may_ask = not yes and not options.json and sys.stdin.isatty()
    if may_ask and any(line.result == "would_import" for line in lines):
        if click.confirm("have they stopped, and is all of this to be imported?", err=True):
            wishes = replace(wishes, storing=True)
            lines = run_async(partial(_import, config, found, wishes, show=True))
    elif not yes and not options.json:
        say("nothing was imported; add --yes to import")
    if options.json:
        put_json([asdict(line) for line in lines])
    _say_ages(config, found, lines)
    counts = Counter(line.result for line in lines)
    say(f"{len(lines)} entries: {joined(f'{count} {result}' for result, count in sorted(counts.items()))}")
    return worst(_CODES[line.result] for line in lines)


def _sorted_out(found: Sequence[Found | Unusable]) -> tuple[list[Found | Unusable], Counter[str]]:
    """Leaves out the rows of other tables: what looks like no session, where there are sessions too."""
    are_sessions = [one for one in found if isinstance(one, Found) or one.form is not None]
    if not are_sessions:
        return list(found), Counter()
    others = [
        one.where.rpartition(", ")[0] for one in found if isinstance(one, Unusable) and one.form is None
    ]
    return are_sessions, Counter(others)


def _say_what_was_found(found: Sequence[Found | Unusable], others: Counter[str]) -> None:
    """Says which forms were found, what has to stop for each, and what else there is."""
    counts = Counter(one.form for one in found if isinstance(one, Found))
    for name, count in counts.items():
        form = form_named(name)
        say(f"{count} of {form.program} (--form {form.name}); to be stopped before: {form.stop}")
    for where, count in others.items():
        say(f"{count} in {where}: no sessions of a known form")


async def _import(
    config: Config, found: Sequence[Found | Unusable], wishes: _Wishes, *, show: bool
) -> list[ImportLine]:
    lines = []
    what = "importing" if wishes.storing else "looking"
    async with open_parts_to_log_in(config, command_events(config)) as parts:
        with progress(what, len(found)) as advance:
            for one in found:
                line = await _line(parts, one, wishes)
                lines.append(line)
                advance()
                if show:
                    put(_shown(line))
    return lines


def _say_ages(config: Config, found: Sequence[Found | Unusable], lines: Sequence[ImportLine]) -> None:
    """Says when sessions end of which nobody knows when they began: the other program did not keep it."""
    lives = [
        config.oauth.session_life_of(one.session)
        for one, line in zip(found, lines, strict=True)
        if isinstance(one, Found) and line.result in ("would_import", "imported")
        if one.session.kind == "dpop" and one.session.session_started_at is None
    ]
    for life, count in Counter(lives).items():
        say(
            f"nobody knows when {count} of these sessions began: each ends in {life / 86400:.0f} days at the latest,"
            " and perhaps sooner; a login begins a new one"
        )


def _shown(line: ImportLine) -> str:
    what = f"{line.where}: {line.result}"
    if line.did is not None and line.did not in line.where:
        what = f"{line.where} ({line.did}): {line.result}"
    return f"{what}: {line.message}" if line.message else what


async def _line(parts: "Parts", one: Found | Unusable, wishes: _Wishes) -> ImportLine:
    if isinstance(one, Unusable):
        return ImportLine(one.where, one.form, None, "unusable", one.why)
    did = one.session.did

    def failed(message: str) -> ImportLine:
        return ImportLine(one.where, one.form, did, "failed", message)

    try:
        return await isolate_bug(did, partial(_one, parts, one, wishes), failed)
    except IdiolectError as error:
        later = code_of(error) is ExitCode.TRY_LATER
        return replace(failed(redact(str(error))), result="try_later" if later else "failed")


async def _one(parts: "Parts", found: Found, wishes: _Wishes) -> ImportLine:
    """Imports one session, or finds out what would become of it."""
    session = found.session
    line = ImportLine(found.where, found.form, session.did, "would_import", found.advice)
    standing = await _beside_stored(parts, session)
    if standing is not None:
        return replace(line, result=standing[0], message=standing[1])
    session = await _fit(parts, session, wishes)
    if not wishes.storing:
        return line
    async with parts.store.claim(session.did, patience=CLAIM_PATIENCE):
        # Somebody may have logged in meanwhile.
        standing = await _beside_stored(parts, session)
        if standing is not None:
            return replace(line, result=standing[0], message=standing[1])
        await parts.store.save(session)
    await note(parts, session.did, "import", session=session)
    return replace(line, result="imported")


async def _beside_stored(parts: "Parts", session: OAuthSession) -> tuple[Result, str] | None:
    """Compares with what is stored for the account; None: nothing stands in the way of the import."""
    try:
        stored = await parts.store.read(session.did)
    except RecordError:
        return None  # a login would replace it too
    if stored.session is None:
        return None
    if stored.session.refresh_token_hash == session.refresh_token_hash:
        return "stored_already", "this refresh token is stored"
    if session.refresh_token_hash in stored.state.spent:
        return "kept", "this refresh token was used up here; the stored session is newer"
    order = order_of(session, stored.session)
    if order is RecordOrder.NEWER:
        return None
    if stored.state.state is State.RELOGIN_REQUIRED and order is RecordOrder.UNKNOWN:
        return None
    why = "is newer" if order is not RecordOrder.UNKNOWN else "may be newer, and lives"
    return "kept", f"the stored session of this account {why}; to replace it, log it out first"


async def _fit(parts: "Parts", session: OAuthSession, wishes: _Wishes) -> OAuthSession:
    """Returns the session in the form to store: checked like a login's, of a client that is known."""
    if session.kind == "dpop" and session.client_id is None:
        if wishes.client_id is None:
            raise CommandFailed(
                ExitCode.USAGE, "neither the entry nor its token names the OAuth client: add --client-id URL"
            )
        session = replace(session, client_id=wishes.client_id)
    if not wishes.offline:
        if session.kind == "dpop" and session.issuer is None:
            account = await parts.identity.resolve_account(session.did)
            session = replace(session, issuer=await parts.hosting.issuer_of(account))
        session = await parts.hosting.admit(session, None)
    # The upstream CLI, which may share this folder, reads no record without it.
    return replace(session, extra={**session.extra, "pds_url": session.pds_url})
