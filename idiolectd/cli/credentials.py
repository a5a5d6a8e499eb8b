"""Logs one account in with an app password; revokes a new session that must not be stored."""

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import anyio

from idiolectd.cli.command_note import note
from idiolectd.cli.exits import CommandFailed, code_of
from idiolectd.cli.output import say
from idiolectd.config import Config
from idiolectd.errors import IdentityError, LoginError, NotSent, RecordError, TransportError, UrlError
from idiolectd.identity import Account
from idiolectd.session import OAuthSession
from idiolectd.state import session_deadline, shown
from idiolectd.url import Url

if TYPE_CHECKING:
    from idiolectd.parts import Parts

# Seconds for revoking a session that must not be stored: nobody else has its tokens.
_REVOKING = 20.0


@dataclass(frozen=True)
class Credentials:
    """What a login needs.

    Attributes:
        account: a handle or a DID.
        password: an app password.
        pds_url: where to log in; None: where the account lives.
        auth_factor_token: the sign-in code that the PDS has sent by e-mail; None: it has sent none.
    """

    account: str
    password: str = field(repr=False)
    pds_url: str | None = None
    auth_factor_token: str | None = field(default=None, repr=False)


def pds_url_of(text: str) -> str:
    """Returns the URL of a PDS as a person names it; ``https://`` may be left out.

    Raises:
        UrlError: it is not the URL of a PDS; the message says why.
    """
    url = f"https://{text}" if "://" not in text and "." in text else text
    try:
        parsed = Url.parse(url)
    except UrlError as error:
        raise UrlError(f"{text!a} is not the URL of a PDS, as in https://NAME.DOMAIN ({error})") from None
    if parsed.is_cleartext:
        raise UrlError(f"{url}: a PDS is reached by https only, except on loopback: https://{parsed.host}")
    return url


def unanswered(role: str, error: TransportError) -> CommandFailed:
    """Returns the error of a request without an answer, which says what the server is: its PDS, its issuer."""
    what = "can't be asked" if isinstance(error, NotSent) else "gave no whole answer"
    return CommandFailed(code_of(error), f"the {role} {what}: {error}")


async def log_in(parts: "Parts", credentials: Credentials, located: Account | None) -> OAuthSession:
    """Logs one account in and stores its session durably, if it comes from the account's own PDS.

    Args:
        parts: the configured parts.
        credentials: the password is sent to their `pds_url`, or else to the account's PDS.
        located: the result of `Hosting.locate` for them; None: only `pds_url` knows the account.

    Raises:
        LoginError: the PDS refuses, or its session must not be stored; the message says why.
        IdentityError: the account of the session does not resolve; nothing is stored then.
        CommandFailed: the PDS can't be reached, or its answer was lost.
        StoreError: the session can't be stored.
    """
    from idiolectd.xrpc import AUTH_FACTOR_TOKEN_REQUIRED, create_session

    if located is None:
        account, pds_url = credentials.account, credentials.pds_url or ""
    else:
        # By its DID: the handle could move to another account between the look-up and the login.
        account, pds_url = located.did, credentials.pds_url or located.pds_url
    try:
        login = await create_session(
            parts.http,
            parts.clock,
            pds_url,
            account,
            credentials.password,
            auth_factor_token=credentials.auth_factor_token,
        )
    except LoginError as error:
        if error.code == AUTH_FACTOR_TOKEN_REQUIRED:
            raise LoginError(error.code, f"{error}; an app password needs no such code") from None
        raise
    except TransportError as error:
        raise unanswered("PDS", error) from error
    given = login.session
    try:
        session = await parts.hosting.admit(given, located)
    except (LoginError, IdentityError) as error:
        raise await revoke_refused(parts, given, error) from error
    before = await stored_record(parts, session.did)
    # Other programs' fields are kept. `pds_url` is added because the upstream CLI, which may share this
    # folder, reads no record without it.
    kept = before.extra if before is not None else {}
    session = replace(session, extra={**kept, "pds_url": session.pds_url})
    await parts.store.save(session)
    await note(parts, session.did, "login", session=session)
    if login.account_status is not None:
        say(f"the PDS {session.pds_url} calls the account {session.did} {login.account_status}")
    return session


async def stored_record(parts: "Parts", did: str) -> OAuthSession | None:
    """Loads the record that a login replaces; None: there is none, or it can't be read."""
    try:
        return await parts.store.load(did)
    except RecordError:
        return None


async def revoke_refused(
    parts: "Parts", session: OAuthSession, why: LoginError | IdentityError
) -> LoginError:
    """Revokes a session that must not be stored, within 20 s; the returned error says whether that worked."""
    end = f"could not be revoked: end it in the account's settings at {session.issuer or session.pds_url}"
    with anyio.move_on_after(_REVOKING):
        if await parts.refresher_for(session).revoke(session) is None:
            end = "has been revoked"
    passing = why.passing if isinstance(why, LoginError) else not why.final
    return LoginError("misfit", f"{why}; nothing was stored, and the new session {end}", passing=passing)


def login_result(session: OAuthSession, config: Config) -> dict[str, str | None]:
    """Makes the JSON of a login; `issuer`, `client_id` and `session_deadline` are None with an app password."""
    deadline = session_deadline(session, config.oauth.session_life_of(session))
    return {
        "did": session.did,
        "handle": session.known_as,
        "pds_url": session.pds_url,
        "expires_at": session.expires_at or None,
        "refresh_expires_at": session.refresh_expires_at,
        "issuer": session.issuer,
        "client_id": session.client_id,
        "session_deadline": shown(deadline),
    }
