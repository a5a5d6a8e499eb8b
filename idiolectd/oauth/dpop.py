"""Makes DPoP proofs (RFC 9449) and sends requests that carry one.

A server asks for a nonce by refusing the request, which is then sent again with a new proof. Nonces are kept
in `HttpClient.nonces`, one per server, for all sessions. An authorization server and a PDS count as two
servers even on one origin: neither accepts the other's nonces. A proof's `iat` follows the server's clock if
that is known.
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

# Parsing a key takes twice the time of signing with it, and a key is used several times within a refresh. It
# is dropped a minute after its last use, so that no key of an ended session stays in memory.
_KEYS_KEPT, _KEPT_SECONDS = 256, 60.0


class DpopKey(SigningKey):
    """The key that a session's tokens are bound to."""

    @classmethod
    def from_jwk_json(cls, text: str | None) -> "DpopKey":
        """Parses the key of a session record.

        Raises:
            SessionError: the key can't be used. The message shows nothing of it.
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
        """A new proof for one request (RFC 9449, section 4.2).

        Args:
            htm: the request's method.
            htu: the request's URL; query and fragment are left out.
            iat: now, by the server's clock; seconds since the epoch.
            nonce: the server's newest nonce.
            access_token: the access token that is sent to a PDS; None for an authorization server.

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
    """Keeps parsed keys, each until a minute after its last use. Threads may share it.

    Args:
        now: returns monotonic time in seconds.
    """

    def __init__(self, now: Callable[[], float] = time.monotonic) -> None:
        self._now = now
        self._changing = threading.Lock()
        self._keys: OrderedDict[str, tuple[DpopKey, float]] = OrderedDict()

    def __len__(self) -> int:
        return len(self._keys)

    def get(self, text: str) -> DpopKey:
        """The key of a private JWK's JSON. Raises what `DpopKey.parse` raises."""
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
        access_token: the access token, for a request to a PDS.
        form: makes the body; called each time, because a client assertion is valid for one request.

    Raises:
        NotSent: nothing was sent, or only requests that were refused for their nonce.
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
    """The key of a request's nonce in `HttpClient.nonces`: the origin, marked if the origin acts as a PDS."""
    return origin(url) if access_token is None else f"{origin(url)} pds"


def error_of(response: Response) -> str | None:
    """The error code of a refusal, from `WWW-Authenticate` (a PDS) or from the body (all servers)."""
    if not 400 <= response.status < 500:
        return None
    return challenge_error(response) or ErrorResponse.found(response).error
