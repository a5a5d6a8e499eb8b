"""The legacy side of a refresh (`idiolectd.ports.SplitRefresher`): refreshSession and deleteSession.

For two hours after its use, a refresh token brings the same next token again; so a refresh whose answer was
lost is simply repeated (`has_grace`). Tokens go to the recorded PDS only, even if the account has moved: no
other server accepts them.
"""

from idiolectd.clock import Clock
from idiolectd.errors import NotSent, Unclear
from idiolectd.hosting import Hosting
from idiolectd.http import (
    CutOff,
    ErrorResponse,
    HttpClient,
    Response,
    judge_failure,
    judge_not_sent,
    judge_probe,
    judge_refusal,
    origin,
)
from idiolectd.outcome import Ambiguous, Cause, Code, Retry, Suspended
from idiolectd.ports import (
    AccessTokenStatus,
    AccountLocation,
    Answer,
    Arrived,
    NotRevoked,
    Prepared,
    Probe,
    Refused,
    is_about_session,
)
from idiolectd.revocation import revoke_and_check
from idiolectd.session import Kind, OAuthSession
from idiolectd.url import GET_SESSION, xrpc_url
from idiolectd.xrpc.tokens import SessionAnswer, read_tokens

_REFRESH = "com.atproto.server.refreshSession"
_DELETE = "com.atproto.server.deleteSession"


class LegacyRefresher:
    """Refreshes Bearer sessions.

    Args:
        http: sends the requests.
        clock: the local clock.
        hosting: looks up the PDS of accounts; None: they are not looked up.
    """

    kind: Kind = "bearer"
    has_grace = True

    def __init__(self, http: HttpClient, clock: Clock, hosting: Hosting | None = None) -> None:
        self._http = http
        self._clock = clock
        self._hosting = hosting

    async def locate(self, session: OAuthSession, *, with_handle: bool = False) -> AccountLocation | Retry:
        """Where the account is now. See `SplitRefresher.locate`.

        A legacy session never moves to another PDS, because only the recorded one accepts its tokens.
        """
        if self._hosting is None:
            return AccountLocation(session)
        current = await self._hosting.current_host(session.did, with_handle=with_handle)
        if isinstance(current, Retry):
            return current
        is_there = await self._hosting.is_at(current, session.pds_url)
        if isinstance(is_there, Retry):
            return is_there
        moved_to = None if is_there else current.pds_url
        return AccountLocation(current.naming(session), current.handle is not None, moved_to)

    async def prepare(self, session: OAuthSession) -> Prepared[None] | Retry | Suspended:
        """Checks the record, and that the PDS's host can be found. See `SplitRefresher.prepare`."""
        if not self._http.permits(session.pds_url):
            return Suspended(
                Cause.PDS_REFUSED, Cause.PDS_REFUSED, "the session's PDS URL is not one that is used"
            )
        try:
            await self._http.look_up(session.pds_url)
        except NotSent as error:
            return judge_not_sent(error)
        return Prepared(None, session, origin(session.pds_url))

    async def send(self, session: OAuthSession, prepared: Prepared[None]) -> Answer:
        """Sends the refresh token, once. See `SplitRefresher.send`."""
        sent_at = self._clock.now()
        try:
            response = await self._post(session, _REFRESH)
        except CutOff as error:
            # New tokens count if they are in the part that arrived. A refusal that was cut off does not.
            answer = read_tokens(error.response, sent_at=sent_at) if error.response.is_success else None
            return judge_failure(error) if answer is None else _arrived(answer, session)
        except (NotSent, Unclear) as error:
            return judge_failure(error)
        answer = read_tokens(response, sent_at=sent_at) if response.is_success else None
        if answer is not None:
            return _arrived(answer, session)
        if response.is_success and ErrorResponse.found(response).error is None:
            return Ambiguous(Code.UNREADABLE_ANSWER, f"{response.status} without tokens in it")
        return self._judged(session, response)

    async def probe(self, session: OAuthSession) -> Probe:
        """Asks the PDS whether it still accepts the access token. See `SplitRefresher.probe`."""
        url = xrpc_url(session.pds_url, GET_SESSION)
        headers = {"Authorization": f"Bearer {session.access_jwt}"}
        try:
            response = await self._http.request("GET", url, headers=headers)
        except (NotSent, Unclear):
            return Probe(AccessTokenStatus.UNKNOWN)
        return judge_probe(response, session.did)

    async def revoke(self, session: OAuthSession) -> NotRevoked | None:
        """Deletes the session, and checks that it no longer refreshes. See `SplitRefresher.revoke`."""
        prepared = await self.prepare(session)
        if not isinstance(prepared, Prepared):
            return NotRevoked(prepared.message, passing=isinstance(prepared, Retry))

        async def delete(session: OAuthSession) -> NotRevoked | None:
            response = await self._post(session, _DELETE)
            refused = None if response.is_success else self._judged(session, response)
            if refused is None or is_about_session(refused):  # it may have ended already: the check decides
                return None
            return NotRevoked(refused.message, passing=not isinstance(refused, Refused))

        async def refresh(session: OAuthSession) -> Answer:
            return await self.send(session, prepared)

        return await revoke_and_check(session, delete, refresh)

    async def _post(self, session: OAuthSession, method: str) -> Response:
        # No body: these servers refuse even an empty object.
        return await self._http.request(
            "POST",
            xrpc_url(session.pds_url, method),
            headers={"Authorization": f"Bearer {session.refresh_jwt}"},
        )

    def _judged(self, session: OAuthSession, response: Response) -> Refused | Retry | Ambiguous:
        return judge_refusal(
            "bearer",
            response,
            ErrorResponse.found(response),
            now=self._clock.now(),
            secrets=(session.access_jwt, session.refresh_jwt),
        )


def _arrived(answer: SessionAnswer, session: OAuthSession) -> Arrived:
    if answer.did is None:
        unconfirmed = "the answer came without did"
        return Arrived(answer.tokens, unconfirmed=unconfirmed, account_status=answer.account_status)
    mismatch = None if answer.did == session.did else "the answer's did is not the session's"
    return Arrived(answer.tokens, mismatch, account_status=answer.account_status)
