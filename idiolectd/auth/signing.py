"""Makes the headers that authorize a request to a session's PDS, for any HTTP library.

Nothing here reads a store, sends anything or refreshes.
"""

import time
from functools import cached_property

from idiolectd.auth.destination import pds_origin
from idiolectd.errors import SessionError
from idiolectd.oauth import DpopKey
from idiolectd.session import OAuthSession
from idiolectd.url import Url


class Credentials:
    """What authorizes the requests of a session. Made once for each state of its record, and kept with it.

    Attributes:
        session: the session.
    """

    def __init__(self, session: OAuthSession) -> None:
        self.session = session

    @cached_property
    def home(self) -> str:
        """The origin of the session's PDS. Raises `SessionError` if the record names none."""
        return pds_origin(self.session)

    def headers(self, method: str, url: Url, nonce: str | None, now: float) -> dict[str, str]:
        """See `auth_headers`; `method` in upper case."""
        if self._key is None:
            return {"Authorization": self._authorization}
        proof = self._key.proof(
            htm=method, htu=url, iat=now, nonce=nonce, access_token=self.session.access_jwt
        )
        return {"Authorization": self._authorization, "DPoP": proof}

    @cached_property
    def _key(self) -> DpopKey | None:
        is_bearer = self.session.kind == "bearer"
        return None if is_bearer else DpopKey.from_jwk_json(self.session.dpop_private_key_jwk)

    @cached_property
    def _authorization(self) -> str:
        token = self.session.access_jwt
        if not (token.isascii() and token.isprintable()):
            # A line break would inject another header, and an HTTP library's own error would quote the token.
            raise SessionError("field accessJwt can't be sent in a header")
        return f"Bearer {token}" if self._key is None else f"DPoP {token}"


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
    now = time.time() if now is None else now
    return Credentials(session).headers(method.upper(), Url.parse(url), nonce, now)
