"""The OAuth side of a refresh: prepare, send, probe, revoke (`idiolectd.ports.SplitRefresher`).

`prepare` finds the token endpoint and checks that DPoP key, client and issuer are the session's: with another
one the server would end the session. `send` sends the refresh token; it sends it again only if the server
refused the DPoP proof for its nonce or its time.

Refresh tokens go to the session's issuer only, access tokens to its PDS only. Nothing is stored, scheduled or
retried here.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

from idiolectd.clock import Clock
from idiolectd.copying import replace
from idiolectd.errors import NotSent, SessionError, Unclear
from idiolectd.hosting import Hosting
from idiolectd.http import HttpClient, Response, judge_not_sent, judge_probe, origin
from idiolectd.identity import Identity
from idiolectd.oauth import dpop
from idiolectd.oauth.client_auth import (
    ClientAuth,
    ClientRegistry,
    issuer_hint,
    thumbprint_hint,
)
from idiolectd.oauth.discovery import AuthorizationServer, Discovery
from idiolectd.oauth.proof import DpopKey
from idiolectd.oauth.token_endpoint import read_answer, read_cut_off, refresh_parameters
from idiolectd.outcome import Cause, Retry, Suspended
from idiolectd.ports import (
    AccessTokenStatus,
    AccountLocation,
    Answer,
    Arrived,
    NotRevoked,
    Prepared,
    Probe,
    is_about_session,
)
from idiolectd.revocation import revoke_and_check
from idiolectd.session import Kind, OAuthSession
from idiolectd.url import GET_SESSION, Url, xrpc_url


@dataclass(frozen=True)
class OAuthRequest:
    """What a session's requests to its authorization server need: server, client and DPoP key."""

    server: AuthorizationServer
    client: ClientAuth
    key: DpopKey = field(repr=False)

    def form(self, parameters: Mapping[str, str], http: HttpClient, url: Url) -> dict[str, str]:
        """The body of one request, with a new client assertion if the client has keys."""
        authentication = self.client.parameters(self.server.issuer, http.server_now(url))
        return {**parameters, **authentication}

    async def post(self, http: HttpClient, url: Url, parameters: Mapping[str, str]) -> Response:
        """Posts a form with a DPoP proof and the client's authentication. Raises as `dpop.request`."""
        return await dpop.request(http, self.key, "POST", url, form=lambda: self.form(parameters, http, url))


class OAuthRefresher:
    """Refreshes DPoP-bound sessions.

    Args:
        http: sends the requests.
        clock: the local clock.
        clients: the OAuth clients that this host may act as.
        discovery: finds issuers and their endpoints.
        identity: finds the PDS of an account.
    """

    kind: Kind = "dpop"
    has_grace = False

    def __init__(
        self,
        http: HttpClient,
        clock: Clock,
        clients: ClientRegistry,
        discovery: Discovery,
        identity: Identity,
    ) -> None:
        self._http = http
        self._clock = clock
        self._clients = clients
        self._discovery = discovery
        self._hosting = Hosting(identity, discovery)

    # Prepare ---------------------------------------------------------------------------------

    async def prepare(self, session: OAuthSession) -> Prepared[OAuthRequest] | Retry | Suspended:
        """Discovery and local checks; sends no token. See `SplitRefresher.prepare`."""
        key = _bound_key(session)
        if isinstance(key, Suspended):
            return key
        client = self._clients.client_of(session)
        if isinstance(client, Suspended):
            return client
        known = replace(
            session,
            client_id=client.client_id,
            client_auth_method=client.method,
            client_key_id=client.key_id,
        )
        issuer = await self._issuer(known)
        if not isinstance(issuer, str):
            return issuer
        server = await self._discovery.server(issuer)
        if isinstance(server, Retry):
            return server
        try:
            await self._http.look_up(server.token_endpoint)
        except NotSent as error:
            return judge_not_sent(error)
        known = replace(known, issuer=known.issuer or issuer)
        return Prepared(OAuthRequest(server, client, key), known, server.token_endpoint.origin)

    async def _issuer(self, session: OAuthSession) -> str | Retry | Suspended:
        """The session's issuer; if the record has none, its PDS's, unless the access token names another."""
        if session.issuer is not None:
            return self._named_issuer(session.issuer)
        if not self._http.permits(session.pds_url):
            return Suspended(
                Cause.PDS_REFUSED, Cause.PDS_REFUSED, "the session's PDS URL is not one that is used"
            )
        found = await self._discovery.issuer_of_pds(session.pds_url)
        hint = issuer_hint(session)
        if isinstance(found, str) and hint is not None and self._discovery.issuer_of(hint) != found:
            return _issuer_changed(f"the PDS names {found} as its issuer, the access token another")
        return found

    def _named_issuer(self, issuer: str) -> str | Suspended:
        """The canonical form of the issuer in a session's record."""
        message = f"the session's issuer, {issuer[:80]!a}, is not one that is used"
        found = self._discovery.issuer_of(issuer)
        return found or Suspended(Cause.ISSUER_UNUSABLE, Cause.ISSUER_UNUSABLE, message)

    async def locate(
        self, session: OAuthSession, *, with_handle: bool = False
    ) -> AccountLocation | Suspended | Retry:
        """Where the account is now. See `SplitRefresher.locate`.

        A session may move to another PDS of the same issuer, but never to another issuer.
        """
        pinned = None if session.issuer is None else self._named_issuer(session.issuer)
        if isinstance(pinned, Suspended):
            return pinned
        current = await self._hosting.current_host(session.did, with_handle=with_handle)
        if isinstance(current, Retry):
            return current
        found = await self._discovery.issuer_of_pds(current.pds_url)
        if isinstance(found, Retry):
            return found
        if pinned not in (None, found):
            return _issuer_changed(f"{current.pds_url} names {found} as its issuer, not {pinned}")
        known = current.naming(session)
        if _moved(session, current.pds_url):
            known = replace(known, pds_url=current.pds_url)
        return AccountLocation(known, is_handle_told=current.handle is not None)

    # Send ------------------------------------------------------------------------------------

    async def send(self, session: OAuthSession, prepared: Prepared[OAuthRequest]) -> Answer:
        """Sends the refresh token, and again only as `ProofRetry` allows. See `SplitRefresher.send`."""
        return await self._refresh(session, prepared.request)

    async def _refresh(self, session: OAuthSession, request: OAuthRequest) -> Answer:
        sent_at = self._clock.now()
        url = request.server.token_endpoint
        try:
            # From the first byte on, the server may have used up the old token; the only copy of the new
            # one is then in the answer.
            response = await self._post(url, request, refresh_parameters(session.refresh_jwt))
        except (NotSent, Unclear) as error:
            answer = read_cut_off(error, session, sent_at=sent_at)
        else:
            if 300 <= response.status < 500 and response.json_object() is None:
                self._discovery.forget(request.server.issuer)
            answer = read_answer(response, session, sent_at=sent_at, now=self._clock.now())
        if isinstance(answer, Arrived):
            nonce = self._http.nonces.get(dpop.nonce_key(session.pds_url, session.access_jwt))
            return replace(answer, tokens=replace(answer.tokens, dpop_nonce=nonce))
        return answer

    async def _post(self, url: Url, request: OAuthRequest, parameters: Mapping[str, str]) -> Response:
        return await request.post(self._http, url, parameters)

    # Probe -----------------------------------------------------------------------------------

    async def probe(self, session: OAuthSession) -> Probe:
        """Asks the PDS whether it still accepts the access token. See `SplitRefresher.probe`."""
        key = _bound_key(session)
        if isinstance(key, Suspended):
            return Probe(AccessTokenStatus.UNKNOWN)  # the PDS would refuse the key and call the token invalid
        url = xrpc_url(session.pds_url, GET_SESSION)
        try:
            response = await dpop.request(self._http, key, "GET", url, access_token=session.access_jwt)
        except (NotSent, Unclear):
            return Probe(AccessTokenStatus.UNKNOWN)
        return judge_probe(response, session.did)

    # Revoke ----------------------------------------------------------------------------------

    async def revoke(self, session: OAuthSession) -> NotRevoked | None:
        """Ends the session at the server (RFC 7009), and checks that it ended.

        See `SplitRefresher.revoke`.
        """
        prepared = await self.prepare(session)
        if not isinstance(prepared, Prepared):
            return NotRevoked(prepared.message, passing=isinstance(prepared, Retry))
        request = prepared.request
        url = request.server.revocation_endpoint
        if url is None:
            return NotRevoked(f"{request.server.issuer} has no revocation endpoint", passing=False)

        async def revoke_once(session: OAuthSession) -> NotRevoked | None:
            parameters = {"token": session.refresh_jwt, "token_type_hint": "refresh_token"}
            response = await self._revoke_at(url, request, parameters)
            if response.is_success or self._refuses(session, response):
                return None
            message = f"{request.server.issuer}: the revocation was answered {response.status}"
            return NotRevoked(message, passing=response.may_pass)

        async def refresh(session: OAuthSession) -> Answer:
            return await self._refresh(session, request)

        return await revoke_and_check(session, revoke_once, refresh)

    def _refuses(self, session: OAuthSession, response: Response) -> bool:
        """Whether the server refused a revocation's token as invalid; the check that follows decides then."""
        now = self._clock.now()
        return is_about_session(read_answer(response, session, sent_at=now, now=now))

    async def _revoke_at(self, url: Url, request: OAuthRequest, parameters: Mapping[str, str]) -> Response:
        """Posts a revocation; again if the nonce was not the newest: servers may answer 200 even then."""
        known = self._http.nonces.get(dpop.nonce_key(url))
        response = await self._post(url, request, parameters)
        if self._http.nonces.get(dpop.nonce_key(url)) != known:
            response = await self._post(url, request, parameters)
        return response


def _bound_key(session: OAuthSession) -> DpopKey | Suspended:
    """The session's DPoP key, if it is the one that the access token says it is bound to."""
    try:
        key = DpopKey.from_jwk_json(session.dpop_private_key_jwk)
    except SessionError as error:
        return Suspended(Cause.DPOP_KEY_UNUSABLE, Cause.DPOP_KEY_UNUSABLE, str(error))
    if thumbprint_hint(session) not in (None, key.thumbprint):
        message = "the access token is bound to another DPoP key than the one stored with it"
        return Suspended(Cause.DPOP_KEY_MISMATCH, Cause.DPOP_KEY_MISMATCH, message)
    return key


def _issuer_changed(message: str) -> Suspended:
    return Suspended(Cause.ISSUER_CHANGED, Cause.ISSUER_CHANGED, message)


def _moved(session: OAuthSession, pds_url: str) -> bool:
    """Whether `pds_url` is another server than the record's, not only another spelling of its URL."""
    try:
        return origin(session.pds_url) != origin(pds_url)
    except NotSent:
        return True
