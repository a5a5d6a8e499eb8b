"""``idiolectd headers``: prints the headers that authorize one request, for curl and the like.

A DPoP proof (RFC 9449) is valid for one request, for about a minute, and with a recent nonce of the server.
So the command first sends a request with the same token to the PDS, and takes the nonce from its response.
"""

import time
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING

import click

from idiolectd.auth import auth_headers, check_destination
from idiolectd.cli.accounts import one_account, stored_did
from idiolectd.cli.existing_store import require_store
from idiolectd.cli.exits import CommandFailed, ExitCode
from idiolectd.cli.help_sections import SectionedCommand
from idiolectd.cli.options import Options, command_events, common
from idiolectd.cli.output import put, put_json, say
from idiolectd.cli.running import run_async
from idiolectd.clock import SystemClock
from idiolectd.config import Config
from idiolectd.errors import HandleError, TokenWithheld
from idiolectd.http import origin
from idiolectd.session import OAuthSession
from idiolectd.store import Reading, open_reading, read_keys, session_of
from idiolectd.url import GET_SESSION, xrpc_url

if TYPE_CHECKING:
    from idiolectd.events import Event


@click.command(
    "headers",
    cls=SectionedCommand,
    sections={
        "Examples": (
            (
                "curl -H @<(idiolectd headers HANDLE --url $URL) $URL",
                "a GET; the shell gives curl the headers as a file, so that no other user sees them",
            ),
            (
                "curl -H @<(idiolectd headers HANDLE -X POST --url $URL) --json @body $URL",
                "the method is part of the proof",
            ),
            ("idiolectd headers HANDLE --url $URL --json", "an object, for a program"),
        ),
    },
)
@click.argument("account", required=False, metavar="ACCOUNT")
@click.option("--did", metavar="DID", help="The same as ACCOUNT.")
@click.option("--method", "-X", default="GET", show_default=True, help="The HTTP method of the request.")
@click.option("--url", required=True, metavar="URL", help="The URL of the request, at the session's PDS.")
@click.option("--nonce", metavar="N", help="The server's DPoP nonce. [default: asked from the PDS]")
@click.option("--any-host", is_flag=True, help="Give the token to another host than the session's PDS.")
@common
@click.pass_obj
def headers_command(
    options: Options,
    account: str | None,
    did: str | None,
    method: str,
    url: str,
    nonce: str | None,
    any_host: bool,
) -> int:
    """Print the headers that authorize one request. Use them at once, for that request only.

    ACCOUNT is a DID, or a handle that is in the store. The headers contain the access token: keep them out
    of logs and argument lists. Exit codes: 3 the session needs a login, 75 the PDS refuses the token until
    the next refresh, or does not answer.
    """
    config = options.load_as_owner()
    require_store(config)
    session = _stored_session(config, one_account(account, did))
    is_home = _check_host(session, url, any_host=any_host)
    clock = 0.0
    if nonce is None:
        # Not on trio, as what writes a store: to load it would cost as much as all else that is done here.
        nonce, clock = run_async(partial(_asked_nonce, config, session), backend="asyncio")
        if not is_home and session.kind == "dpop":
            nonce = None
            say("warning: that host may require its own DPoP nonce, from its response: --nonce")
    found = auth_headers(session, method, url, nonce=nonce, now=time.time() + clock)
    if options.json:
        put_json(found)
    else:
        for name, value in found.items():
            put(f"{name}: {value}")
    return ExitCode.DONE


def _reading(config: Config) -> Reading:
    return open_reading(config.store.url, looking=True, keys=read_keys(config.store))


def _stored_session(config: Config, account: str) -> OAuthSession:
    """Reads the session of an account; resolves its handle, if that was not confirmed yet."""
    reading = _reading(config)
    with suppress(HandleError):
        return session_of(reading, account)
    return session_of(reading, run_async(partial(_resolved, config, account)))


async def _resolved(config: Config, account: str) -> str:
    from idiolectd.parts import open_parts

    async with open_parts(config, command_events(config), looking=True) as parts:
        return await stored_did(parts, account)


def _check_host(session: OAuthSession, url: str, *, any_host: bool) -> bool:
    """Returns whether the URL is at the session's PDS.

    Raises:
        CommandFailed: the token must not be sent to it.
    """
    try:
        check_destination(session, url)
    except TokenWithheld as error:
        if not any_host:
            raise CommandFailed(
                ExitCode.USAGE,
                f"{session.did}: its token belongs to {session.pds_url}; for another host: --any-host",
            ) from error
        check_destination(session, url, also=[origin(url)])
        return False
    return True


async def _asked_nonce(config: Config, session: OAuthSession) -> tuple[str | None, float]:
    """Calls getSession at the PDS with the access token.

    Returns:
        The DPoP nonce of the response, and by how many seconds the server's clock is ahead of ours.

    Raises:
        CommandFailed: the PDS refuses the token.
        TransportError: the PDS does not answer.
    """
    from idiolectd.http import error_of, make_http
    from idiolectd.oauth import DpopKey, dpop

    url = xrpc_url(session.pds_url, GET_SESSION)
    token = session.access_jwt
    async with make_http(config, SystemClock(), partial(_tell, config)) as http:
        if session.kind == "bearer":
            answer = await http.request("GET", url, headers={"Authorization": f"Bearer {token}"})
        else:
            key = DpopKey.from_jwk_json(session.dpop_private_key_jwk)
            answer = await dpop.request(http, key, "GET", url, access_token=token)
        if answer.status in (400, 401):
            raise _refused(config, session, error_of(answer) or f"http_{answer.status}")
        if answer.status != 200:
            raise CommandFailed(
                ExitCode.TRY_LATER,
                f"the PDS {session.pds_url} answered {answer.status}; try again, or pass a --nonce",
            )
        return http.nonces.get(dpop.nonce_key(url, token)), http.skew(origin(url))


def _tell(config: Config, event: "Event") -> None:
    command_events(config)(event)  # made when it is needed: most often nothing has to be told


def _refused(config: Config, session: OAuthSession, code: str) -> CommandFailed:
    from idiolectd.state import State, reconcile

    now = time.time()
    state = reconcile(
        session,
        _reading(config).state(session.did, now),
        now,
    ).state
    if state.state is State.RELOGIN_REQUIRED:
        return CommandFailed(
            ExitCode.LOGIN_REQUIRED,
            f"the session of {session.did} has ended; run: {config.commands.login(session.did, session)}",
        )
    if state.refusals and state.last_error is not None:
        return CommandFailed(
            ExitCode.TRY_LATER,
            f"the PDS {session.pds_url} refused the access token of {session.did} ({code}), and its server refuses to"
            f" refresh it ({state.last_error.message}); it is retried: {config.commands.typed('status', session.did)}",
        )
    return CommandFailed(
        ExitCode.TRY_LATER,
        f"the PDS {session.pds_url} refused the access token of {session.did} ({code}); a running daemon refreshes"
        f" it, or: {config.commands.typed('refresh', '--force', session.did)}",
    )
