"""The session strings of the Python SDK ``atproto``: ``handle:::did:::accessJwt:::refreshJwt:::pdsEndpoint``.

Strings of older versions end before the endpoint; the SDK then uses ``https://bsky.social``.
"""

from collections.abc import Mapping
from typing import Any

from idiolectd.errors import SessionError
from idiolectd.moving.entries import STRING_FIELD, STRING_SEPARATOR
from idiolectd.moving.form import Form
from idiolectd.moving.found import Entry, made
from idiolectd.oauth import AuthorizationServer
from idiolectd.session import OAuthSession

_USUAL_PDS = "https://bsky.social"


def _fits(fields: Mapping[str, Any]) -> bool:
    return STRING_FIELD in fields


def _session(entry: Entry) -> OAuthSession:
    text = entry.fields[STRING_FIELD]
    parts = text.strip().split(STRING_SEPARATOR) if isinstance(text, str) else []
    if len(parts) not in (4, 5):
        raise SessionError("a session string has four or five parts")
    handle, did, access_jwt, refresh_jwt, pds_url = [*parts, ""][:5]
    return made(
        {
            "did": did,
            "pdsUrl": pds_url or _USUAL_PDS,
            "accessJwt": access_jwt,
            "refreshJwt": refresh_jwt,
            "tokenType": "Bearer",
            "handle": handle,
        }
    )


def _encode(session: OAuthSession, _server: AuthorizationServer | None) -> Any:
    if session.kind != "bearer":
        raise SessionError("the SDK keeps sessions of app passwords only")
    parts = (
        session.known_as or "handle.invalid",
        session.did,
        session.access_jwt,
        session.refresh_jwt,
        session.pds_url,
    )
    return STRING_SEPARATOR.join(parts)


SESSION_STRING = Form(
    name="string",
    program="the Python SDK atproto",
    stop="the Python program that logs in with this session string; the SDK refreshes by itself",
    fits=_fits,
    session=_session,
    encode=_encode,
)
