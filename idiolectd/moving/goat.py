"""``auth-session.json`` of the command line goat, under ``$XDG_STATE_HOME/goat`` or ``~/.local/state/goat``."""

from collections.abc import Mapping
from typing import Any

from idiolectd.errors import SessionError
from idiolectd.moving.form import Form
from idiolectd.moving.found import Entry, made
from idiolectd.session import OAuthSession


def _fits(fields: Mapping[str, Any]) -> bool:
    return {"did", "pds", "session_token"} <= fields.keys()


def _session(entry: Entry) -> OAuthSession:
    fields = entry.fields
    if not fields.get("access_token"):
        raise SessionError(f"goat kept no access token; {_advice(entry) or 'log the account in'}")
    return made(
        {
            "did": fields.get("did"),
            "pdsUrl": fields.get("pds"),
            "accessJwt": fields.get("access_token"),
            "refreshJwt": fields.get("session_token"),
            "tokenType": "Bearer",
        }
    )


def _advice(entry: Entry) -> str | None:
    if not entry.fields.get("password"):
        return None
    return (
        f"an app password lies beside its tokens: a login of idiolectd's own does not touch goat's session:"
        f" idiolectd login {entry.fields.get('did')} --app-password"
    )


GOAT = Form(
    name="goat",
    program="goat",
    stop="goat: each command of it refreshes; move its auth-session.json away",
    fits=_fits,
    session=_session,
    advice=_advice,
)
