"""Seals the secrets of stored sessions, each in its own text field, and opens them. Pure, but for chance.

::

    sealed:1:KEYID:SALT:CIPHERTEXT

SALT is 16 random bytes and CIPHERTEXT what AES-256-GCM makes of the secret, its tag at the end; both in base64url
without padding. HKDF-SHA256 makes 44 bytes of the 32 of the key, the salt and the info ``idiolectd sealed 1``: the
AES key and the 12 bytes of the nonce. A salt is used once, and so are both. The associated data are ``1``, the key
ID, the DID, the field's name and the PDS's URL, with a zero byte between: a text that is moved to another account,
field or PDS does not open. In a refresh state the name begins with ``state.``, and the URL is empty.

So every other field may change, each secret can be read alone, and clear and sealed ones may lie side by side.

Rules: what does not open is an error, never a clear text; whoever has no keys pays for a look at each text.
"""

import base64
import os
import re
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING

from idiolectd.errors import SealedError
from idiolectd.session import OAuthSession

if TYPE_CHECKING:
    from idiolectd.state import RefreshState  # a client has no use for states

KEY_BYTES = 32

_SALT_BYTES = 16
_SALT_LENGTH = 22  # in base64url
_INFO = b"idiolectd sealed 1"
_WORD, _VERSION = "sealed", "1"
_BASE64 = re.compile(r"[A-Za-z0-9_-]{22,}")  # an empty secret has 16 bytes of tag


@dataclass(frozen=True)
class SealingKey:
    """A key with the ID that texts name it by.

    Attributes:
        id: letters, digits and ``._-``: it stands between colons.
        secret: `KEY_BYTES` random bytes.
    """

    id: str
    secret: bytes = field(repr=False)


class Keys:
    """The keys of one store: the first seals, all open.

    Args:
        keys: without any, secrets are stored as they are.
        leaves_sealed: for whoever looks at clear fields only: what can't be opened stays sealed, and is no error.

    Attributes:
        sealing: the ID of the key that seals; None: none does.
    """

    def __init__(self, keys: Sequence[SealingKey] = (), *, leaves_sealed: bool = False) -> None:
        self._secrets: Mapping[str, bytes] = {key.id: key.secret for key in keys}
        self._leaves_sealed = leaves_sealed
        self._identity = tuple(keys), leaves_sealed
        self.sealing = keys[0].id if keys else None

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Keys) and self._identity == other._identity

    def __hash__(self) -> int:
        return hash(self._identity)

    def __repr__(self) -> str:
        return f"<Keys {', '.join(self._secrets) or 'none'}>"

    # Records ---------------------------------------------------------------------------------

    def seal(self, session: OAuthSession) -> OAuthSession:
        """A session as it is to be stored."""
        if self.sealing is None:
            return session
        return session.with_secrets(partial(self._seal, session.did, session.pds_url))

    def open(self, session: OAuthSession, place: str) -> OAuthSession:
        """A session of which some secrets may be sealed, with all of them open.

        Raises:
            SealedError: one of them does not open; names `place`.
        """
        # Spelled out: this is all that a store without keys pays, at each reading.
        key = session.dpop_private_key_jwk
        if not (is_sealed(session.access_jwt) or is_sealed(session.refresh_jwt) or (key and is_sealed(key))):
            return session
        return session.with_secrets(partial(self._open, session.did, session.pds_url, place))

    def is_sealing_of(self, session: OAuthSession) -> bool:
        """Whether a session is stored as this program stores it: each secret under the key that seals, or clear."""
        return keys_of(session) == {self.sealing}

    # Refresh states --------------------------------------------------------------------------

    def seal_state(
        self, state: "RefreshState", did: str, stored: "RefreshState | None" = None
    ) -> "RefreshState":
        """A state as it is to be stored; what did not change since `stored` keeps its text."""
        if self.sealing is None:
            return state
        kept: dict[str, tuple[str, str]] = {}
        if stored is not None:
            stored.with_secrets(partial(self._note_kept, did, kept))

        def seal(name: str, text: str) -> str:
            open_text, sealed = kept.get(name, (None, ""))
            return sealed if text == open_text else self._seal(did, "", f"state.{name}", text)

        return state.with_secrets(seal)

    def open_state(
        self, state: "RefreshState", did: str, record: OAuthSession | None = None
    ) -> "RefreshState":
        """A state of which some texts may be sealed, with all of them open.

        Args:
            state: as it is stored.
            did: whose.
            record: what counts as the last good record if that stays sealed.

        Raises:
            SealedError: one of them does not open.
        """
        texts = (state.last_good, state.withheld, state.displaced, state.previous_refresh_token)
        if not [text for text in texts if text and is_sealed(text)]:
            return state

        def open_text(name: str, text: str) -> str:
            found = self._open(did, "", f"the refresh state of {did}", f"state.{name}", text)
            if not is_sealed(found):
                return found
            return record.to_json() if name == "last_good" and record is not None else ""

        return state.with_secrets(open_text)

    # One text --------------------------------------------------------------------------------

    def _seal(self, did: str, pds_url: str, name: str, text: str) -> str:
        from cryptography.hazmat.primitives.ciphers.aead import AESGCM

        key_id = self.sealing or ""
        salt = os.urandom(_SALT_BYTES)
        key, nonce = _derived(self._secrets[key_id], salt)
        data = _associated(key_id, did, name, pds_url)
        made = AESGCM(key).encrypt(nonce, text.encode("utf-8", "surrogatepass"), data)
        return ":".join((_WORD, _VERSION, key_id, _encoded(salt), _encoded(made)))

    def _open(self, did: str, pds_url: str, place: str, name: str, text: str) -> str:
        if not is_sealed(text):
            return text
        try:
            return self._opened(did, pds_url, place, name, text)
        except SealedError:
            if self._leaves_sealed:
                return text
            raise

    def _opened(self, did: str, pds_url: str, place: str, name: str, text: str) -> str:
        from cryptography.exceptions import InvalidTag
        from cryptography.hazmat.primitives.ciphers.aead import AESGCM

        parts = text.split(":")
        if len(parts) != 5 or parts[:2] != [_WORD, _VERSION]:
            raise SealedError(
                place, f"{name} is a sealed text that was damaged, or of a newer idiolectd", did
            )
        key_id = parts[2]
        secret = self._secrets.get(key_id)
        if secret is None and not self._secrets:
            raise SealedError(
                place,
                "its secrets are sealed. Client programs read the clients' view (clients.url), which is not; whoever"
                f" opens the store needs the key {key_id!a} in store.keys of the configuration",
                did,
            )
        if secret is None:
            raise SealedError(
                place,
                f"{name} is sealed with the key {key_id!a}, and store.keys has {', '.join(self._secrets)} only;"
                " add it, below the first",
                did,
            )
        try:
            key, nonce = _derived(secret, _decoded(parts[3]))
            data = _associated(key_id, did, name, pds_url)
            return AESGCM(key).decrypt(nonce, _decoded(parts[4]), data).decode("utf-8", "surrogatepass")
        except (InvalidTag, ValueError):
            raise SealedError(
                place,
                f"{name} does not open with the key {key_id!a}: that is another key than it was sealed with, or the"
                " text, the DID or the PDS beside it was changed; put the right key in store.keys",
                did,
            ) from None

    def _note_kept(self, did: str, kept: dict[str, tuple[str, str]], name: str, text: str) -> str:
        """Notes a stored text, if the key that seals has sealed it, with what is in it."""
        if key_of(text) == self.sealing:
            with suppress(SealedError):  # what does not open is sealed anew
                kept[name] = (self._opened(did, "", did, f"state.{name}", text), text)
        return text


NO_KEYS = Keys()

# For whoever needs no secret.
AS_STORED = Keys(leaves_sealed=True)


def is_sealed(text: str) -> bool:
    """Whether a text is sealed, or was before some of it was damaged: no part of it may be taken for a token."""
    if ":" not in text:
        return text.startswith(_WORD)
    if (
        text[0] == "{" and text[-1] == "}"
    ):  # a JWK, or a record; two characters of a sealed text are not damaged
        return False
    if text.startswith(_WORD):
        return True
    head, _, tail = text.rpartition(":")
    return head[-_SALT_LENGTH - 1 : -_SALT_LENGTH] == ":" and _BASE64.fullmatch(tail) is not None


def key_of(text: str) -> str | None:
    """The ID of the key that a text is sealed with; None: it is clear."""
    return text.split(":")[2] if is_sealed(text) and text.count(":") > 2 else None


def keys_of(session: OAuthSession) -> set[str | None]:
    """The IDs of the keys that the secrets of a session are sealed with; None among them: some are clear."""
    found = (session.access_jwt, session.refresh_jwt, session.dpop_private_key_jwk)
    return {key_of(text) for text in found if text}


def _derived(secret: bytes, salt: bytes) -> tuple[bytes, bytes]:
    from cryptography.hazmat.primitives.hashes import SHA256
    from cryptography.hazmat.primitives.kdf.hkdf import HKDF

    made = HKDF(SHA256(), length=KEY_BYTES + 12, salt=salt, info=_INFO).derive(secret)
    return made[:KEY_BYTES], made[KEY_BYTES:]


def _associated(key_id: str, did: str, name: str, pds_url: str) -> bytes:
    return "\0".join((_VERSION, key_id, did, name, pds_url)).encode("utf-8", "surrogatepass")


def _encoded(raw: bytes) -> str:
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()


def _decoded(text: str) -> bytes:
    """The bytes of base64url without padding, in the one spelling that they have.

    Raises:
        ValueError: it is none.
    """
    raw = base64.b64decode(text + "=" * (-len(text) % 4), altchars="-_", validate=True)
    if _encoded(raw) != text:
        raise ValueError
    return raw
