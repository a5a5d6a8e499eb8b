"""What createSession and refreshSession answer with, read into the fields of a record.

The lifetimes are the JWTs' own (`exp` less `iat`), applied to our clock: what the record says can
then be compared with our clock, however wrong that is.
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
_INACTIVE = "inactive"  # it does not say why


@dataclass(frozen=True)
class SessionAnswer:
    """The two tokens, and whose they are.

    Attributes:
        did: as the server says it; None: it does not.
        tokens: the tokens with their times.
        account_status: `idiolectd.state.ACTIVE`, or why the account is not; None: it does not say.
    """

    did: str | None
    tokens: Tokens
    account_status: str | None = None


def read_tokens(response: Response, *, sent_at: float) -> SessionAnswer | None:
    """Reads an answer; None if the two tokens are not in it, whole. What else there is may be cut off.

    Args:
        response: the answer.
        sent_at: when the request left, by our clock: the tokens are at most that old.
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
        handle=None if handle == INVALID_HANDLE else handle,  # the one in the record is of more use
    )
    return SessionAnswer(text_member(body, "did"), tokens, _account_status(body))


def _account_status(body: Mapping[str, Any]) -> str | None:
    """`active` and `status` of an answer (com.atproto.server.refreshSession), as one word."""
    status = text_member(body, "status")
    if status is not None and status != ACTIVE:
        # Words that nobody knows yet are shown; whatever is no word is not.
        return status if _WORD.fullmatch(status) else _INACTIVE
    match body.get("active"):
        case True:
            return ACTIVE
        case False:
            return _INACTIVE
        case _:
            return None
