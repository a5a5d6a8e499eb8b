"""The legacy side of a refresh (`idiolectd.ports.SplitRefresher`): refreshSession and deleteSession.

A refresh token that was used brings the same next token again for two hours, so a lost answer is
found again by asking once more. Tokens go to the recorded PDS only, never to where an account is
said to have moved: the tokens are that server's own.
"""

from idiolectd.clock import Clock
from idiolectd.errors import NotSent, Unclear
from idiolectd.http import CutOff, HttpClient, Refusal, Response, judge_failure, judge_refusal, text_member
from idiolectd.outcome import Ambiguous, ReloginRequired, Retry, Suspended
from idiolectd.ports import Answer, Arrived, Doubtful, NotRevoked, Prepared, Probe, Taken
from idiolectd.session import Kind, OAuthSession
from idiolectd.xrpc.tokens import SessionAnswer, read_tokens

_REFRESH = "/xrpc/com.atproto.server.refreshSession"
_DELETE = "/xrpc/com.atproto.server.deleteSession"
_WHOSE = "/xrpc/com.atproto.server.getSession"

# A server that deletes and still refreshes gets a second chance, with the tokens it gave instead.
_DELETIONS = 2


class LegacyRefresher:
    """Refreshes Bearer sessions.

    Args:
        http: sends the requests.
        clock: ours.
    """

    kind: Kind = "bearer"

    def __init__(self, http: HttpClient, clock: Clock) -> None:
        self._http = http
        self._clock = clock

    async def prepare(
        self, session: OAuthSession, *, check_identity: bool = False
    ) -> Prepared[None] | Retry | Suspended:
        """Local checks. See `SplitRefresher.prepare`; where the account lives now is of no matter."""
        if not self._http.permits(session.pds_url):
            return Suspended("pds_refused", "pds_refused", "the session's PDS URL is not one that is used")
        return Prepared(None, session)

    async def send(self, session: OAuthSession, prepared: Prepared[None]) -> Answer:
        """Sends the refresh token, once. See `SplitRefresher.send`."""
        sent_at = self._clock.now()
        try:
            response = await self._post(session, _REFRESH)
        except CutOff as error:
            # The tokens count if they are in what came. A refusal does not: nobody knows the rest of it.
            answer = read_tokens(error.response, sent_at=sent_at) if error.response.is_success else None
            return judge_failure(error) if answer is None else _arrived(answer, session)
        except (NotSent, Unclear) as error:
            return judge_failure(error)
        if not response.is_success:
            return self._judged(session, response)
        answer = read_tokens(response, sent_at=sent_at)
        if answer is None:
            return Ambiguous("unreadable_answer", f"{response.status} without tokens in it")
        return _arrived(answer, session)

    async def probe(self, session: OAuthSession) -> Probe:
        """Asks nobody: sending the refresh token again is safe. See `SplitRefresher.probe`."""
        return Probe(Taken.NOBODY_TO_ASK)

    async def whose(self, session: OAuthSession) -> Probe:
        """Asks the PDS whose the access token is. See `SplitRefresher.whose`."""
        try:
            response = await self._http.request(
                "GET",
                session.pds_url.rstrip("/") + _WHOSE,
                headers={"Authorization": f"Bearer {session.access_jwt}"},
            )
        except (NotSent, Unclear):
            return Probe(Taken.UNKNOWN)
        taken, did = Taken.UNKNOWN, None
        if response.status == 200:
            did = text_member(response.json_object() or {}, "did")
            taken = Taken.YES if did == session.did else Taken.UNKNOWN
        elif Refusal.found(response, "message").error in ("ExpiredToken", "InvalidToken"):
            taken = Taken.NO
        return Probe(taken, response.date, did)

    async def revoke(self, session: OAuthSession) -> NotRevoked | None:
        """Deletes the session, and checks that it no longer refreshes. See `SplitRefresher.revoke`."""
        prepared = await self.prepare(session)
        if not isinstance(prepared, Prepared):
            return NotRevoked(prepared.message, passing=isinstance(prepared, Retry))
        for _ in range(_DELETIONS):
            try:
                response = await self._post(session, _DELETE)
            except NotSent as error:
                return NotRevoked(str(error), passing=True)
            except Unclear:
                pass  # the check tells
            else:
                if not 200 <= response.status < 300:
                    refused = self._judged(session, response)
                    if isinstance(refused, ReloginRequired):
                        return None
                    return NotRevoked(refused.message, passing=isinstance(refused, Retry | Ambiguous))
            answer = await self.send(session, prepared)
            match answer:
                case ReloginRequired() | Doubtful():
                    return None
                case Arrived(tokens=tokens):
                    session = session.with_tokens(tokens)
                case _:
                    return NotRevoked(f"whether it was deleted is not known: {answer.message}", passing=True)
        return NotRevoked("the PDS still takes the refresh token after deleting the session", passing=False)

    async def _post(self, session: OAuthSession, path: str) -> Response:
        # No body: these servers refuse even an empty object.
        return await self._http.request(
            "POST",
            session.pds_url.rstrip("/") + path,
            headers={"Authorization": f"Bearer {session.refresh_jwt}"},
        )

    def _judged(
        self, session: OAuthSession, response: Response
    ) -> Doubtful | Retry | Ambiguous | Suspended | ReloginRequired:
        return judge_refusal(
            "bearer",
            response,
            Refusal.found(response, "message"),
            now=self._clock.now(),
            secrets=(session.access_jwt, session.refresh_jwt),
        )


def _arrived(answer: SessionAnswer, session: OAuthSession) -> Arrived:
    if answer.did is None:
        return Arrived(answer.tokens, unsaid="the answer came without did")
    misfit = None if answer.did == session.did else "the answer's did is not the session's"
    return Arrived(answer.tokens, misfit)
