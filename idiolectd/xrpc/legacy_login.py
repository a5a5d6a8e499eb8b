"""Starts a legacy session with an account's app password."""

from dataclasses import dataclass

from idiolectd.clock import Clock, rfc3339
from idiolectd.did import parse_did
from idiolectd.errors import DidError, LoginError
from idiolectd.http import CutOff, ErrorResponse, HttpClient, origin, retry_after
from idiolectd.outcome import Code
from idiolectd.session import OAuthSession
from idiolectd.state import ACTIVE
from idiolectd.url import xrpc_url
from idiolectd.xrpc.tokens import read_tokens

# The error of a PDS that has sent a sign-in code by e-mail and wants it with the password.
AUTH_FACTOR_TOKEN_REQUIRED = "AuthFactorTokenRequired"  # noqa: S105 -- a code


@dataclass(frozen=True)
class LegacyLogin:
    """The result of a login.

    Attributes:
        session: the new session, in upstream's shape.
        account_status: the server's reason why the account is not active; None: it is active, or not said.
    """

    session: OAuthSession
    account_status: str | None


async def create_session(
    http: HttpClient,
    clock: Clock,
    pds_url: str,
    identifier: str,
    password: str,
    *,
    auth_factor_token: str | None = None,
) -> LegacyLogin:
    """Logs in at a PDS (``com.atproto.server.createSession``). Never repeated by itself: logins are rationed.

    Args:
        http: sends the request.
        clock: the local clock.
        pds_url: the account's PDS.
        identifier: handle or DID.
        password: an app password.
        auth_factor_token: the sign-in code that the PDS sent by e-mail after it refused a login with
            ``AuthFactorTokenRequired``; it asks for one only with the account's main password.

    Returns:
        The session and its account's status.

    Raises:
        LoginError: the PDS answered without a session.
        NotSent: it could not be reached.
        Unclear: the answer was lost; the PDS may have started a session, which expires unused.
    """
    server = origin(pds_url)
    factor = {} if auth_factor_token is None else {"authFactorToken": auth_factor_token}
    sent_at = clock.now()
    try:
        response = await http.request(
            "POST",
            xrpc_url(server, "com.atproto.server.createSession"),
            json={"identifier": identifier, "password": password, **factor},
        )
    except CutOff as error:
        response = error.response
        answer = read_tokens(response, sent_at=sent_at)
        if response.status != 200 or answer is None or answer.did is None:
            raise
    if response.status != 200:
        refusal = ErrorResponse.found(response)
        code, text = refusal.told(response.status, [password, *factor.values()])
        text = text or f"it answered {response.status}"
        raise LoginError(code, f"the PDS {server}: {text}", retry_after=retry_after(response, clock.now()))
    answer = read_tokens(response, sent_at=sent_at)
    if answer is None or answer.did is None:
        raise LoginError(Code.UNREADABLE_ANSWER, f"the PDS {server}: answered 200 without a session in it")
    try:
        did = parse_did(answer.did)
    except DidError as error:
        raise LoginError(Code.UNREADABLE_ANSWER, f"the PDS {server}: {error}") from None
    session = OAuthSession(
        did=did,
        pds_url=server,
        access_jwt=answer.tokens.access_jwt,
        refresh_jwt=answer.tokens.refresh_jwt,
        token_type=answer.tokens.token_type,
        scope=answer.tokens.scope,
        handle=answer.tokens.handle,
        issued_at=answer.tokens.issued_at,
        expires_at=answer.tokens.expires_at,
        refresh_expires_at=answer.tokens.refresh_expires_at,
        session_started_at=rfc3339(sent_at),
    )
    return LegacyLogin(session, None if answer.account_status == ACTIVE else answer.account_status)
