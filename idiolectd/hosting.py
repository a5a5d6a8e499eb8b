"""Finds the servers that host an account, and checks that a new session comes from one of them.

The DID document decides: DID → PDS → issuer, and the handle in both directions
(https://atproto.com/specs/oauth#identity-authentication). The `did` or `sub` in a server's answer to a login
proves nothing: any PDS can put any value there, and the session would replace the one that is stored for that
DID.

`cli` logs in and stores. An entryway (one authorization server for many PDSs) may be named instead of a PDS,
as users of the upstream CLI do, if the account's own PDS names it as its authorization server.
"""

from dataclasses import dataclass, replace
from typing import Protocol, TypeVar

import anyio

from idiolectd.did import directory, is_meant_as_did, parse_did
from idiolectd.errors import IdentityError, LoginError, NotSent
from idiolectd.http import origin
from idiolectd.identity import INVALID_HANDLE, Account, Identity, parse_handle
from idiolectd.outcome import Code, Retry
from idiolectd.session import OAuthSession

# Time limit for confirming a handle: PDS and issuer must be checked even if the handle's host or name server
# does not answer.
_HANDLE_SECONDS = 8.0


@dataclass(frozen=True)
class CurrentHost:
    """The current PDS and handle of an account.

    Attributes:
        pds_url: the origin of its PDS.
        handle: its handle, confirmed in both directions; empty: it has none; None: not asked for, or no
            source could be asked.
        claimed: the handle that its document claims.
    """

    pds_url: str
    handle: str | None
    claimed: str | None

    def naming(self, session: OAuthSession) -> OAuthSession:
        """The account's session with the handle found here; unchanged if none was looked up."""
        if self.handle is None:
            return session
        shown = self.handle or self.claimed or session.handle
        return replace(session, handle=shown, confirmed_handle=self.handle)


class IssuerLookup(Protocol):
    """Finds the issuer whose tokens a PDS accepts (`idiolectd.oauth.Discovery`)."""

    async def issuer_of_pds(self, pds_url: str) -> str | Retry:
        """The issuer's URL, or why it could not be found."""
        ...


class Hosting:
    """Looks an account up before a login, checks the session after it, and checks again from time to time.

    Args:
        identity: resolves handles and DIDs.
        discovery: finds the issuer of a PDS.
    """

    def __init__(self, identity: Identity, discovery: IssuerLookup) -> None:
        self._identity = identity
        self._discovery = discovery

    async def locate(self, account: str, pds_url: str | None = None) -> Account | None:
        """Finds the account of a login and its PDS.

        Args:
            account: a DID or a handle; with `pds_url` also any other name that the PDS accepts, such as an
                e-mail address.
            pds_url: the server to log in at; None: the account's PDS.

        Returns:
            The account; None if only the named PDS can tell who it is.

        Raises:
            DidError: the account begins like a DID but is not one.
            IdentityError: it does not resolve.
            LoginError: the account is not at `pds_url`; no password should be sent there.
            NotSent: `pds_url` is not the URL of a PDS.
        """
        if pds_url is None:
            return await self._identity.resolve_account(account)
        named = origin(pds_url)
        found = await self._found(account.strip(), named)
        if found is not None:
            await self._require_host(found, named)
        return found

    async def _found(self, account: str, named: str) -> Account | None:
        if is_meant_as_did(account):
            return await self._identity.resolve_account(parse_did(account))
        try:
            handle = parse_handle(account)
        except IdentityError:
            return None
        return await self._identity.resolve_account(handle, or_at=named)

    async def admit(self, session: OAuthSession, located: Account | None) -> OAuthSession:
        """The session of a login in the form to store: with the account's PDS, and its handle if confirmed.

        Args:
            session: the session that the server gave.
            located: the result of `locate`.

        Raises:
            LoginError: it is another account's session, or its server does not host the account. It must
                not be stored and should be revoked.
            IdentityError: the account does not resolve now. The session must not be stored either.
        """
        if located is not None and located.did != session.did:
            raise LoginError(
                "another_account", f"the server logged in {session.did} instead of {located.did}"
            )
        account = located or await self._identity.resolve_account(session.did)
        if session.kind == "bearer":
            await self._require_host(account, origin(session.pds_url))
        elif (issuer := await self.issuer_of(account)) != session.issuer:
            raise LoginError(
                "not_its_issuer",
                f"{account.pds_url}, the PDS of {account.did}, names {issuer} as its authorization server,"
                f" and not {session.issuer}",
            )
        if account.handle == INVALID_HANDLE:
            return replace(session, pds_url=account.pds_url, handle=session.handle or account.claimed)
        return replace(
            session, pds_url=account.pds_url, handle=account.handle, confirmed_handle=account.handle
        )

    async def current_host(self, did: str, *, with_handle: bool) -> CurrentHost | Retry:
        """The current PDS and handle of an account, by its DID document.

        Args:
            did: the account's DID.
            with_handle: also confirm its handle, which asks the handle's own host.
        """
        try:
            document = await self._identity.resolve_did(did)
        except IdentityError as error:
            return Retry(Code.IDENTITY, str(error), server=None if error.final else directory(did))
        if document.pds_url is None:
            return Retry(Code.IDENTITY, f"the document of {did} names no PDS that is used")
        handle = None
        if with_handle:
            with anyio.move_on_after(_HANDLE_SECONDS):
                handle = await self._identity.confirmed_handle(document)
        return CurrentHost(document.pds_url, handle, document.handle)

    async def is_at(self, current: CurrentHost, server: str) -> bool | Retry:
        """Whether a server is the account's PDS or that PDS's entryway."""
        try:
            server = origin(server)
        except NotSent:
            return False
        if current.pds_url == server:
            return True
        issuer = await self._discovery.issuer_of_pds(current.pds_url)
        return issuer if isinstance(issuer, Retry) and _may_pass(issuer) else issuer == server

    async def issuer_of(self, account: Account) -> str:
        """The authorization server that the account's PDS names.

        Raises:
            LoginError: it names none, or can't be asked now.
        """
        return found_or_error(await self._discovery.issuer_of_pds(account.pds_url))

    async def _require_host(self, account: Account, server: str) -> None:
        """Raises `LoginError` unless the account is at the server."""
        is_there = found_or_error(await self.is_at(CurrentHost(account.pds_url, None, None), server))
        if not is_there:
            raise LoginError(
                "not_its_pds",
                f"{account.did} is at the PDS {account.pds_url} by its DID document, and not at {server}",
            )


FoundT = TypeVar("FoundT")


def found_or_error(answer: FoundT | Retry) -> FoundT:
    """The result of discovery, for a login.

    Raises:
        LoginError: discovery failed; `passing` if it may succeed later.
    """
    if isinstance(answer, Retry):
        raise LoginError(
            answer.code, answer.message, retry_after=answer.retry_after, passing=_may_pass(answer)
        )
    return answer


def _may_pass(why: Retry) -> bool:
    # Not if the server's metadata is wrong, or if the guard refuses its address.
    return why.code not in (Code.DISCOVERY, Code.GUARD)
