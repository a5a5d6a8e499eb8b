"""Whom a command is about: ACCOUNT is a DID, or a handle that a stored session carries."""

from idiolectd.cli.exits import CommandFailed, ExitCode
from idiolectd.did import parse_did
from idiolectd.errors import NoSessionError, RecordError
from idiolectd.ports import OAuthTokenStore
from idiolectd.session import normal_handle


async def stored_did(store: OAuthTokenStore, account: str) -> str:
    """The DID that is meant. A DID is taken as it is, whether anything is stored for it or not.

    A handle is looked up in the store only: it names the session that somebody logged in with, and
    nobody has to be asked who owns that name today.

    Raises:
        DidError: it starts like a DID and is none.
        NoSessionError: no stored session has this handle.
        CommandFailed: more than one has.
    """
    if account.startswith("did:"):
        return parse_did(account)
    handle = normal_handle(account)
    found = [did for did in await store.list_dids() if await _handle_of(store, did) == handle]
    match found:
        case [did]:
            return did
        case []:
            raise NoSessionError(account)
        case _:
            dids = ", ".join(found)
            raise CommandFailed(
                ExitCode.USAGE, f"{account} is the handle of several sessions; name one: {dids}"
            )


async def chosen_did(store: OAuthTokenStore, account: str | None, did: str | None) -> str:
    """The account of a command that takes exactly one, by argument or by ``--did``."""
    return await stored_did(store, one_account(account, did))


def one_account(account: str | None, alias: str | None) -> str:
    """The one account that was named.

    Raises:
        CommandFailed: none, or two different ones.
    """
    named = {name for name in (account, alias) if name}
    if len(named) != 1:
        what = "name one account, not two" if named else "which account? name a DID or a handle"
        raise CommandFailed(ExitCode.USAGE, what)
    return named.pop()


async def _handle_of(store: OAuthTokenStore, did: str) -> str | None:
    try:
        session = await store.load(did)
    except RecordError:
        return None
    return normal_handle(session.handle) if session is not None and session.handle else None
