"""Makes the headers that authorize a request to a session's PDS, for any HTTP library.

Nothing here reads a store, sends anything or refreshes.
"""

import time

from idiolectd.errors import SessionError
from idiolectd.oauth import DpopKey
from idiolectd.session import OAuthSession


def auth_headers(
    session: OAuthSession, method: str, url: str, *, nonce: str | None = None, now: float | None = None
) -> dict[str, str]:
    """The headers that authorize one request to the session's PDS.

    For a DPoP session: the token and a new proof with `ath` (RFC 9449, section 7), valid for one request;
    never reuse them. For a legacy session: the Bearer token.

    Args:
        session: the session whose token to use.
        method: HTTP method of the request.
        url: the request's URL; its query is ignored.
        nonce: the newest ``DPoP-Nonce`` of this server. Without one, or with an old one, the server answers
            401 ``use_dpop_nonce`` with a new nonce: make new headers with that one, once.
        now: seconds since the epoch by the server's clock, if that is known to differ from ours.

    Raises:
        SessionError: the session's DPoP key, or its token, can't be used.
        UrlError: `url` is not a URL.
    """
    if not (session.access_jwt.isascii() and session.access_jwt.isprintable()):
        # A line break would inject another header, and an HTTP library's own error would quote the token.
        raise SessionError("field accessJwt can't be sent in a header")
    if session.kind == "bearer":
        return {"Authorization": f"Bearer {session.access_jwt}"}
    proof = DpopKey.from_jwk_json(session.dpop_private_key_jwk).proof(
        htm=method.upper(),
        htu=url,
        iat=time.time() if now is None else now,
        nonce=nonce,
        access_token=session.access_jwt,
    )
    return {"Authorization": f"DPoP {session.access_jwt}", "DPoP": proof}
