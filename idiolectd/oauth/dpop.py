"""Sends requests that carry a DPoP proof (RFC 9449).

A server asks for a nonce by refusing the request, which is then sent again with a new proof. Nonces are kept
in `HttpClient.nonces`, one per server, for all sessions. An authorization server and a PDS count as two
servers even on one origin: neither accepts the other's nonces. A proof's `iat` follows the server's clock if
that is known.
"""

from collections.abc import Callable, Mapping

from idiolectd.http import CutOff, HttpClient, Response, error_of, origin
from idiolectd.oauth.proof import DpopKey
from idiolectd.oauth.proof_retry import ProofRetry
from idiolectd.url import Url


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
