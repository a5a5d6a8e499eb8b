"""Which servers host an account, and whether a new session is one of theirs.

The word that counts is the DID document's: DID → PDS → issuer, and the handle in both directions
(https://atproto.com/specs/oauth#identity-authentication). What the server that was logged in at says
about whose session it gave counts for nothing: any PDS can put any `did` or `sub` into its answer,
and the session would take the place of the one that is stored for that DID.

Neither logs in nor stores: `cli` does. An entryway (one authorization server before many PDSs) may
be named in place of a PDS, as the upstream CLI's users do, if the account's own PDS names it.
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

# A check of PDS and issuer must not be lost because a handle's own host or name server is mute.
_HANDLE_SECONDS = 8.0


@dataclass(frozen=True)
class CurrentHost:
    """Where an account is now.

    Attributes:
        pds_url: its PDS, an origin.
        handle: its handle, confirmed in both directions; empty: it has none; None: nobody could tell, or
            was asked.
        claimed: the handle that its document claims.
    """

    pds_url: str
    handle: str | None
    claimed: str | None

    def naming(self, session: OAuthSession) -> OAuthSession:
        """The account's session with its handle, as far as that is told."""
        if self.handle is None:
            return session
        shown = self.handle or self.claimed or session.handle
        return replace(session, handle=shown, confirmed_handle=self.handle)


class IssuerLookup(Protocol):
    """Finds the issuer whose tokens a PDS takes (`idiolectd.oauth.Discovery`)."""

    async def issuer_of_pds(self, pds_url: str) -> str | Retry:
        """Its URL, or why it can't be told."""
        ...


class Hosting:
    """Looks accounts up before a login, judges the session after it, and looks again now and then.

    Args:
        identity: resolves handles and DIDs.
        discovery: finds the issuer of a PDS.
    """

    def __init__(self, identity: Identity, discovery: IssuerLookup) -> None:
        self._identity = identity
        self._discovery = discovery

    async def locate(self, account: str, pds_url: str | None = None) -> Account | None:
        """Whom a login is for, and where that account is.

        Args:
            account: a DID or a handle; with a PDS also whatever else it may take, as an e-mail address.
            pds_url: where the login is to be; None: where the account is.

        Returns:
            The account; None if only the named PDS can tell who it is.

        Raises:
            DidError: it starts like a DID and is none.
            IdentityError: it does not resolve.
            LoginError: the account is not at the PDS that was named; nothing should be sent there.
            NotSent: what was named is not the URL of a PDS.
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
        """The session of a login as it may be stored: with its own PDS, and its handle if confirmed.

        Args:
            session: what the server gave.
            located: what `locate` found, if it did.

        Raises:
            LoginError: it is another account's, or a server gave it that does not host the account.
                It must not be stored, and should be revoked.
            IdentityError: the account does not resolve now; the same goes for it.
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
        """Where an account is now, by its DID document.

        Args:
            did: whose.
            with_handle: also whether its handle leads back to it; that asks the handle's own host.
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
        """Whether the account is at a server: its PDS, or the entryway before that."""
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
                f"{account.did} is at {account.pds_url} by its DID document, and not at {server}",
            )


FoundT = TypeVar("FoundT")


def found_or_error(answer: FoundT | Retry) -> FoundT:
    """What discovery found, for a login.

    Raises:
        LoginError: nothing; `passing` if it may later.
    """
    if isinstance(answer, Retry):
        raise LoginError(
            answer.code, answer.message, retry_after=answer.retry_after, passing=_may_pass(answer)
        )
    return answer


def _may_pass(why: Retry) -> bool:
    # It answered, and not with what it should; or it is a place where no request may go.
    return why.code not in (Code.DISCOVERY, Code.GUARD)
