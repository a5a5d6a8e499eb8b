"""Logs one account in by the browser, from the handle to the stored session; reports each step.

account → DID → PDS → authorization server → pushed request → browser → code → claim → exchange → save

The session is stored only if it belongs to the account that was named, and under that account's claim; any
other is revoked. Nothing cancels the work between sending the code and saving the session.
"""

import os
import sys
from contextlib import AsyncExitStack
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from idiolectd.cli.browser.authorization_response import AuthorizationResponse, wait_authorization_response
from idiolectd.cli.browser.launch import may_open, opened
from idiolectd.cli.browser.listener import Listener, open_listener
from idiolectd.cli.browser.pages import failure, success
from idiolectd.cli.command_note import note
from idiolectd.cli.credentials import revoke_refused, stored_record, unanswered
from idiolectd.cli.exits import judged
from idiolectd.cli.output import say, show
from idiolectd.config import Config
from idiolectd.errors import IdentityError, IdiolectError, LoginError, TransportError
from idiolectd.finish import finish
from idiolectd.hosting import found_or_error
from idiolectd.identity import INVALID_HANDLE, Account
from idiolectd.oauth import AuthorizationRequest, AuthorizationServer, LoginClient, loopback_client
from idiolectd.outcome import Cause
from idiolectd.policy import CLAIM_PATIENCE
from idiolectd.session import OAuthSession
from idiolectd.state import session_deadline, shown

if TYPE_CHECKING:
    from idiolectd.parts import Parts

# Seconds: a person may have to find a password and a second factor. Servers usually keep the pushed request
# for less.
_LOGIN_TIMEOUT = 600.0


@dataclass(frozen=True)
class BrowserLogin:
    """The arguments of a login by the browser.

    Attributes:
        account: a handle or a DID.
        pds_url: the account's PDS as the person names it; None: the one that the account resolves to.
        paste: open no browser and no port: the person pastes the response.
        port: the port to listen on for the redirect; 0: any free port.
    """

    account: str
    pds_url: str | None
    paste: bool
    port: int


async def log_in_by_browser(parts: "Parts", config: Config, login: BrowserLogin) -> OAuthSession:
    """Logs one account in and stores its session durably.

    Raises:
        DidError: the account starts like a DID and is not a valid one.
        IdentityError: the account does not resolve.
        LoginError: the server or the person refuses, or the granted session is not the one requested.
        CommandFailed: the port is taken, no response came in time, standard input ended, the issuer can't be
            reached, or its response was lost.
        StoreError: the session can't be stored; `LockBusy`: another process holds its claim.
    """
    async with AsyncExitStack() as stack:
        listener = None if login.paste else await stack.enter_async_context(open_listener(login.port))
        account = await _locate(parts, login)
        issuer = await parts.hosting.issuer_of(account)
        server = found_or_error(await parts.discovery.server(issuer))
        say(
            f"{_name(account)} is {account.did}, at the PDS {account.pds_url}; logins are at the issuer {issuer}"
        )
        authorization = await _begin(parts, config, account, server, listener)
        await _show(stack, authorization, config, listener)
        response = await wait_authorization_response(authorization.is_ours, listener, patience=_LOGIN_TIMEOUT)
        return await _complete(parts, config, authorization, account, response)
    raise AssertionError("none of these swallows an error")


# Before the browser ---------------------------------------------------------------------------------


async def _locate(parts: "Parts", login: BrowserLogin) -> Account:
    """Finds the account's DID and PDS, and checks them before the person logs in there."""
    say(f"looking up {login.account}{f' for {login.pds_url}' if login.pds_url else ''}")
    account = await parts.hosting.locate(login.account, login.pds_url)
    if account is None:
        raise IdentityError(f"{login.account!a} is neither a handle nor a DID", final=True)
    return account


async def _begin(
    parts: "Parts",
    config: Config,
    account: Account,
    server: AuthorizationServer,
    listener: Listener | None,
) -> AuthorizationRequest:
    client, suffix = _client(parts, config, listener.port if listener else None)
    try:
        return await AuthorizationRequest.push(
            parts.http,
            parts.clock,
            server,
            client,
            scope=config.oauth.scope,
            login_hint=_name(account),
            state_suffix=suffix,
        )
    except TransportError as error:
        raise unanswered("issuer", error) from error


def _client(parts: "Parts", config: Config, port: int | None) -> tuple[LoginClient, str]:
    """Returns the client to log in with, and the suffix of `state` that tells the hosted page the port."""
    wanted = config.oauth.login_client_id
    if wanted is None:
        return loopback_client(config.oauth.scope, port), ""
    for client in config.oauth.clients:
        if client.client_id == wanted and client.redirect_uri is not None:
            auth = parts.clients.for_login(wanted)
            return LoginClient(auth, client.redirect_uri), "" if port is None else f".{port}"
    raise LoginError(Cause.CLIENT_UNKNOWN, f"oauth.clients has no client {wanted} with a redirect_uri")


# The browser ----------------------------------------------------------------------------------------


async def _show(
    stack: AsyncExitStack, authorization: AuthorizationRequest, config: Config, listener: Listener | None
) -> None:
    """Opens the browser if there is one on this machine, and shows the person what to do."""
    trying = listener is not None and may_open(os.environ)
    is_opened = trying and await stack.enter_async_context(opened(authorization.url))
    minutes = f", within {authorization.expires_in / 60:.0f} minutes" if authorization.expires_in else ""
    what = "your browser should open now; if not, open this address" if is_opened else "open this address"
    say(f"{what} in a browser{minutes}, and log in there:")
    show(authorization.url)
    if config.oauth.login_client_id is not None:
        then = "if the last page shows an address, paste that here"
    else:
        then = (
            "the last page can't be opened: copy its whole address from the browser's address bar, and"
            " paste it here"
        )
    if listener is None:
        say(then)
    elif sys.stdin.isatty():
        say(f"waiting for the browser. If it runs on another machine, {then}")
    else:
        say(f"waiting for the browser on port {listener.port} of 127.0.0.1")


# After the browser ----------------------------------------------------------------------------------


async def _complete(
    parts: "Parts",
    config: Config,
    authorization: AuthorizationRequest,
    account: Account,
    response: AuthorizationResponse,
) -> OAuthSession:
    try:
        code = authorization.read_response(response.query)
        say("the login was confirmed; fetching the session")
        async with parts.store.claim(account.did, patience=CLAIM_PATIENCE):
            before = await stored_record(parts, account.did)
            await parts.store.ensure_room()
            # From here on the only copy of the tokens may be in the response: nothing cancels.
            session = await finish(_exchange, parts, config, authorization, account, code, before)
    except IdiolectError as error:
        _, message = judged(error)
        await response.answer(failure(message, "Go back to the terminal, and run idiolectd login once more."))
        raise
    until = (shown(session_deadline(session, config.oauth.session_life_of(session))) or "")[:10] or None
    await response.answer(success(session.known_as or session.did, until))
    end = f": it can be refreshed until {until}, then a new login is needed" if until else ""
    say(f"the session is stored{end}")
    return session


async def _exchange(
    parts: "Parts",
    config: Config,
    authorization: AuthorizationRequest,
    account: Account,
    code: str,
    before: OAuthSession | None,
) -> OAuthSession:
    """Exchanges the code for a session and stores it, within the deadlines of exchange and store."""
    try:
        granted = await authorization.exchange(code, account)
    except TransportError as error:
        raise unanswered("issuer", error) from error
    if granted.mismatch is not None:
        raise await revoke_refused(parts, granted.session, LoginError("misfit", granted.mismatch))
    try:
        session = await parts.hosting.admit(granted.session, account)
    except (LoginError, IdentityError) as error:
        raise await revoke_refused(parts, granted.session, error) from error
    deadline = session_deadline(session, config.oauth.session_life_of(session))
    session = replace(session, refresh_expires_at=shown(deadline))
    if before is not None:
        # A new login keeps other programs' fields, and the old handle if none is confirmed now.
        session = replace(session, handle=session.handle or before.handle, extra=before.extra)
    await parts.store.save(session)
    await note(parts, session.did, "login", session=session)
    return session


def _name(account: Account) -> str:
    return account.did if account.handle == INVALID_HANDLE else account.handle
