"""Whom a command is about: ACCOUNT is a DID, or a handle that a stored session carries."""

import contextlib
from functools import partial
from typing import TYPE_CHECKING

from idiolectd.cli.exits import CommandFailed, ExitCode
from idiolectd.did import is_meant_as_did, parse_did
from idiolectd.errors import HandleError, IdentityError, NoSessionError, RecordError, StoreError
from idiolectd.ports import SharedStore
from idiolectd.store import Claimants

if TYPE_CHECKING:
    from idiolectd.parts import Parts

# Whoever holds the claim brings what is written here himself, or the next look-up does.
_CONFIRMING = 5.0


async def stored_did(parts: "Parts", account: str) -> str:
    """The DID that is meant. A DID is taken as it is, whether anything is stored for it or not.

    A confirmed handle is looked up in the store only: it names the session that somebody logged in
    with. One that is not is confirmed now, and that is written down.

    Raises:
        DidError: it starts like a DID and is none.
        NoSessionError: no stored session has this handle.
        CommandFailed: it means none of those that carry it, or that can't be told.
    """
    if is_meant_as_did(account):
        return parse_did(account)
    claimants = await _claimants(parts.store, account)
    try:
        return claimants.the_one()
    except HandleError as error:
        try:
            found = await parts.identity.resolve_account(account)
        except IdentityError as why:
            code = ExitCode.FAILED if why.final else ExitCode.TRY_LATER
            dids = ", ".join(error.dids)
            raise CommandFailed(
                code, f"{account} is not confirmed to be the handle of {dids}: {why}; name the DID"
            ) from error
    if found.did not in claimants.dids:
        raise CommandFailed(
            ExitCode.FAILED,
            f"{account} is the handle of {found.did}, for which no session is stored, and not of"
            f" {', '.join(claimants.dids)}, whose session only says so",
        )
    with contextlib.suppress(StoreError):  # what was found is true all the same
        await parts.engine.name_session(found.did, found.handle, patience=_CONFIRMING)
    return found.did


async def stored_dids(store: SharedStore, account: str) -> list[str]:
    """The DIDs that may be meant, without asking anybody: for looking, not for acting.

    Raises:
        DidError: it starts like a DID and is none.
        NoSessionError: no stored session has this handle.
    """
    if is_meant_as_did(account):
        return [parse_did(account)]
    claimants = await _claimants(store, account)
    if not claimants.dids:
        raise NoSessionError(account)
    return claimants.confirmed or claimants.unconfirmed


async def chosen_did(parts: "Parts", account: str | None, did: str | None) -> str:
    """The account of a command that takes exactly one, by argument or by ``--did``."""
    return await stored_did(parts, one_account(account, did))


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


async def _claimants(store: SharedStore, handle: str) -> Claimants:
    """Those whose sessions carry a handle: by the store's index, and if that knows none for sure, of all."""
    claimants = Claimants(handle)
    for dids in (partial(store.called, claimants.wanted), store.list_dids):
        claimants = Claimants(handle)
        for did in await dids():
            with contextlib.suppress(RecordError):
                claimants.take(await store.load(did))
        if claimants.confirmed:
            break
    return claimants
