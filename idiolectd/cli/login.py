"""``idiolectd login``: an app password becomes a stored session.

The password comes from the environment, a prompt or standard input; an option exists because the
upstream CLI has it. It goes to the account's own PDS only, and is forgotten afterwards.
"""

import os
import sys
from functools import partial
from pathlib import Path

import click

from idiolectd.cli.accounts import normal_handle, one_account
from idiolectd.cli.credentials import Credentials, log_in, outcome_of
from idiolectd.cli.exits import CommandFailed, ExitCode
from idiolectd.cli.options import Options, command_events, common
from idiolectd.cli.output import put, put_json, say
from idiolectd.cli.running import run_async
from idiolectd.cli.teaching import TeachingCommand
from idiolectd.config import Config
from idiolectd.session import OAuthSession

# The upstream CLI's names, in its order.
PASSWORD_VARIABLES = ("ATPROTO_APP_PASSWORD", "ATPROTO_PASSWORD")


@click.command(
    "login",
    cls=TeachingCommand,
    sections={
        "Examples": (
            ("idiolectd login alice.example", "asks for the app password"),
            ("pass show alice | idiolectd login alice.example", "takes it from another program"),
            ("idiolectd login --handle bot.example --pds-url https://pds.example", "resolves nothing"),
            ("idiolectd login --batch accounts.txt", "logs in all who are not yet"),
        ),
    },
)
@click.argument("account", required=False, metavar="ACCOUNT")
@click.option("--handle", metavar="ACCOUNT", help="The same as ACCOUNT, as the upstream CLI spells it.")
@click.option("--pds-url", metavar="URL", help="Log in there. [default: the PDS the account lives on]")
@click.option(
    "--app-password",
    metavar="P",
    help="The app password. Other users can see it in the process list: prefer"
    " $ATPROTO_APP_PASSWORD, or the prompt.",
)
@click.option(
    "--batch",
    metavar="FILE",
    type=click.Path(path_type=Path, allow_dash=True),
    help="Log many accounts in: lines ACCOUNT PASSWORD [PDS_URL], or JSON lines. - is standard input.",
)
@common
@click.pass_obj
def login_command(
    options: Options,
    account: str | None,
    handle: str | None,
    pds_url: str | None,
    app_password: str | None,
    batch: Path | None,
) -> int:
    """Log in with an app password and store the session.

    ACCOUNT is a handle or a DID. The app password (made in the account's settings, not the main
    password) is taken from $ATPROTO_APP_PASSWORD or $ATPROTO_PASSWORD, else asked for; without a
    terminal it is the first line of standard input. A running daemon takes the session over within a
    second. A stored session of the same account is replaced.

    With --batch the sessions that live are skipped, so it can be repeated until it exits 0. It keeps
    to the servers' limit of 30 logins in 5 minutes, and waits when a server asks for it. A JSON line
    is {"account": ..., "password": ..., "pds_url": ...}.
    """
    if batch is not None:
        from idiolectd.cli.batch import login_many, read_batch

        if any((account, handle, pds_url, app_password)):
            raise CommandFailed(
                ExitCode.USAGE, "--batch names the accounts and passwords; leave the rest out"
            )
        wanted = read_batch(batch)
        config = options.load_as_owner()
        return run_async(partial(login_many, config, wanted, json=options.json))
    name = one_account(account, handle)
    config = options.load_as_owner()
    password = app_password or _password(name)
    session = run_async(partial(_log_in, config, Credentials(name, password, pds_url)))
    if options.json:
        put_json(outcome_of(session))
    else:
        put(f"logged in: {session.handle or session.did} ({session.did}) at {session.pds_url}")
    return ExitCode.DONE


async def _log_in(config: Config, credentials: Credentials) -> OAuthSession:
    from idiolectd.parts import open_parts

    async with open_parts(config, command_events(config)) as parts:
        session = await log_in(parts, credentials)
    asked = credentials.account
    if not asked.startswith("did:") and normal_handle(session.handle or "") != normal_handle(asked):
        say(f"the account's handle is {session.handle or 'unknown'}, not {asked}")
    return session


def _password(account: str) -> str:
    for variable in PASSWORD_VARIABLES:
        if password := os.environ.get(variable):
            return password
    if sys.stdin.isatty():
        prompt = f"App password for {account}"
        return str(click.prompt(prompt, hide_input=True, err=True))
    password = sys.stdin.readline().rstrip("\r\n")
    if not password:
        raise CommandFailed(
            ExitCode.USAGE, f"no app password: set ${PASSWORD_VARIABLES[0]}, or write it to standard input"
        )
    return password
