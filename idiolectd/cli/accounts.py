"""Finds the DID of a command's ACCOUNT argument: a DID, or the handle of a stored session."""

import contextlib
from collections.abc import Sequence
from typing import TYPE_CHECKING

from idiolectd.cli.exits import CommandFailed, ExitCode
from idiolectd.did import is_meant_as_did, parse_did
from idiolectd.errors import HandleError, IdentityError, NoSessionError, RecordError, StoreError
from idiolectd.session import normal_handle
from idiolectd.store import Claimants

if TYPE_CHECKING:
    from idiolectd.parts import Parts
    from idiolectd.ports import SharedStore

# Seconds to wait for the claim. Without it the handle is not saved: the claim's holder or the next look-up
# confirms it again.
_CONFIRMING = 5.0


async def stored_did(parts: "Parts", account: str) -> str:
    """Returns the DID of an account. A DID is returned as it is, whether a session is stored for it or not.

    A handle that is confirmed in one stored session is looked up in the store only. An unconfirmed one is
    resolved on the network now, and saved as confirmed.

    Raises:
        DidError: the account starts like a DID and is not a valid one.
        NoSessionError: no stored session has this handle.
        CommandFailed: the handle resolves to none of the sessions that have it, or can't be resolved.
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
    with contextlib.suppress(StoreError):  # the resolved DID is right even if it can't be saved
        await parts.engine.name_session(found.did, found.handle, patience=_CONFIRMING)
    return found.did


async def stored_dids(store: "SharedStore", account: str) -> list[str]:
    """Returns the DIDs that an account may be, without network: for commands that only read.

    Raises:
        DidError: the account starts like a DID and is not a valid one.
        NoSessionError: no stored session has this handle.
    """
    if is_meant_as_did(account):
        return [parse_did(account)]
    claimants = await _claimants(store, account)
    if not claimants.dids:
        raise NoSessionError(account)
    return claimants.confirmed or claimants.unconfirmed


async def chosen_did(parts: "Parts", account: str | None, did: str | None) -> str:
    """Returns the DID for a command that takes exactly one account, as an argument or by ``--did``."""
    return await stored_did(parts, one_account(account, did))


def one_account(account: str | None, alias: str | None) -> str:
    """Returns the account that the argument or the option names.

    Raises:
        CommandFailed: neither names one, or they name two different ones.
    """
    named = {name for name in (account, alias) if name}
    if len(named) != 1:
        what = "name one account, not two" if named else "which account? name a DID or a handle"
        raise CommandFailed(ExitCode.USAGE, what)
    return named.pop()


async def _claimants(store: "SharedStore", handle: str) -> Claimants:
    """Finds the sessions with a handle: in the store's index; in all records, if that may not have all of them."""
    called = await store.called(normal_handle(handle))
    claimants = await _read_claimants(store, handle, called.dids)
    if claimants.confirmed or called.is_all:
        return claimants
    return await _read_claimants(store, handle, await store.list_dids())


async def _read_claimants(store: "SharedStore", handle: str, dids: Sequence[str]) -> Claimants:
    claimants = Claimants(handle)
    for did in dids:
        with contextlib.suppress(RecordError):
            claimants.take(await store.load(did))
    return claimants
