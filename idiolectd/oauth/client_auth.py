"""Finds the OAuth client that a session belongs to, and authenticates requests as that client (RFC 7523).

The reference server ends a session whose refresh token is sent by another client, or with another of the
client's keys. So nothing is guessed: if the client or its key is not known, `ClientRegistry.client_of`
returns `Suspended`, and an operator must complete the configuration.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field

from idiolectd.errors import ConfigError, LoginError
from idiolectd.http import text_member
from idiolectd.jose import peek_claims
from idiolectd.oauth.keys import SigningKey, new_jti
from idiolectd.outcome import Cause, Suspended
from idiolectd.session import OAuthSession

_ASSERTION_TYPE = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"

# Seconds that an assertion's `iat` lies in the past. Servers refuse one that is even slightly in the future,
# and one that is older than a minute.
_BACKDATED = 8
_LIFE = 60


@dataclass(frozen=True)
class UnusableKey:
    """A configured key that can't be read or is not a key. Only sessions that were started with it must wait.

    Attributes:
        why: a message for people; names the key and shows nothing of its text.
        read: reads the key again, in case that somebody has repaired it.
    """

    why: str
    read: Callable[[], "SigningKey | UnusableKey"] = field(repr=False)


@dataclass(frozen=True)
class OAuthClient:
    """A client that this host may act as.

    Attributes:
        client_id: its URL.
        keys: its private keys by ``kid``, the one for new sessions first; empty for a public client.
    """

    client_id: str
    keys: Mapping[str, SigningKey | UnusableKey] = field(default_factory=dict, repr=False)

    @property
    def signing_keys(self) -> Mapping[str, SigningKey]:
        """The keys that can be used."""
        return {kid: key for kid, key in self.keys.items() if isinstance(key, SigningKey)}


@dataclass(frozen=True)
class ClientAuth:
    """How a session's client authenticates: by ``none``, or by ``private_key_jwt`` with one key."""

    client_id: str
    key_id: str | None = None
    key: SigningKey | None = field(default=None, repr=False)

    @property
    def method(self) -> str:
        """As in `token_endpoint_auth_methods_supported` (RFC 8414, section 2)."""
        return "none" if self.key is None else "private_key_jwt"

    def parameters(self, issuer: str, server_now: float) -> dict[str, str]:
        """The parameters that authenticate one request (RFC 7523, section 2.2). Never reuse them."""
        if self.key is None:
            return {"client_id": self.client_id}
        issued_at = int(server_now) - _BACKDATED
        claims = {
            "iss": self.client_id,
            "sub": self.client_id,
            "aud": issuer,
            "jti": new_jti(),
            "iat": issued_at,
            "exp": issued_at + _LIFE,
        }
        return {
            "client_id": self.client_id,
            "client_assertion_type": _ASSERTION_TYPE,
            "client_assertion": self.key.sign({"kid": self.key_id}, claims),
        }


class ClientRegistry:
    """The clients of the configuration.

    Args:
        clients: the clients that have keys.
        default_client_id: the client of sessions for which neither the record nor the access token names
            one; None: such sessions are suspended.
    """

    def __init__(self, clients: Iterable[OAuthClient] = (), default_client_id: str | None = None) -> None:
        self._keys = {client.client_id: dict(client.keys) for client in clients}
        self._default = default_client_id

    def client_of(self, session: OAuthSession) -> ClientAuth | Suspended:
        """The client of a session, with the key that the session was started with."""
        client_id = session.client_id or self._unnamed(session)
        if isinstance(client_id, Suspended):
            return client_id
        keys = self._keys.get(client_id, {})
        if session.client_auth_method == "none":
            return ClientAuth(client_id)
        if session.client_auth_method is None and session.client_key_id is None and not keys:
            return ClientAuth(client_id)
        if session.client_auth_method not in (None, "private_key_jwt"):
            return _suspended(Cause.CLIENT_UNKNOWN, "the session's client authenticates by an unknown method")
        return self._with_key(client_id, session.client_key_id)

    def check_successor(self, successor: "ClientRegistry") -> None:
        """Refuses a new configuration that replaces a working key under its ``kid``, or makes it unreadable.

        A session can only be refreshed with the key that it was started with, so such a change would end
        all sessions of that key.

        Raises:
            ConfigError: the message names the key.
        """
        for client_id, keys in self._keys.items():
            for kid, key in keys.items():
                new = successor._keys.get(client_id, {}).get(kid)  # noqa: SLF001 -- of the same class
                if isinstance(key, UnusableKey) or new is None:
                    continue
                if isinstance(new, UnusableKey):
                    raise ConfigError(new.why)
                if new.thumbprint != key.thumbprint:
                    raise ConfigError(
                        f"oauth.clients: key {kid} of {client_id} is another key than before: sessions started"
                        " with that one would end. Give the new key a kid of its own, beside the old one"
                    )
        for client_id, keys in successor._keys.items():  # noqa: SLF001 -- of the same class
            for kid, key in keys.items():
                if isinstance(key, UnusableKey) and kid not in self._keys.get(client_id, {}):
                    raise ConfigError(key.why)

    def for_login(self, client_id: str) -> ClientAuth:
        """A confidential client for a new login, with its first key.

        Raises:
            LoginError: no client with that client_id is configured, or it has no key.
        """
        keys = self._keys.get(client_id)
        if not keys:
            raise LoginError(Cause.CLIENT_UNKNOWN, f"oauth.clients has no client {client_id} with a key")
        found = self._with_key(client_id, next(iter(keys)))
        if isinstance(found, Suspended):
            raise LoginError(found.code, found.message)
        return found

    def _unnamed(self, session: OAuthSession) -> str | Suspended:
        hint = _text_claim(session, "client_id")
        if hint is None:
            if self._default is None:
                return _suspended(
                    Cause.CLIENT_UNKNOWN,
                    "neither the session nor its token names an OAuth client; set oauth.client_id",
                )
            return self._default
        if self._default not in (None, hint) and hint not in self._keys:
            return _suspended(
                Cause.CLIENT_MISMATCH, "the access token names another OAuth client than oauth.client_id"
            )
        return hint

    def _with_key(self, client_id: str, key_id: str | None) -> ClientAuth | Suspended:
        keys = self._keys.get(client_id, {})
        if key_id is None and len(keys) == 1:  # counts unusable keys too: the session may be theirs
            key_id = next(iter(keys))
        key = keys.get(key_id) if key_id is not None else None
        if key_id is None or key is None:
            return _suspended(
                Cause.CLIENT_KEY_MISSING,
                "the key of the OAuth client that the session was started with is not configured"
                if key_id is not None
                else "the session does not say which of the OAuth client's keys it was started with",
            )
        if isinstance(key, UnusableKey):
            key = keys[key_id] = key.read()
            if isinstance(key, UnusableKey):
                return _suspended(Cause.CLIENT_KEY_UNUSABLE, key.why)
        return ClientAuth(client_id, key_id, key)


def issuer_hint(session: OAuthSession) -> str | None:
    """The `iss` claim of the access token; None if it has none or is not a JWT."""
    return _text_claim(session, "iss")


def thumbprint_hint(session: OAuthSession) -> str | None:
    """The thumbprint of the key that the access token says it is bound to (RFC 9449, section 6.1)."""
    confirmation = peek_claims(session.access_jwt).get("cnf")
    value = confirmation.get("jkt") if isinstance(confirmation, dict) else None
    return value if isinstance(value, str) else None


def _text_claim(session: OAuthSession, name: str) -> str | None:
    return text_member(peek_claims(session.access_jwt), name)


def _suspended(cause: str, message: str) -> Suspended:
    return Suspended(cause, cause, message)
