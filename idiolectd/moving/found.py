"""What a source holds: entries, the sessions that were made of them, and what is no session, with its reason."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from idiolectd.errors import SessionError, UrlError
from idiolectd.foreign import JSON
from idiolectd.jose import peek_claims
from idiolectd.oauth import SigningKey
from idiolectd.session import OAuthSession
from idiolectd.url import Url


@dataclass(frozen=True)
class Entry:
    """Something in a source that may be a session.

    Attributes:
        where: its place, for people: ``sessions.json, did:plc:…`` or ``auth.db, table oauth_session, row 2``.
        fields: what it holds, by the names that it has there.
        did: the DID that it is kept under; None: it is kept under none.
    """

    where: str
    fields: Mapping[str, Any] = field(repr=False)
    did: str | None = None


@dataclass(frozen=True)
class Found:
    """A session that was made of an entry.

    Attributes:
        where: as of `Entry`.
        form: the name of its form.
        session: the session.
        advice: what is better than to import it; None: nothing.
    """

    where: str
    form: str
    session: OAuthSession
    advice: str | None = None


@dataclass(frozen=True)
class Unusable:
    """What no session could be made of.

    Attributes:
        where: as of `Entry`.
        why: the reason, without a value.
        form: the name of the form that it was taken for; None: none fits.
    """

    where: str
    why: str
    form: str | None = None


def made(record: Mapping[str, Any]) -> OAuthSession:
    """Makes a session of record fields by the rules for stored ones; what is None or empty is left out.

    Raises:
        SessionError: as `checked`, or a field is missing or of a wrong type.
    """
    held = {name: value for name, value in record.items() if value not in (None, "")}
    try:
        text = json.dumps(held)
    except (ValueError, RecursionError, TypeError):
        raise SessionError("a field holds what JSON can't") from None
    return checked(OAuthSession.from_json(text))


def checked(session: OAuthSession) -> OAuthSession:
    """Returns the session if its URLs and its key can be used, with the issuer and client that its token names.

    Raises:
        SessionError: one can't; the message names it and shows no value.
    """
    if session.kind == "dpop":
        claims = peek_claims(session.access_jwt)
        session = replace(
            session,
            issuer=session.issuer or _text(claims.get("iss")),
            client_id=session.client_id or _text(claims.get("client_id")),
        )
    for name, url in (("PDS", session.pds_url), ("issuer", session.issuer)):
        try:
            if url is not None:
                Url.parse(url)
        except UrlError as error:
            raise SessionError(f"the URL of its {name}: {error}") from None
    if session.dpop_private_key_jwk is not None:
        try:
            SigningKey.parse(session.dpop_private_key_jwk)
        except ValueError as error:
            raise SessionError(f"its DPoP key: {error}") from None
    return session


def key_text(value: Any) -> str:
    """Returns the JSON text of a private JWK, which a program may keep as text, object or ``{"jwk": …}``.

    Raises:
        SessionError: it is none of these.
    """
    found = parsed(value) if isinstance(value, str) else value
    if isinstance(found, dict) and isinstance(found.get("jwk"), dict):
        found = found["jwk"]
    if not isinstance(found, dict):
        raise SessionError("its DPoP key is no JWK")
    try:
        return json.dumps(found, separators=(",", ":"))
    except (ValueError, RecursionError):
        raise SessionError("its DPoP key is no JWK") from None


def parsed(text: str | bytes) -> Any:
    """Parses JSON of any program; None if it is none."""
    try:
        return JSON.decode(text if isinstance(text, str) else text.decode("utf-8-sig"))
    except (ValueError, RecursionError):
        return None


def _text(claim: object) -> str | None:
    return claim if isinstance(claim, str) and claim else None
