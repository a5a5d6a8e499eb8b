"""The session record: the data that is stored for one account, whatever the store.

Three shapes are read: the record of idiolect-oauth's stores, the same with our fields, and the file
that its CLI's ``oauth login`` writes (``pds_url``, no expiry). One shape is written, readable by all
three readers: upstream's field order and spelling, our fields after them, unknown fields last.

Timestamps stay the text that was found (RFC 3339): writing a record back must not change what it
did not mean to change. The helper methods parse them; as in upstream, an unreadable expiry counts as expired.
"""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from functools import cached_property
from json.encoder import encode_basestring
from typing import Any, ClassVar, Literal, Self

from idiolectd.clock import parse_rfc3339, rfc3339
from idiolectd.copying import built, replace
from idiolectd.did import parse_did
from idiolectd.errors import SessionError
from idiolectd.jose import jwk_thumbprint, numeric_claim, peek_claims, token_hash

Kind = Literal["dpop", "bearer"]

_NEVER_READ = timedelta(0)


def _secret(default: str | None = None) -> Any:
    return field(default=default, repr=False)


@dataclass(frozen=True, kw_only=True)
class Tokens:
    """What one rotation brings: the fields of a session that a refresh may change.

    The times are RFC 3339 text. A field that is None leaves the session's own value as it is. A DPoP key comes only
    from a client program's own refresher: the authorization server binds a refresh token to one key.
    """

    access_jwt: str = field(repr=False)
    refresh_jwt: str = field(repr=False)
    issued_at: str
    expires_at: str
    refresh_expires_at: str | None = None
    token_type: str | None = None
    scope: str | None = None
    handle: str | None = None
    confirmed_handle: str | None = None
    pds_url: str | None = None
    dpop_nonce: str | None = field(default=None, repr=False)
    dpop_private_key_jwk: str | None = field(default=None, repr=False)


@dataclass(frozen=True, kw_only=True)
class OAuthSession:
    """One account's session, as stored. Immutable; `repr` shows no secret.

    Attributes:
        did: whose session.
        pds_url: the account's PDS, where the access token is used.
        access_jwt: the access token (opaque, whatever upstream's field name says).
        refresh_jwt: the refresh token; each use replaces it.
        dpop_private_key_jwk: JSON of the private JWK that both tokens are bound to; None: legacy.
        dpop_nonce: upstream's field, kept for its readers; idiolectd does not use it.
        token_type: ``DPoP`` or ``Bearer``.
        scope: space-separated, as granted.
        handle: the handle given by the server or by the program that wrote the record; not confirmed.
        issued_at: when the access token was issued.
        expires_at: when the access token expires; empty if unknown.
        refresh_expires_at: when the refresh token expires, if known.
        issuer: the authorization server's issuer (RFC 8414); tokens go to no other.
        client_id: the OAuth client that the tokens belong to.
        client_auth_method: ``none`` or ``private_key_jwt``.
        client_key_id: ``kid`` of the client key the session was started with.
        session_started_at: when the person logged in; servers count the session's life from here.
        confirmed_handle: the handle that resolved to this DID and that the DID's document named at the last
            check; empty: there was none; None: never checked. Sessions are found by this handle.
        extra: fields of the record that are not ours, kept as they are.
    """

    did: str
    pds_url: str
    access_jwt: str = _secret()
    refresh_jwt: str = _secret()
    dpop_private_key_jwk: str | None = _secret()
    dpop_nonce: str | None = _secret()
    token_type: str | None = None
    scope: str | None = None
    handle: str | None = None
    issued_at: str = ""
    expires_at: str = ""
    refresh_expires_at: str | None = None
    issuer: str | None = None
    client_id: str | None = None
    client_auth_method: str | None = None
    client_key_id: str | None = None
    session_started_at: str | None = None
    confirmed_handle: str | None = None
    extra: Mapping[str, Any] = field(default_factory=dict, repr=False, hash=False)

    derived_from: ClassVar[Mapping[str, str]] = {
        "refresh_token_hash": "refresh_jwt",
        "dpop_thumbprint": "dpop_private_key_jwk",
    }

    # Shape -----------------------------------------------------------------------------------

    @classmethod
    def from_json(cls, text: str | bytes, *, viewed: bool = False) -> Self:
        """Reads any of the three shapes.

        Args:
            text: the record.
            viewed: it is an entry of the clients' view (`idiolectd.store.view`), which holds no refresh token.

        Raises:
            SessionError: not JSON, not an object, a field missing or of a wrong type. The message
                names the field and never shows a value.
        """
        record = _parse_object(text)
        values: dict[str, Any] = {}
        for json_name, name in _NAMES.items():
            value = record.pop(json_name, None)
            if value is not None and not isinstance(value, str):
                raise SessionError(f"field {json_name} holds {_kind_of(value)}; expected a string")
            values[name] = value
        cli_pds_url = record.get("pds_url")  # stays in `record`: the upstream CLI reads it there
        if values["pds_url"] is None and isinstance(cli_pds_url, str):
            values["pds_url"] = cli_pds_url
        for name in ("did", "pds_url", "access_jwt", "refresh_jwt"):
            if not values[name] and not (viewed and name == "refresh_jwt" and values[name] == ""):
                raise SessionError(f"field {_JSON_NAMES[name]} is missing")
        if "pds_url" in record:  # as `to_json` writes it: one PDS under both names
            record["pds_url"] = values["pds_url"]
        parse_did(values["did"])
        # Upstream's reader wants the field, so a legacy record holds it empty.
        values["dpop_private_key_jwk"] = values["dpop_private_key_jwk"] or None
        for name, claim in (("issued_at", "iat"), ("expires_at", "exp")):
            if values[name] is None:
                time = numeric_claim(peek_claims(values["access_jwt"]), claim)
                values[name] = "" if time is None else rfc3339(time)
        values["extra"] = record
        return built(cls, values)

    def to_json(self) -> str:
        """The record as it is stored: compact JSON, upstream's order, unknown fields kept.

        Text by text: the encoder for any value needs five times as long, and each refresh writes some records.
        """
        values, members = vars(self), list[str]()
        for json_name, name in _NAMES.items():
            value = values[name]
            if value is not None:
                members.append(f'"{json_name}":{encode_basestring(value)}')
            elif name == "dpop_private_key_jwk":
                members.append(f'"{json_name}":""')
        for name, value in self.extra.items():
            shown = self.pds_url if name == "pds_url" else value
            members.append(f"{encode_basestring(name)}:{_ENCODER.encode(shown)}")
        return f"{{{','.join(members)}}}"

    @property
    def kind(self) -> Kind:
        """``dpop`` for OAuth, ``bearer`` for a legacy (app password) session."""
        if self.dpop_private_key_jwk is None or (self.token_type or "").lower() == "bearer":
            return "bearer"
        return "dpop"

    @property
    def known_as(self) -> str | None:
        """The account's name for people: the confirmed handle, else the unconfirmed one."""
        return self.confirmed_handle or self.handle

    @cached_property
    def refresh_token_hash(self) -> str:
        """The hash that identifies the refresh token without revealing it."""
        return token_hash(self.refresh_jwt)

    @cached_property
    def dpop_thumbprint(self) -> str | None:
        """RFC 7638 thumbprint of the DPoP key; None if there is no readable one."""
        try:
            return jwk_thumbprint(json.loads(self.dpop_private_key_jwk or ""))
        except (ValueError, AttributeError, RecursionError):
            return None

    def with_tokens(self, tokens: Tokens) -> Self:
        """This session after a rotation: only what `Tokens` holds changes."""
        changes = {name: value for name, value in vars(tokens).items() if value is not None}
        return replace(self, **changes)

    def with_secrets(self, change: Callable[[str, str], str]) -> Self:
        """This session, each of its secrets replaced by what `change` makes of the field's name and the secret."""
        changes: dict[str, Any] = {}
        for name in _SECRETS:
            text = getattr(self, name)
            if text:
                changes[name] = change(_JSON_NAMES[name], text)
        return replace(self, **changes)

    # Time: names and meaning of idiolect-oauth -----------------------------------------------

    def is_expired(self, now: datetime) -> bool:
        """Whether the access token has ended; an unreadable `expires_at` counts as ended."""
        return self.time_until_expiry(now) == timedelta(0)

    def time_until_expiry(self, now: datetime) -> timedelta:
        """How long the access token still lives; zero when past or unreadable."""
        expiry = parse_rfc3339(self.expires_at)
        if expiry is None:
            return _NEVER_READ
        return max(timedelta(0), timedelta(seconds=expiry - now.timestamp()))

    def needs_refresh(self, now: datetime, threshold: timedelta) -> bool:
        """Whether the access token ends within `threshold`; unreadable counts as yes."""
        expiry = parse_rfc3339(self.expires_at)
        return expiry is None or expiry - now.timestamp() <= threshold.total_seconds()

    def refresh_expired(self, now: datetime) -> bool:
        """Whether the refresh token has ended; unset or unreadable counts as no."""
        expiry = parse_rfc3339(self.refresh_expires_at)
        return expiry is not None and now.timestamp() >= expiry


def normal_handle(text: str) -> str:
    """A handle as it is compared: without ``@``, in lower case (https://atproto.com/specs/handle)."""
    return text.removeprefix("@").lower()


_NAMES = {
    "did": "did",
    "pdsUrl": "pds_url",
    "accessJwt": "access_jwt",
    "refreshJwt": "refresh_jwt",
    "dpopPrivateKeyJwk": "dpop_private_key_jwk",
    "dpopNonce": "dpop_nonce",
    "tokenType": "token_type",
    "scope": "scope",
    "handle": "handle",
    "issuedAt": "issued_at",
    "expiresAt": "expires_at",
    "refreshExpiresAt": "refresh_expires_at",
    "issuer": "issuer",
    "clientId": "client_id",
    "clientAuthMethod": "client_auth_method",
    "clientKeyId": "client_key_id",
    "sessionStartedAt": "session_started_at",
    "confirmedHandle": "confirmed_handle",
}
# What nobody else may see. The nonce is worth nothing without the key.
_SECRETS = ("access_jwt", "refresh_jwt", "dpop_private_key_jwk")
_JSON_NAMES = {name: json_name for json_name, name in _NAMES.items()}

_ENCODER = json.JSONEncoder(ensure_ascii=False, separators=(",", ":"))


def _parse_object(text: str | bytes) -> dict[str, Any]:
    try:
        if isinstance(text, bytes):
            text = text.decode("utf-8")
        record = _DECODER.decode(text)
        if "\\u" in text:  # a lone surrogate is legal in JSON, and can't be stored as UTF-8 again
            json.dumps(record, ensure_ascii=False).encode("utf-8")
    except UnicodeError:
        raise SessionError("not UTF-8") from None
    except RecursionError:
        raise SessionError("nested too deeply") from None
    except ValueError:  # its message would quote the text, and the text holds tokens
        raise SessionError("not JSON") from None
    if not isinstance(record, dict):
        raise SessionError(f"holds {_kind_of(record)}; expected a JSON object")
    return record


def _refuse_constant(_name: str) -> None:
    raise ValueError


_DECODER = json.JSONDecoder(parse_constant=_refuse_constant)


def _kind_of(value: object) -> str:
    kinds = {dict: "an object", list: "a list", bool: "a boolean", int: "a number", float: "a number"}
    return kinds.get(type(value), "a string" if isinstance(value, str) else "null")
