"""Using a session: the headers that a request to its PDS needs.

For every HTTP library. Nothing here reads a store, sends anything, or refreshes.
"""

import time

from idiolectd.errors import SessionError
from idiolectd.oauth import DpopKey
from idiolectd.session import OAuthSession


def auth_headers(
    session: OAuthSession, method: str, url: str, *, nonce: str | None = None, now: float | None = None
) -> dict[str, str]:
    """The headers that authorize one request to the session's PDS.

    For a DPoP session a fresh proof with `ath` (RFC 9449, section 7) beside the token: never reuse
    them. For a legacy session the Bearer token.

    Args:
        session: whose tokens to use.
        method: HTTP method of the request.
        url: its URL; a query does not matter.
        nonce: the newest ``DPoP-Nonce`` that this server sent. Without it, or with an old one, it
            answers 401 ``use_dpop_nonce`` and brings one: make new headers with that, once.
        now: seconds since the epoch by the server's clock, if that is known to differ from ours.

    Raises:
        SessionError: the session's DPoP key, or its token, can't be used.
        UrlError: `url` is not a URL.
    """
    if not (session.access_jwt.isascii() and session.access_jwt.isprintable()):
        # A library's own refusal would quote it, and a line break in it would be a header of its own.
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
