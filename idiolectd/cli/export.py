"""``idiolectd export``: writes sessions in another program's form, for that program to go on with them.

A session is paused here before it is written: two programs that refresh one session end it. An export that was
interrupted leaves paused sessions and no file, and is repeated.
"""

import json
import os
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from idiolectd.cli.accounts import stored_did
from idiolectd.cli.command_note import note
from idiolectd.cli.existing_store import require_store
from idiolectd.cli.exits import CommandFailed, ExitCode
from idiolectd.cli.help_sections import SectionedCommand
from idiolectd.cli.options import Options, command_events, common
from idiolectd.cli.output import put, put_json, say
from idiolectd.cli.progress import progress
from idiolectd.cli.running import run_async
from idiolectd.config import Config, user_name
from idiolectd.did import file_name
from idiolectd.errors import NoSessionError, SessionError
from idiolectd.finish import in_thread
from idiolectd.hosting import found_or_error
from idiolectd.moving import FORMS, Form, form_named
from idiolectd.policy import CLAIM_PATIENCE
from idiolectd.session import OAuthSession
from idiolectd.store import replace_file, translated

if TYPE_CHECKING:
    from idiolectd.oauth import AuthorizationServer
    from idiolectd.parts import Parts

_FORMS = [form.name for form in FORMS if form.encode is not None]


@click.command(
    "export",
    cls=SectionedCommand,
    sections={
        "Examples": (
            ("idiolectd export HANDLE --form node --to sessions.json", "for a Node program; paused here"),
            ("idiolectd export --all --form record --to FOLDER", "for idiolect's CLI: a file for each"),
            ("idiolectd export --all --form record --to all.jsonl --keep", "a copy, one record a line"),
        ),
        "Forms": tuple((form.name, form.program) for form in FORMS if form.encode is not None),
    },
)
@click.argument("accounts", metavar="ACCOUNT...", nargs=-1)
@click.option("--all", "everything", is_flag=True, help="Export every session of the store.")
@click.option("--form", metavar="FORM", type=click.Choice(_FORMS), required=True, help="The form to write.")
@click.option(
    "--to",
    "target",
    metavar="FILE",
    type=click.Path(path_type=Path),
    required=True,
    help="The file to write, which must not exist; a name without an ending is a folder for --form record.",
)
@click.option(
    "--keep",
    is_flag=True,
    help="Go on refreshing here: the file is a copy that no other program may refresh.",
)
@common
@click.pass_obj
def export_command(
    options: Options, accounts: Sequence[str], everything: bool, form: str, target: Path, keep: bool
) -> int:
    """Write sessions in another program's form, and pause them here.

    The file holds refresh tokens, and is readable by you only. A session that is exported is not refreshed
    here until `idiolectd resume`.
    """
    if everything == bool(accounts):
        raise CommandFailed(ExitCode.USAGE, "name accounts, or --all")
    if os.path.lexists(target):
        raise CommandFailed(ExitCode.USAGE, f"{target} exists already; name another file")
    target = Path(os.path.abspath(target))  # noqa: PTH100 - keeps symlinks
    config = options.load_as_owner()
    require_store(config)
    if not os.access(
        target.parent, os.W_OK | os.X_OK, effective_ids=True
    ):  # before a session is paused for it
        raise CommandFailed(
            ExitCode.USAGE, f"{user_name()} can't write in {target.parent}; name another place"
        )
    names = None if everything else accounts
    dids = run_async(partial(_export, config, names, form_named(form), target, keep=keep))
    if options.json:
        put_json({"form": form, "file": str(target), "dids": dids, "paused": not keep})
    else:
        put(f"exported: {len(dids)} to {target}")
    if keep:
        say("these sessions are still refreshed here: a program that refreshes the copies ends them")
    else:
        say(
            f"these sessions are paused here, for good or until: {config.commands.typed('resume', 'ACCOUNT')}"
        )
    return ExitCode.DONE


async def _export(
    config: Config, accounts: Sequence[str] | None, form: Form, target: Path, *, keep: bool
) -> list[str]:
    from idiolectd.parts import open_parts

    async with open_parts(config, command_events(config)) as parts:
        if accounts is None:
            dids = await parts.store.list_dids()
        else:
            dids = [await stored_did(parts, account) for account in accounts]
        dids = list(dict.fromkeys(dids))
        # All of them before the first is paused: one that has no place in the form ends the command.
        encoded = {did: await _encoded(parts, form, did) for did in dids}
        if not keep:
            with progress("exporting", len(dids)) as advance:
                for did in dids:
                    await parts.engine.pause(did, paused=True, patience=CLAIM_PATIENCE)
                    # Since it is paused nobody changes it any more; a refresh may have come before.
                    encoded[did] = await _encoded(parts, form, did)
                    advance()
        await in_thread(_write, form, encoded, target)
        for did in dids:
            await note(parts, did, "export")
    return dids


async def _encoded(parts: "Parts", form: Form, did: str) -> Any:
    if form.encode is None:
        raise CommandFailed(ExitCode.USAGE, f"nothing can be exported for {form.program}")
    stored = await parts.store.read(did)
    if stored.session is None:
        raise NoSessionError(did)
    session = stored.state.pins.restored_to(stored.session)
    server = None
    if session.kind == "dpop" and form.name != "record":
        session, server = await _with_server(parts, session)
    try:
        return form.encode(session, server)
    except SessionError as error:
        raise CommandFailed(
            ExitCode.FAILED, f"{did} can't be exported for {form.program}: {error}; nothing was exported"
        ) from None


async def _with_server(parts: "Parts", session: OAuthSession) -> "tuple[OAuthSession, AuthorizationServer]":
    """The session with its issuer, and the issuer's endpoints, which some programs keep."""
    issuer = session.issuer or found_or_error(await parts.discovery.issuer_of_pds(session.pds_url))
    return replace(session, issuer=issuer), found_or_error(await parts.discovery.server(issuer))


def _write(form: Form, encoded: dict[str, Any], target: Path) -> None:
    """Writes the file under another name first: whoever finds it finds all of it."""
    with translated(f"can't write {target}"):
        if form.name == "record" and not target.suffix:
            target.mkdir(0o700)
            for did, value in encoded.items():
                replace_file(target / file_name(did), json.dumps(value).encode())
            return
        hidden = target.with_name(f".{target.name}.{os.getpid()}")
        try:
            replace_file(hidden, _document(form, encoded).encode())
            os.link(hidden, target)  # unlike a rename it never replaces what came meanwhile
        finally:
            with suppress(OSError):
                hidden.unlink()


def _document(form: Form, encoded: dict[str, Any]) -> str:
    """The whole file: Node programs keep a map by DID, the others' sessions stand in a line each."""
    if form.name == "node":
        return json.dumps(encoded, indent=2) + "\n"
    lines = (value if isinstance(value, str) else json.dumps(value) for value in encoded.values())
    return "".join(f"{line}\n" for line in lines)
