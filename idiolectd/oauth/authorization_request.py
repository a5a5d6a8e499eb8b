"""One login: from the pushed authorization request (PAR, RFC 9126) to the session.

https://atproto.com/specs/oauth. A login makes a DPoP key (RFC 9449), a PKCE code verifier (RFC 7636) and a
state of its own, pushes the request, reads the authorization response and exchanges the code at the token
endpoint.

Does not open a browser, wait, resolve accounts or store. An authorization response counts only with this
login's state and its issuer's name (RFC 9207); tokens count only for the account that was chosen before.
"""

import hashlib
import hmac
import secrets
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Self
from urllib.parse import parse_qsl, quote, urlencode

from idiolectd.clock import Clock, rfc3339
from idiolectd.did import parse_did
from idiolectd.errors import DidError, LoginError
from idiolectd.foreign import number
from idiolectd.http import CutOff, ErrorResponse, HttpClient, Response, retry_after, safe_text, text_member
from idiolectd.identity import INVALID_HANDLE, Account
from idiolectd.jose import b64url_encode
from idiolectd.oauth.client_auth import ClientAuth
from idiolectd.oauth.discovery import AuthorizationServer
from idiolectd.oauth.oauth_refresher import OAuthRequest
from idiolectd.oauth.proof import DpopKey
from idiolectd.oauth.token_endpoint import TokenResponse, code_parameters
from idiolectd.outcome import Code
from idiolectd.session import OAuthSession

# The loopback host of the public client's redirect URI (RFC 8252, section 7.3).
LOOPBACK_HOST = "127.0.0.1"
CALLBACK_PATH = "/callback"

# An authorization response has at most four parameters. The limit keeps hostile ones from costing time.
_MAX_PARAMETERS = 32

# The two temporary errors of RFC 6749, section 4.1.2.1: the same login may succeed later.
_PASSING = ("server_error", "temporarily_unavailable")


@dataclass(frozen=True)
class LoginClient:
    """The OAuth client that a login is made with.

    Attributes:
        auth: its client_id, and how it authenticates.
        redirect_uri: where the server sends the browser with its response.
    """

    auth: ClientAuth
    redirect_uri: str


def loopback_client(scope: str, port: int | None = None) -> LoginClient:
    """The public client that works without registration, on any machine.

    See https://atproto.com/specs/oauth#localhost-client-development.

    Args:
        scope: what it may ask for; it is a part of the client_id.
        port: the local port that the login listens on; None: it does not listen. Servers ignore the port
            when they compare loopback redirects (RFC 8252, section 7.3), so the client_id contains none
            and is the same for every login.
    """
    declared = {"redirect_uri": f"http://{LOOPBACK_HOST}{CALLBACK_PATH}", "scope": scope}
    client_id = "http://localhost?" + urlencode(declared, quote_via=quote)
    server = LOOPBACK_HOST if port is None else f"{LOOPBACK_HOST}:{port}"
    return LoginClient(ClientAuth(client_id), f"http://{server}{CALLBACK_PATH}")


@dataclass(frozen=True)
class GrantedSession:
    """What the token endpoint gave for a login's code.

    Attributes:
        session: the session with the tokens of the answer.
        mismatch: why the session must not be stored and should be revoked; None: it is the one asked for.
    """

    session: OAuthSession
    mismatch: str | None


@dataclass(frozen=True)
class AuthorizationRequest:
    """A pushed authorization request: one login that has begun. `repr` shows no secret.

    Attributes:
        url: the address to open in the browser.
        expires_in: how many seconds the server keeps the request; None: it does not say.
    """

    url: str = field(repr=False)
    expires_in: float | None
    _http: HttpClient = field(repr=False)
    _clock: Clock = field(repr=False)
    _request: OAuthRequest
    _redirect_uri: str
    _state: str = field(repr=False)
    _verifier: str = field(repr=False)

    @classmethod
    async def push(
        cls,
        http: HttpClient,
        clock: Clock,
        server: AuthorizationServer,
        client: LoginClient,
        *,
        scope: str,
        login_hint: str,
        state_suffix: str = "",
    ) -> Self:
        """Begins a login: pushes the request, with a new DPoP key (RFC 9126, section 2).

        Args:
            http: sends the requests.
            clock: the local clock.
            server: the authorization server of the account's PDS.
            client: the client that asks for authorization.
            scope: the scope to ask for.
            login_hint: handle or DID of the account, so that the server need not ask the person for it.
            state_suffix: text to append to the state, for the page at the redirect_uri to read.

        Raises:
            LoginError: the server does not offer what a login needs, or refuses the request.
            TransportError: the server can't be reached, or its answer was lost.
        """
        push_to, authorize_at = server.pushed_authorization_request_endpoint, server.authorization_endpoint
        if server.unfit_for_login or push_to is None or authorize_at is None:
            found = "; ".join(server.unfit_for_login)
            raise LoginError(
                "server_unfit", f"the issuer {server.issuer}: no login is possible by its metadata: {found}"
            )
        request = OAuthRequest(server, client.auth, DpopKey.generate())
        verifier, state = secrets.token_urlsafe(48), secrets.token_urlsafe(24) + state_suffix
        parameters = {
            "response_type": "code",
            "redirect_uri": client.redirect_uri,
            "scope": scope,
            "state": state,
            "code_challenge": b64url_encode(hashlib.sha256(verifier.encode()).digest()),
            "code_challenge_method": "S256",
            "login_hint": login_hint,
        }
        response = await request.post(http, push_to, parameters)
        if not response.is_success:
            raise _refused(server.issuer, response, clock.now())
        answer = response.json_object() or {}
        request_uri = text_member(answer, "request_uri")
        if request_uri is None:
            raise _unreadable(server.issuer, response)
        query = urlencode({"client_id": client.auth.client_id, "request_uri": request_uri})
        joint = "?" if authorize_at.query is None else "&"  # RFC 6749, section 3.1
        return cls(
            f"{authorize_at}{joint}{query}",
            number(answer.get("expires_in"), 0.0) or None,
            http,
            clock,
            request,
            client.redirect_uri,
            state,
            verifier,
        )

    @property
    def issuer(self) -> str:
        """The issuer identifier of the authorization server."""
        return self._request.server.issuer

    def is_ours(self, query: str) -> bool:
        """Whether a redirect with this query belongs to this login: its state is the one that was sent."""
        return self._knows_state(_parameters(query))

    def read_response(self, query: str) -> str:
        """The code of an authorization response (RFC 6749, section 4.1.2).

        Raises:
            LoginError: it holds no code, or its state or issuer is not this login's.
        """
        answer = _parameters(query)
        if not self._knows_state(answer):
            raise LoginError("state_mismatch", "the browser came back from another login")
        # RFC 9207, section 2.4: the issuer is checked before anything else is read, error responses included.
        if answer.get("iss") != self.issuer:
            named = safe_text(answer.get("iss", "")) or "no authorization server"
            raise LoginError(
                "issuer_mismatch",
                f"the browser came back from {named}, and was sent to the issuer {self.issuer}",
            )
        if "error" in answer:
            raise self._declined(answer)
        if not answer.get("code"):
            raise LoginError(
                Code.UNREADABLE_ANSWER, f"the browser came back from the issuer {self.issuer} without a code"
            )
        return answer["code"]

    async def exchange(self, code: str, account: Account) -> GrantedSession:
        """Exchanges the code for tokens (RFC 6749, section 4.1.3). Must not be cancelled once begun.

        Args:
            code: as `read_response` returned it; valid for one exchange.
            account: the account that was chosen for this login.

        Raises:
            LoginError: the server refuses the code, or answers without tokens.
            NotSent: the server could not be reached; the code is unused.
            Unclear: the answer was lost. The server may have started a session, which expires unused.
        """
        sent_at = self._clock.now()
        parameters = code_parameters(code, self._redirect_uri, self._verifier)
        try:
            response = await self._request.post(self._http, self._request.server.token_endpoint, parameters)
        except CutOff as error:
            response = error.response
            if not response.is_success or TokenResponse.found(response) is None:
                raise
        if not response.is_success:
            raise _refused(self.issuer, response, self._clock.now(), (code, self._verifier))
        answer = TokenResponse.found(response)
        if answer is None:
            raise _unreadable(self.issuer, response)
        client = self._request.client
        session = OAuthSession(
            did=account.did,
            pds_url=account.pds_url,
            access_jwt=answer.access_token or "",
            # Without a refresh token the session counts as a mismatch; it is revoked by its access token.
            refresh_jwt=answer.refresh_token or answer.access_token or "",
            dpop_private_key_jwk=self._request.key.to_private_jwk(),
            token_type="DPoP",  # noqa: S106 -- a type, not a password
            scope=answer.scope,
            handle=None if account.handle == INVALID_HANDLE else account.handle,
            issued_at=rfc3339(sent_at),
            expires_at=rfc3339(sent_at + answer.lifetime),
            issuer=self.issuer,
            client_id=client.client_id,
            client_auth_method=client.method,
            client_key_id=client.key_id,
            session_started_at=rfc3339(sent_at),
        )
        return GrantedSession(session, _mismatch(answer, account, self.issuer))

    def _knows_state(self, answer: Mapping[str, str]) -> bool:
        return hmac.compare_digest(answer.get("state", "").encode(), self._state.encode())

    def _declined(self, answer: Mapping[str, str]) -> LoginError:
        code = safe_text(answer["error"])[:64] or "error"
        words = safe_text(answer.get("error_description", ""))
        told = f": {words}" if words else ""
        if code == "access_denied":
            return LoginError(code, f"the login was declined at the issuer {self.issuer}{told}")
        message = f"the issuer {self.issuer} ended the login with {code}{told}"
        return LoginError(code, message, passing=code in _PASSING)


def _parameters(query: str) -> dict[str, str]:
    """The parameters of a redirect; empty if one of them occurs twice (RFC 6749, section 3.1)."""
    try:
        pairs = parse_qsl(query, keep_blank_values=True, max_num_fields=_MAX_PARAMETERS)
    except ValueError:
        return {}
    found = dict(pairs)
    return found if len(found) == len(pairs) else {}


def _mismatch(answer: TokenResponse, account: Account, issuer: str) -> str | None:
    """Why the tokens can't be stored as a session of the account; None: they can."""
    asked = account.did if account.handle == INVALID_HANDLE else f"{account.handle} ({account.did})"
    if answer.sub is not None and answer.sub != account.did and _is_did(answer.sub):
        return f"{answer.sub} consented at the issuer {issuer}, and not {asked}"
    if (mismatch := answer.mismatch(account.did)) is not None:
        return (
            f"the issuer {issuer}: {mismatch}, {asked}"
            if answer.sub != account.did
            else f"the issuer {issuer}: {mismatch}"
        )
    if answer.unconfirmed is not None:  # a login has no stored session to compare with
        return f"the issuer {issuer}: {answer.unconfirmed}"
    if "atproto" not in (answer.scope or "").split():
        return f"the issuer {issuer}: the scope that was granted lacks atproto"
    if answer.access_token is None or answer.refresh_token is None:
        return f"the issuer {issuer}: the answer lacks one of the two tokens; a session can't be kept alive with it"
    return None


def _is_did(text: str) -> bool:
    try:
        return bool(parse_did(text))
    except DidError:
        return False


def _refused(issuer: str, response: Response, now: float, sent: tuple[str, ...] = ()) -> LoginError:
    refusal = ErrorResponse.found(response)
    code, text = refusal.told(response.status, sent)
    return LoginError(
        code,
        f"the issuer {issuer} refused the login: {text or f'it answered {response.status}'} ({code})",
        retry_after=retry_after(response, now),
        passing=response.may_pass,
    )


def _unreadable(issuer: str, response: Response) -> LoginError:
    return LoginError(
        Code.UNREADABLE_ANSWER,
        f"the issuer {issuer}: what it answered ({response.status}) is no OAuth answer",
    )
