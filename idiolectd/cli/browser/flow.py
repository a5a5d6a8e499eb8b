"""One login by way of the browser, from the account to the stored session, told step by step.

account → DID → PDS → authorization server → pushed request → browser → code → claim → exchange → save

Rules: the session is stored only if it is the account's that was asked for, under the claim on it;
from the sending of the code to the save nothing cancels. Whatever else arrives is revoked.
"""

import os
import sys
from contextlib import AsyncExitStack
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, TypeVar

import anyio

from idiolectd.cli.browser.arrival import Arrival, wait_arrival
from idiolectd.cli.browser.listener import Listener, open_listener
from idiolectd.cli.browser.opening import may_open, opened
from idiolectd.cli.browser.pages import failure, success
from idiolectd.cli.exits import judged
from idiolectd.cli.output import say, show
from idiolectd.config import Config
from idiolectd.did import parse_did
from idiolectd.errors import IdiolectError, LoginError, RecordError
from idiolectd.finish import finish
from idiolectd.http import origin
from idiolectd.identity import INVALID_HANDLE, Account, parse_handle
from idiolectd.oauth import Authorization, AuthorizationServer, LoginClient, loopback_client
from idiolectd.outcome import Retry
from idiolectd.session import OAuthSession
from idiolectd.state import session_deadline, shown

if TYPE_CHECKING:
    from idiolectd.parts import Parts

# A person may have to find a password and a second factor. The server's own patience is usually less.
_PATIENCE = 600.0

# Longer than one refresh may take: whoever holds the claim now is through by then.
_CLAIM_PATIENCE = 60.0

# For ending a session that must not be stored; nobody else holds its tokens.
_REVOKING = 20.0

FoundT = TypeVar("FoundT")


@dataclass(frozen=True)
class Wish:
    """What a person asks for.

    Attributes:
        account: a handle or a DID.
        pds_url: where it is; None: where it resolves to.
        paste: open no browser and listen nowhere: the person brings the answer.
        port: where to listen for the browser; 0: on any free port.
    """

    account: str
    pds_url: str | None
    paste: bool
    port: int


async def log_in_by_browser(parts: "Parts", config: Config, wish: Wish) -> OAuthSession:
    """Logs one account in and stores its session durably.

    Raises:
        DidError: it is named by something that is not a DID.
        IdentityError: the account does not resolve.
        LoginError: server or person refuse, or what was granted is not what was asked for.
        CommandFailed: the port is taken, nobody came back in time, or the input ended.
        TransportError: a server can't be reached, or its answer was lost.
        StoreError: the session can't be stored; `LockBusy`: somebody else works on it.
    """
    async with AsyncExitStack() as stack:
        listener = None if wish.paste else await stack.enter_async_context(open_listener(wish.port))
        account = await _resolve(parts, wish)
        issuer = _found(await parts.discovery.issuer_of_pds(account.pds_url))
        server = _found(await parts.discovery.server(issuer))
        say(f"{_name(account)} is {account.did}, at {account.pds_url}; logins are at {issuer}")
        authorization = await _begin(parts, config, account, server, listener)
        await _show(stack, authorization, config, listener)
        arrival = await wait_arrival(authorization.is_ours, listener, patience=_PATIENCE)
        return await _complete(parts, config, authorization, account, arrival)
    raise AssertionError("none of these swallows an error")


# Before the browser ---------------------------------------------------------------------------------


async def _resolve(parts: "Parts", wish: Wish) -> Account:
    """Who it is and where. A PDS that the operator names is believed."""
    if wish.pds_url is None:
        say(f"looking up {wish.account}")
        return await parts.identity.resolve_account(wish.account)
    pds_url = origin(wish.pds_url)
    if wish.account.startswith("did:"):
        return Account(parse_did(wish.account), INVALID_HANDLE, pds_url)
    say(f"asking {pds_url} for {wish.account}")
    did = await parts.identity.resolve_handle_at(wish.account, pds_url)
    return Account(did, parse_handle(wish.account), pds_url)


def _found(answer: FoundT | Retry) -> FoundT:
    if isinstance(answer, Retry):
        # It answered, and not with what it should; or it is a place where no request may go.
        lasting = answer.code in ("discovery", "guard")
        raise LoginError(answer.code, answer.message, retry_after=answer.retry_after, passing=not lasting)
    return answer


async def _begin(
    parts: "Parts",
    config: Config,
    account: Account,
    server: AuthorizationServer,
    listener: Listener | None,
) -> Authorization:
    client, suffix = _client(parts, config, listener.port if listener else None)
    return await Authorization.push(
        parts.http,
        parts.clock,
        server,
        client,
        scope=config.oauth.scope,
        login_hint=_name(account),
        state_suffix=suffix,
    )


def _client(parts: "Parts", config: Config, port: int | None) -> tuple[LoginClient, str]:
    """The client to log in with, and the end of its state: the hosted page finds the port there."""
    wanted = config.oauth.login_client_id
    if wanted is None:
        return loopback_client(config.oauth.scope, port), ""
    for client in config.oauth.clients:
        if client.client_id == wanted and client.redirect_uri is not None:
            auth = parts.clients.for_login(wanted)
            return LoginClient(auth, client.redirect_uri), "" if port is None else f".{port}"
    raise LoginError("client_unknown", f"oauth.clients has no client {wanted} with a redirect_uri")


# The browser ----------------------------------------------------------------------------------------


async def _show(
    stack: AsyncExitStack, authorization: Authorization, config: Config, listener: Listener | None
) -> None:
    """Says what to do, and opens the browser if it is here."""
    trying = listener is not None and may_open(os.environ)
    is_opened = trying and await stack.enter_async_context(opened(authorization.url))
    minutes = f", within {authorization.expires_in / 60:.0f} minutes" if authorization.expires_in else ""
    what = "your browser should open now; if not, open this address" if is_opened else "open this address"
    say(f"{what} in a browser{minutes}, and log in there:")
    show(authorization.url)
    if config.oauth.login_client_id is not None:
        then = "if the page it ends on shows an address, paste that here"
    else:
        then = (
            "it ends on a page that can't be opened: copy the whole address from the browser's address"
            " bar, and paste it here"
        )
    if listener is None:
        say(then)
    elif sys.stdin.isatty():
        say(f"waiting for the browser. If it runs on another machine, {then}")
    else:
        say(f"waiting for the browser on port {listener.port} of 127.0.0.1")


# After the browser ----------------------------------------------------------------------------------


async def _complete(
    parts: "Parts", config: Config, authorization: Authorization, account: Account, arrival: Arrival
) -> OAuthSession:
    try:
        code = authorization.read_redirect(arrival.query)
        say("the browser is back; fetching the session")
        async with parts.store.claim(account.did, patience=_CLAIM_PATIENCE):
            before = await _stored(parts, account.did)
            await parts.store.ensure_room()
            # From here on the only copy of the tokens may be on its way.
            session = await finish(_exchange, parts, config, authorization, account, code, before)
    except IdiolectError as error:
        _, message = judged(error)
        await arrival.answer(failure(message, "Go back to the terminal, and run idiolectd login once more."))
        raise
    until = (shown(session_deadline(session, config.oauth.session_life_of(session))) or "")[:10] or None
    await arrival.answer(success(session.handle or session.did, until))
    end = f": refreshed until {until}, then a new login is needed" if until else ""
    say(f"the session is stored{end}")
    return session


async def _stored(parts: "Parts", did: str) -> OAuthSession | None:
    """What is replaced; a record that can't be read is replaced too."""
    try:
        return await parts.store.load(did)
    except RecordError:
        return None


async def _exchange(
    parts: "Parts",
    config: Config,
    authorization: Authorization,
    account: Account,
    code: str,
    before: OAuthSession | None,
) -> OAuthSession:
    """From the code to the stored session. Bounded by the exchange's and the store's own deadlines."""
    granted = await authorization.exchange(code, account)
    session = granted.session
    if granted.misfit is not None:
        raise LoginError("misfit", f"{granted.misfit}; nothing was stored, {await _revoked(parts, session)}")
    deadline = session_deadline(session, config.oauth.session_life_of(session))
    session = replace(session, refresh_expires_at=shown(deadline))
    if before is not None:
        # A new login keeps its place: other programs' fields, and a name where none is confirmed now.
        session = replace(session, handle=session.handle or before.handle, extra=before.extra)
    await parts.store.save(session)
    return session


async def _revoked(parts: "Parts", session: OAuthSession) -> str:
    """Ends what must not be stored, as well as can be; says whether it has."""
    with anyio.move_on_after(_REVOKING):
        if await parts.refresher_for(session).revoke(session) is None:
            return "and what was granted has been revoked"
    return f"and what was granted could not be revoked: end it in the account's settings at {session.issuer}"


def _name(account: Account) -> str:
    return account.did if account.handle == INVALID_HANDLE else account.handle
