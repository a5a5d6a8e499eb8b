"""DPoP (RFC 9449): proofs, and requests that carry one.

A server asks for a nonce by refusing; such a request is repeated once, with a new proof. Nonces are
kept in `HttpClient.nonces`, one per server, for all sessions. An authorization server and a PDS are
two servers, also on one origin: neither takes the other's nonces. Proofs are dated by the server's
clock as far as it is known.
"""

import hashlib
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Mapping

from idiolectd.errors import SessionError
from idiolectd.http import CutOff, ErrorResponse, HttpClient, Response, challenge_error, origin
from idiolectd.jose import b64url_encode
from idiolectd.oauth.keys import SigningKey, new_jti
from idiolectd.oauth.proof_retry import ProofRetry
from idiolectd.url import Url

# Parsing a key takes twice the time of signing with it, and whoever needs one needs it again soon. Kept no
# longer than that: of a session that ended, nothing stays in memory.
_KEYS_KEPT, _KEPT_SECONDS = 256, 60.0


class DpopKey(SigningKey):
    """The key that a session's tokens are bound to."""

    @classmethod
    def from_jwk_json(cls, text: str | None) -> "DpopKey":
        """The key of a session record.

        Raises:
            SessionError: it can't be used. The message shows nothing of it.
        """
        try:
            return _RECENT.get(text or "")
        except ValueError as error:
            raise SessionError(f"field dpopPrivateKeyJwk: {error}") from None

    def proof(
        self,
        *,
        htm: str,
        htu: str | Url,
        iat: float,
        nonce: str | None = None,
        access_token: str | None = None,
    ) -> str:
        """A fresh proof (RFC 9449, section 4.2), good for one request.

        Args:
            htm: the request's method.
            htu: the request's URL; query and fragment are left out.
            iat: now, by the server's clock; seconds since the epoch.
            nonce: the server's newest.
            access_token: at a PDS, the token that goes along; never at an authorization server.

        Raises:
            UrlError: `htu` is not a URL.
        """
        where = Url.parse(htu) if isinstance(htu, str) else htu
        claims: dict[str, str | int] = {
            "jti": new_jti(),
            "htm": htm,
            "htu": where.origin + where.path,
            "iat": int(iat),
        }
        if nonce is not None:
            claims["nonce"] = nonce
        if access_token is not None:
            claims["ath"] = b64url_encode(hashlib.sha256(access_token.encode()).digest())
        return self.sign({"typ": "dpop+jwt", "jwk": self.public_jwk}, claims)


class RecentKeys:
    """Parsed keys, each until a minute after its last use. May be shared by threads.

    Args:
        now: monotonic time.
    """

    def __init__(self, now: Callable[[], float] = time.monotonic) -> None:
        self._now = now
        self._changing = threading.Lock()
        self._keys: OrderedDict[str, tuple[DpopKey, float]] = OrderedDict()

    def __len__(self) -> int:
        return len(self._keys)

    def get(self, text: str) -> DpopKey:
        """The key of a private JWK. Raises as `DpopKey.parse`."""
        with self._changing:
            now = self._now()
            known = self._keys.pop(text, None)
            while self._keys and now > next(iter(self._keys.values()))[1]:
                self._keys.popitem(last=False)
            key = known[0] if known is not None else DpopKey.parse(text)
            self._keys[text] = key, now + _KEPT_SECONDS
            if len(self._keys) > _KEYS_KEPT:
                self._keys.popitem(last=False)
            return key


_RECENT = RecentKeys()


async def request(
    http: HttpClient,
    key: DpopKey,
    method: str,
    url: str | Url,
    *,
    access_token: str | None = None,
    form: Callable[[], Mapping[str, str]] | None = None,
) -> Response:
    """Sends a request with a proof, and again if the server asks for another nonce or time (`ProofRetry`).

    Args:
        http: sends it.
        key: signs the proof.
        method: HTTP method.
        url: without a query.
        access_token: for a request to a PDS.
        form: makes the body; called for every sending, because a client assertion is good for one.

    Raises:
        NotSent: nothing was sent, or only what was refused for its nonce.
        Unclear: as `HttpClient.request`.
    """
    target = http.target(url)
    server = nonce_key(target, access_token)
    retry = ProofRetry(lambda: (http.nonces.get(server), http.skew(target.origin)))
    while True:
        response = await _send(http, key, method, target, access_token, form, retry.nonce)
        if not retry.is_called_for(response.status, error_of(response)):
            return response


async def _send(
    http: HttpClient,
    key: DpopKey,
    method: str,
    target: Url,
    access_token: str | None,
    form: Callable[[], Mapping[str, str]] | None,
    nonce: str | None,
) -> Response:
    now = http.server_now(target)
    proof = key.proof(htm=method, htu=target, iat=now, nonce=nonce, access_token=access_token)
    headers = {"DPoP": proof}
    if access_token is not None:
        headers["Authorization"] = f"DPoP {access_token}"
    server = nonce_key(target, access_token)
    try:
        response = await http.request(method, target, headers=headers, form=form() if form else None)
    except CutOff as error:
        http.nonces.take(server, error.response.headers.get("dpop-nonce"))
        raise
    http.nonces.take(server, response.headers.get("dpop-nonce"))
    return response


def nonce_key(url: str | Url, access_token: str | None = None) -> str:
    """Under which key `HttpClient.nonces` keeps the nonce for a request: per origin, and apart for a PDS."""
    return origin(url) if access_token is None else f"{origin(url)} pds"


def error_of(response: Response) -> str | None:
    """The error code of a refusal: a PDS puts it into `WWW-Authenticate`, everybody into the body."""
    if not 400 <= response.status < 500:
        return None
    return challenge_error(response) or ErrorResponse.found(response).error
