"""``idiolectd login``: logs an account in, in the browser (OAuth) or with an app password and stores it.

An app password is read from the environment or standard input; the option exists because the upstream CLI
has it. It is sent to the account's own PDS only, and not kept.
"""

import os
import sys
from collections.abc import Mapping
from dataclasses import replace
from enum import Enum, auto
from functools import partial
from getpass import getpass
from pathlib import Path

import click

from idiolectd.cli.accounts import one_account
from idiolectd.cli.credentials import Credentials, log_in, login_result, pds_url_of
from idiolectd.cli.existing_store import open_to_read
from idiolectd.cli.exits import CommandFailed, ExitCode
from idiolectd.cli.help_sections import SectionedCommand
from idiolectd.cli.options import Options, command_events, common
from idiolectd.cli.output import put, put_json, say
from idiolectd.cli.running import run_async
from idiolectd.cli.starting import say_who_refreshes
from idiolectd.cli.store_to_come import open_parts_to_log_in
from idiolectd.config import Config
from idiolectd.did import is_meant_as_did
from idiolectd.errors import LoginError, UrlError
from idiolectd.session import OAuthSession, normal_handle

# The upstream CLI's names, in its order.
PASSWORD_VARIABLES = ("ATPROTO_APP_PASSWORD", "ATPROTO_PASSWORD")


class LoginMethod(Enum):
    """How to log in."""

    APP_PASSWORD = auto()
    BROWSER = auto()
    PASTE = auto()  # OAuth too, with the browser on another machine


def choose_login_method(*, browser: bool, paste: bool, password: bool, terminal: bool) -> LoginMethod:
    """Chooses what the options name, else the app password if there is one, else the browser.

    Args:
        browser: ``--browser`` was given.
        paste: ``--paste`` was given.
        password: an app password was given by option or environment.
        terminal: standard input is a terminal; if it is not, an app password is read from it.
    """
    if paste:
        return LoginMethod.PASTE
    if browser:
        return LoginMethod.BROWSER
    return LoginMethod.APP_PASSWORD if password or not terminal else LoginMethod.BROWSER


def _pds_url(_context: click.Context, _parameter: click.Parameter, text: str | None) -> str | None:
    try:
        return None if text is None else pds_url_of(text)
    except UrlError as error:
        raise click.BadParameter(str(error)) from None


@click.command(
    "login",
    cls=SectionedCommand,
    sections={
        "Examples": (
            ("idiolectd login HANDLE", "in the browser"),
            ("idiolectd login HANDLE --paste", "the browser is on another machine"),
            ("pass show NAME | idiolectd login HANDLE", "with an app password from another program"),
            (
                "idiolectd login --handle HANDLE --pds-url https://bsky.social",
                "as the upstream CLI spells it",
            ),
            ("idiolectd login --batch accounts.txt", "many accounts, with app passwords"),
        ),
    },
)
@click.argument("account", required=False, metavar="ACCOUNT")
@click.option("--handle", metavar="ACCOUNT", help="The same as ACCOUNT, as the upstream CLI spells it.")
@click.option(
    "--pds-url",
    metavar="URL",
    callback=_pds_url,
    help="Log in at this PDS; the account's DID document must name it. [default: the account's PDS]",
)
@click.option("--browser", is_flag=True, help="Use the browser, even if an app password is given.")
@click.option(
    "--paste",
    is_flag=True,
    help="Use a browser on another machine: shows the address to open there, and reads the address"
    " of the last page.",
)
@click.option(
    "--port",
    metavar="N",
    type=click.IntRange(1024, 65535),
    help="Wait for the browser on this port of 127.0.0.1, as forwarded by ssh -L N:127.0.0.1:N."
    " [default: any that is free]",
)
@click.option(
    "--app-password",
    metavar="[P]",
    is_flag=False,
    flag_value="",
    help="Use an app password; without P behind it, it is asked for. P can be seen by other users in the"
    " process list.",
)
@click.option(
    "--auth-factor-token",
    metavar="CODE",
    envvar="ATPROTO_AUTH_FACTOR_TOKEN",
    help="The sign-in code that the PDS has sent by e-mail; only the account's main password needs one."
    " [default: $ATPROTO_AUTH_FACTOR_TOKEN, or asked for on the terminal]",
)
@click.option(
    "--batch",
    metavar="FILE",
    type=click.Path(path_type=Path, allow_dash=True),
    help="Log many accounts in with app passwords: lines ACCOUNT PASSWORD [PDS_URL], or JSON lines."
    " - is standard input.",
)
@common
@click.pass_obj
def login_command(
    options: Options,
    account: str | None,
    handle: str | None,
    pds_url: str | None,
    browser: bool,
    paste: bool,
    port: int | None,
    app_password: str | None,
    auth_factor_token: str | None,
    batch: Path | None,
) -> int:
    """Log an account in, by the browser or with an app password, and store its session.

    ACCOUNT is a handle or a DID. The browser opens, you log in at the account's own server, and the server
    redirects the browser back to this command. A running daemon refreshes the session from then on. A stored
    session of the same account is replaced. On a machine without a browser, forward a port (--port) or use
    --paste.

    With an app password (made in the account's settings, not the main password) no browser is needed:
    put it into $ATPROTO_APP_PASSWORD or $ATPROTO_PASSWORD, or write it to standard input.

    --batch skips accounts that have a living session, so it can be repeated until it exits 0. It keeps
    to the servers' limit of 30 logins in 5 minutes, and waits when a server asks for it. A JSON line
    is {"account": ..., "password": ..., "pds_url": ...}.
    """
    if batch is not None:
        from idiolectd.cli.batch import login_many, read_batch

        if any((account, handle, pds_url, app_password, browser, paste, port)):
            raise CommandFailed(
                ExitCode.USAGE, "--batch names the accounts and passwords; leave the rest out"
            )
        wanted = read_batch(batch)
        config = options.load_as_owner(making=True)
        options.say_unused()
        return run_async(partial(login_many, config, wanted, json=options.json))
    name = one_account(account, handle)
    if app_password is not None and (browser or paste):
        raise CommandFailed(ExitCode.USAGE, "--app-password needs no browser; leave one of them out")
    password = app_password or _password_of(os.environ)
    way = choose_login_method(
        browser=browser,
        paste=paste,
        password=app_password is not None or password is not None,
        terminal=sys.stdin.isatty(),
    )
    if port is not None and way is not LoginMethod.BROWSER:
        raise CommandFailed(ExitCode.USAGE, "--port is for the browser: add --browser, without --paste")
    config = options.load_as_owner(making=True)
    options.say_unused()
    if way is LoginMethod.APP_PASSWORD:
        credentials = Credentials(name, password or _asked_password(name), pds_url, auth_factor_token)
        session = _log_in_by_password(config, credentials, may_ask=not options.json)
    else:
        how = partial(
            _log_in_by_browser, config, name, pds_url, paste=way is LoginMethod.PASTE, port=port or 0
        )
        session = run_async(how)
    run_async(partial(_tell_what_follows, config, session.did))
    if options.json:
        put_json(login_result(session, config))
    else:
        put(f"logged in: {session.known_as or session.did} ({session.did}) at {session.pds_url}")
    return ExitCode.DONE


def _log_in_by_password(config: Config, credentials: Credentials, *, may_ask: bool) -> OAuthSession:
    """Logs in; if the PDS has sent a sign-in code by e-mail, asks the person for it and logs in once more."""
    from idiolectd.xrpc import AUTH_FACTOR_TOKEN_REQUIRED

    try:
        return run_async(partial(_log_in, config, credentials))
    except LoginError as error:
        if error.code != AUTH_FACTOR_TOKEN_REQUIRED or credentials.auth_factor_token is not None:
            raise
        if not (may_ask and sys.stdin.isatty()):
            again = "log in again with --auth-factor-token CODE, or $ATPROTO_AUTH_FACTOR_TOKEN"
            raise CommandFailed(ExitCode.FAILED, f"{error}; {again}") from None
        say(str(error))
    code = click.prompt("sign-in code", err=True).strip()
    return run_async(partial(_log_in, config, replace(credentials, auth_factor_token=code)))


async def _log_in(config: Config, credentials: Credentials) -> OAuthSession:
    async with open_parts_to_log_in(config, command_events(config)) as parts:
        located = await parts.hosting.locate(credentials.account, credentials.pds_url)
        session = await log_in(parts, credentials, located)
    asked = credentials.account
    if not is_meant_as_did(asked) and normal_handle(session.handle or "") != normal_handle(asked):
        say(f"the account's handle is {session.handle or 'unknown'}, not {asked}")
    return session


async def _log_in_by_browser(
    config: Config, account: str, pds_url: str | None, *, paste: bool, port: int
) -> OAuthSession:
    from idiolectd.cli.browser.flow import BrowserLogin, log_in_by_browser

    async with open_parts_to_log_in(config, command_events(config)) as parts:
        return await log_in_by_browser(parts, config, BrowserLogin(account, pds_url, paste, port))


async def _tell_what_follows(config: Config, did: str) -> None:
    """Tells who refreshes the session from now on, or what has to be started for that."""
    async with open_to_read(config) as store:
        if (await store.read(did)).state.paused:  # a login does not end a pause
            resume = config.commands.typed("resume", did)
            say(f"the session is paused, as it was before, and not refreshed until: {resume}")
        else:
            say_who_refreshes(config, store)


def _password_of(environ: Mapping[str, str]) -> str | None:
    return next((environ[name] for name in PASSWORD_VARIABLES if environ.get(name)), None)


def _asked_password(account: str) -> str:
    """Reads the app password from the terminal, unseen, or else from standard input."""
    if sys.stdin.isatty():
        password = getpass(f"app password of {account}: ")
    else:
        password = sys.stdin.readline().rstrip("\r\n")
    if not password:
        raise CommandFailed(
            ExitCode.USAGE,
            f"no app password: set ${PASSWORD_VARIABLES[0]}, or write it to standard input;"
            " to log in without one, add --browser or --paste",
        )
    return password
