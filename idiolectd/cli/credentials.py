"""One login with an app password, as `login` and `login --batch` both do it."""

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from idiolectd.cli.exits import CommandFailed, ExitCode
from idiolectd.config import Config
from idiolectd.session import OAuthSession
from idiolectd.state import session_deadline, shown

if TYPE_CHECKING:
    from idiolectd.parts import Parts


@dataclass(frozen=True)
class Credentials:
    """What a login needs.

    Attributes:
        account: a handle or a DID.
        password: an app password.
        pds_url: where to log in; None: where the account lives.
    """

    account: str
    password: str = field(repr=False)
    pds_url: str | None = None


async def log_in(parts: "Parts", credentials: Credentials) -> OAuthSession:
    """Logs one account in and stores its session durably.

    Raises:
        IdentityError: the account does not resolve.
        LoginError: the PDS refuses; its message says why.
        CommandFailed: the PDS logged somebody else in; nothing is stored then.
        TransportError: the PDS can't be reached.
        StoreError: the session can't be stored.
    """
    from idiolectd.xrpc import create_session

    account, pds_url = credentials.account, credentials.pds_url
    if pds_url is None:
        found = await parts.identity.resolve_account(account)
        # By the DID: a handle could move to somebody else between the two questions.
        account, pds_url = found.did, found.pds_url
    session = await create_session(parts.http, parts.clock, pds_url, account, credentials.password)
    if account.startswith("did:") and session.did != account:
        raise CommandFailed(
            ExitCode.FAILED, f"{pds_url} logged in {session.did} instead of {account}; nothing was stored"
        )
    await parts.store.save(session)
    return session


def outcome_of(session: OAuthSession, config: Config) -> dict[str, str | None]:
    """A login for programs; `issuer`, `client_id` and `session_deadline` are None with an app password."""
    deadline = session_deadline(session, config.oauth.session_life_of(session))
    return {
        "did": session.did,
        "handle": session.handle,
        "pds_url": session.pds_url,
        "expires_at": session.expires_at or None,
        "refresh_expires_at": session.refresh_expires_at,
        "issuer": session.issuer,
        "client_id": session.client_id,
        "session_deadline": shown(deadline),
    }
