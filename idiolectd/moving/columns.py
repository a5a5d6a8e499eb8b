"""A database or file of the operator's own, whose columns are named on the command line: ``did=account_did``."""

from collections.abc import Mapping
from typing import Any

from idiolectd.errors import SessionError
from idiolectd.moving.form import Form
from idiolectd.moving.found import Entry, key_text, made
from idiolectd.session import OAuthSession

# Our name of each column, and the record's field. Without a name on the command line the column is called so.
COLUMNS = {
    "did": "did",
    "pds_url": "pdsUrl",
    "access_token": "accessJwt",
    "refresh_token": "refreshJwt",
    "dpop_key": "dpopPrivateKeyJwk",
    "token_type": "tokenType",
    "scope": "scope",
    "handle": "handle",
    "issued_at": "issuedAt",
    "expires_at": "expiresAt",
    "issuer": "issuer",
    "client_id": "clientId",
    "client_auth_method": "clientAuthMethod",
    "client_key_id": "clientKeyId",
    "session_started_at": "sessionStartedAt",
}
_NEEDED = ("did", "pds_url", "access_token", "refresh_token")


def columns_form(names: Mapping[str, str]) -> Form:
    """Makes the form of a source with its own names.

    Args:
        names: our name of a column, of `COLUMNS`, to its name in the source.
    """
    theirs = {ours: names.get(ours, ours) for ours in COLUMNS}

    def fits(fields: Mapping[str, Any]) -> bool:
        return all(theirs[ours] in fields for ours in _NEEDED)

    def session(entry: Entry) -> OAuthSession:
        missing = [theirs[ours] for ours in _NEEDED if not entry.fields.get(theirs[ours])]
        if missing:
            raise SessionError(f"the column {missing[0]!a} is missing or empty")
        record = {COLUMNS[ours]: entry.fields.get(name) for ours, name in theirs.items()}
        key = record["dpopPrivateKeyJwk"]
        record["dpopPrivateKeyJwk"] = key_text(key) if key else None
        record["tokenType"] = record["tokenType"] or ("DPoP" if key else "Bearer")
        return made(record)

    return Form(
        name="columns",
        program="a source of your own",
        stop="every program that refreshes the sessions of this source",
        fits=fits,
        session=session,
    )
