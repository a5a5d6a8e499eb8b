"""Makes DPoP proofs (RFC 9449) with the keys of session records, which are kept for a moment. Sends nothing."""

import hashlib
import threading
import time
from collections import OrderedDict
from collections.abc import Callable
from functools import cached_property

from idiolectd.errors import SessionError
from idiolectd.jose import b64url_encode
from idiolectd.oauth.keys import SigningKey, jwt_part, new_jti
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
        return self.sign_encoded(self._proof_header, claims)

    @cached_property
    def _proof_header(self) -> str:
        return jwt_part({"typ": "dpop+jwt", "jwk": self.public_jwk, "alg": self.alg})


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
