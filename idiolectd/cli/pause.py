"""``idiolectd pause`` and ``resume``: stops refreshing a session, and starts again.

For a time in which another program refreshes it, or nobody may: a migration, an investigation.
"""

from functools import partial

import click

from idiolectd.cli.accounts import chosen_did
from idiolectd.cli.command_note import note
from idiolectd.cli.existing_store import require_store
from idiolectd.cli.exits import ExitCode
from idiolectd.cli.help_sections import SectionedCommand
from idiolectd.cli.options import Options, command_events, common
from idiolectd.cli.output import put, put_json
from idiolectd.cli.running import run_async
from idiolectd.config import Config
from idiolectd.policy import CLAIM_PATIENCE


@click.command(
    "pause",
    cls=SectionedCommand,
    sections={
        "Examples": (
            ("idiolectd pause HANDLE", "no refresh from now on"),
            ("idiolectd resume HANDLE", "as before"),
            ("idiolectd status --state suspended", "shows it as suspended (paused)"),
        ),
    },
)
@click.argument("account", required=False, metavar="ACCOUNT")
@click.option("--did", metavar="DID", help="The same as ACCOUNT.")
@common
@click.pass_obj
def pause_command(options: Options, account: str | None, did: str | None) -> int:
    """Stop refreshing a session until `resume`.

    A refresh that is under way is finished first. From then on neither the daemon nor `refresh` nor a
    client's refresh_if_needed sends the refresh token. A restart or a login does not end the pause. The
    access token can be used until it expires.
    """
    return _command(options, account, did, paused=True)


@click.command(
    "resume",
    cls=SectionedCommand,
    sections={"Examples": (("idiolectd resume HANDLE", "refreshed at once, if it is due"),)},
)
@click.argument("account", required=False, metavar="ACCOUNT")
@click.option("--did", metavar="DID", help="The same as ACCOUNT.")
@common
@click.pass_obj
def resume_command(options: Options, account: str | None, did: str | None) -> int:
    """Let the daemon refresh a paused session again.

    It notices within a second.
    """
    return _command(options, account, did, paused=False)


def _command(options: Options, account: str | None, did: str | None, *, paused: bool) -> int:
    config = options.load_as_owner()
    require_store(config)
    found = run_async(partial(_pause, config, account, did, paused=paused))
    if options.json:
        put_json({"did": found, "paused": paused})
    else:
        put(f"{'paused' if paused else 'resumed'}: {found}")
    return ExitCode.DONE


async def _pause(config: Config, account: str | None, did: str | None, *, paused: bool) -> str:
    from idiolectd.parts import open_parts

    async with open_parts(config, command_events(config)) as parts:
        found = await chosen_did(parts, account, did)
        await parts.engine.pause(found, paused=paused, patience=CLAIM_PATIENCE)
        await note(parts, found, "pause" if paused else "resume")
    return found
