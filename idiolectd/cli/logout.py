"""``idiolectd logout``: revokes a session at its server, then deletes it from the store.

A session that is only deleted from the store stays valid for anybody who has a copy. So, except with
``--local``, nothing is deleted before the server is known to refuse the refresh token.
"""

from contextlib import suppress
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

import click

from idiolectd.cli.accounts import chosen_did
from idiolectd.cli.command_note import note
from idiolectd.cli.existing_store import require_store
from idiolectd.cli.exits import CommandFailed, ExitCode
from idiolectd.cli.help_sections import SectionedCommand
from idiolectd.cli.options import Options, command_events, common
from idiolectd.cli.output import put, put_json, say
from idiolectd.cli.running import run_async
from idiolectd.config import Config
from idiolectd.errors import RecordError, StoreError
from idiolectd.policy import CLAIM_PATIENCE
from idiolectd.ports import NotRevoked
from idiolectd.state import reconcile

if TYPE_CHECKING:
    from idiolectd.parts import Parts


@click.command(
    "logout",
    cls=SectionedCommand,
    sections={
        "Examples": (
            ("idiolectd logout HANDLE", "at its server, then here"),
            ("idiolectd logout --did DID", "as the upstream CLI spells it"),
            ("idiolectd logout HANDLE --local", "here, even if its server does not answer"),
        ),
    },
)
@click.argument("account", required=False, metavar="ACCOUNT")
@click.option("--did", metavar="DID", help="The same as ACCOUNT, as the upstream CLI spells it.")
@click.option("--local", is_flag=True, help="Delete the session here even if its server does not end it.")
@common
@click.pass_obj
def logout_command(options: Options, account: str | None, did: str | None, local: bool) -> int:
    """Revoke a session at its server, then delete it here.

    ACCOUNT is a DID, or a handle that is in the store. If the server can't be reached (exit 75) or
    did not end the session (exit 1), nothing is deleted; repeat it later, or use --local.
    """
    config = options.load_as_owner()
    require_store(config)
    gone, revoked = run_async(partial(_log_out, config, account, did, local=local))
    if options.json:
        put_json({"did": gone, "revoked": revoked, "deleted": True})
    else:
        put(f"logged out: {gone}{'' if revoked else ' (here only)'}")
    return ExitCode.DONE


async def log_out(parts: "Parts", did: str, *, local: bool) -> bool:
    """Revokes and deletes a session; returns whether its server has ended it.

    Raises:
        CommandFailed: no session is stored, or the server did not end it and `local` is not set.
        LockBusy: another process holds the session's claim.
        RecordError: the record can't be read, and `local` is not set.
        StoreError: the store can't answer.
    """
    session = None
    async with parts.store.claim(did, patience=CLAIM_PATIENCE):
        with suppress(RecordError):  # it may be deleted all the same
            session = await parts.store.load(did)
        # A session that is revoked and can't be deleted would look alive: so the store is tested first.
        await parts.store.ensure_room()
        await parts.store.ensure_writable()
        why = await _revoke(parts, did, local=local)
        if why is not None:
            if not local:
                raise CommandFailed(
                    ExitCode.TRY_LATER if why.passing else ExitCode.FAILED,
                    f"{did} was not ended at its server: {why.message}; nothing was deleted."
                    " Try again later, or delete it here only: --local",
                )
            say(f"warning: {did} may live on at its server: {why.message}")
        try:
            await parts.store.delete(did)
        except StoreError as error:
            ended = "may live on at its server" if why is not None else "has ended at its server"
            again = parts.commands.typed("logout", did, "--local")
            raise StoreError(
                f"{did} {ended}, and could not be deleted here: {error}; then: {again}"
            ) from error
    await note(parts, did, "logout", "done" if why is None else "here only", session=session)
    return why is None


async def _revoke(parts: "Parts", did: str, *, local: bool) -> NotRevoked | None:
    """Revokes the session at its server; returns the reason if that did not work."""
    try:
        entry = await parts.store.read(did)
    except RecordError as error:
        if not local:
            raise
        return NotRevoked(str(error), passing=False)
    if entry.session is None:
        raise CommandFailed(
            ExitCode.FAILED, f"no session is stored for {did}; {parts.commands.typed('list')} shows which are"
        )
    # The reconciled session: if another program has put a spent token back, sending that revokes nothing.
    adopted = reconcile(entry.session, entry.state, parts.clock.now())
    session, refresher = adopted.session, parts.refresher_for(adopted.session)
    if adopted.state.previous_refresh_token is not None:
        not_revoked = await refresher.revoke(
            replace(session, refresh_jwt=adopted.state.previous_refresh_token)
        )
        if not_revoked is not None:
            return not_revoked
    return await refresher.revoke(session)


async def _log_out(config: Config, account: str | None, did: str | None, *, local: bool) -> tuple[str, bool]:
    from idiolectd.parts import open_parts

    async with open_parts(config, command_events(config)) as parts:
        found = await chosen_did(parts, account, did)
        return found, await log_out(parts, found, local=local)
