"""Reads the answers of createSession and refreshSession into the fields of a record.

A token's lifetime (`exp` minus `iat` of the JWT) is added to the time by our clock. So the times in the
record can be compared with our clock, even if that is wrong.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from idiolectd.clock import rfc3339
from idiolectd.http import Response, text_member
from idiolectd.identity import INVALID_HANDLE
from idiolectd.jose import claimed_life, peek_claims
from idiolectd.policy import CAUTIOUS_LIFETIME, believed_lifetime
from idiolectd.session import Tokens
from idiolectd.state import ACTIVE

_WORD = re.compile(r"[A-Za-z][A-Za-z_-]{0,31}", re.ASCII)
_INACTIVE = "inactive"  # the server does not say why


@dataclass(frozen=True)
class SessionAnswer:
    """The tokens of an answer, and their account.

    Attributes:
        did: the account's DID in the answer; None: it is missing.
        tokens: the tokens with their times.
        account_status: `idiolectd.state.ACTIVE`, or why the account is not active; None: not said.
    """

    did: str | None
    tokens: Tokens
    account_status: str | None = None


def read_tokens(response: Response, *, sent_at: float) -> SessionAnswer | None:
    """Reads an answer; None unless both tokens are complete. The rest of the answer may be cut off.

    Args:
        response: the answer.
        sent_at: when the request was sent, by our clock: the tokens are not older than that.
    """
    body = response.members()
    access_jwt, refresh_jwt = text_member(body, "accessJwt"), text_member(body, "refreshJwt")
    if access_jwt is None or refresh_jwt is None:
        return None
    handle = text_member(body, "handle")
    access_lifetime = believed_lifetime(claimed_life(access_jwt)) or CAUTIOUS_LIFETIME
    refresh_lifetime = believed_lifetime(claimed_life(refresh_jwt))
    tokens = Tokens(
        access_jwt=access_jwt,
        refresh_jwt=refresh_jwt,
        issued_at=rfc3339(sent_at),
        expires_at=rfc3339(sent_at + access_lifetime),
        refresh_expires_at=None if refresh_lifetime is None else rfc3339(sent_at + refresh_lifetime),
        token_type="Bearer",  # noqa: S106 -- a type, not a password
        scope=text_member(peek_claims(access_jwt), "scope"),
        handle=None if handle == INVALID_HANDLE else handle,  # keep the record's own
    )
    return SessionAnswer(text_member(body, "did"), tokens, _account_status(body))


def _account_status(body: Mapping[str, Any]) -> str | None:
    """`active` and `status` of an answer (com.atproto.server.refreshSession), as one word."""
    status = text_member(body, "status")
    if status is not None and status != ACTIVE:
        # An unknown status is shown if it is a plain word.
        return status if _WORD.fullmatch(status) else _INACTIVE
    match body.get("active"):
        case True:
            return ACTIVE
        case False:
            return _INACTIVE
        case _:
            return None
