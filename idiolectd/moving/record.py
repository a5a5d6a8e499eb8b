"""The records of idiolect-oauth's stores and CLI, which are idiolectd's own."""

import json
from collections.abc import Mapping
from typing import Any

from idiolectd.errors import SessionError
from idiolectd.moving.form import Form
from idiolectd.moving.found import Entry, checked
from idiolectd.oauth import AuthorizationServer
from idiolectd.session import OAuthSession


def _fits(fields: Mapping[str, Any]) -> bool:
    return {"did", "accessJwt", "refreshJwt"} <= fields.keys()


def _session(entry: Entry) -> OAuthSession:
    try:
        text = json.dumps(entry.fields)
    except (ValueError, RecursionError, TypeError):
        raise SessionError("a field holds what JSON can't") from None
    return checked(OAuthSession.from_json(text))


def _encode(session: OAuthSession, _server: AuthorizationServer | None) -> Any:
    return json.loads(session.to_json())


RECORD = Form(
    name="record",
    program="idiolect-oauth or another idiolectd",
    stop="every program that refreshes from that store: idiolect's CLI, programs built on idiolect-oauth, an idiolectd",
    fits=_fits,
    session=_session,
    encode=_encode,
)
