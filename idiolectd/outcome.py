"""What a refresh can come to, and the table that judges a server's refusal.

`RefreshOutcome` is closed: whoever matches on it must handle every case, and mypy checks that.
The table is the only place that knows which words of a server end a session. Its rows were measured
on the reference PDS; a text that it doesn't know is never final at first sight.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum, auto

from idiolectd.session import Kind, OAuthSession


@dataclass(frozen=True)
class Refreshed:
    """New tokens are durable and published."""

    session: OAuthSession


@dataclass(frozen=True)
class Current:
    """Nothing was sent: the session is not due, or somebody else had refreshed it."""

    session: OAuthSession


@dataclass(frozen=True)
class Gone:
    """No session is stored any more: it was logged out."""


@dataclass(frozen=True)
class Retry:
    """Not now. The session lives; nothing was consumed.

    Attributes:
        code: the protocol's error code, or a short name of ours.
        message: for a person.
        retry_after: seconds the server asked for, if it did.
        issuer_wide: the whole server is in trouble, not this session alone.
    """

    code: str
    message: str
    retry_after: float | None = None
    issuer_wide: bool = False


@dataclass(frozen=True)
class Ambiguous:
    """The server may have rotated the token, and the answer is lost.

    Attributes: as of `Retry`.
    """

    code: str
    message: str


@dataclass(frozen=True)
class Suspended:
    """A person must change something; the tokens are kept and not used meanwhile.

    Attributes:
        cause: a fixed name of ours for what is wrong.
        code: the protocol's error code, or the cause again.
        message: for a person.
    """

    cause: str
    code: str
    message: str


@dataclass(frozen=True)
class ReloginRequired:
    """The server has ended the session. Only a login helps.

    Attributes: as of `Suspended`.
    """

    cause: str
    code: str
    message: str


@dataclass(frozen=True)
class Unpersisted:
    """New tokens arrived and could not be saved. They are held in memory and tried again."""

    message: str


RefreshOutcome = Refreshed | Current | Gone | Retry | Ambiguous | Suspended | ReloginRequired | Unpersisted


class Verdict(Enum):
    """What one refusal means for the session."""

    NONCE = auto()  # repeat once with the nonce that came along; RFC 9449, section 8
    RETRY = auto()  # refused before the token was consumed, or by a server in trouble
    CONFIRM = auto()  # looks final, in words the table doesn't know: believed at the third time
    SUSPEND = auto()
    FINAL = auto()


@dataclass(frozen=True)
class Row:
    """One line of the table; what is None matches everything.

    Attributes:
        verdict: what it means.
        cause: our fixed name for it.
        error: the error code.
        text: the description, whole; with ``...`` at its end, how it begins. Whole, because a
            server may say more behind the same words and mean less: "Invalid refresh token" ends a
            session, "Invalid refresh token: String must contain exactly 68 character(s)" does not.
    """

    verdict: Verdict
    cause: str
    error: str | None = None
    text: str | None = None

    def matches(self, error: str, description: str) -> bool:
        """Whether this row judges such an answer."""
        if self.error is not None and self.error != error:
            return False
        if self.text is None:
            return True
        if self.text.endswith("..."):
            return description.startswith(self.text[:-3])
        return description == self.text


# First match wins. OAuth: error and error_description of RFC 6749, section 5.2.
_OAUTH = (
    Row(Verdict.NONCE, "use_dpop_nonce", "use_dpop_nonce"),
    Row(Verdict.RETRY, "invalid_dpop_proof", "invalid_dpop_proof"),
    # Refused before the token is consumed, although the code says invalid_grant:
    Row(Verdict.RETRY, "assertion_reused", "invalid_grant", "private_key_jwt jti reused"),
    Row(Verdict.RETRY, "malformed_request", "invalid_grant", "Invalid request payload..."),
    Row(Verdict.RETRY, "malformed_request", "invalid_grant", "Client credentials missing..."),
    # After it: the session is dead, whatever was wrong.
    Row(Verdict.FINAL, "replayed", "invalid_grant", "Refresh token replayed"),
    Row(Verdict.FINAL, "wrong_dpop_key", "invalid_grant", "DPoP proof does not match the expected JKT"),
    Row(Verdict.FINAL, "wrong_client", "invalid_grant", "Token was not issued to this client"),
    Row(
        Verdict.FINAL,
        "wrong_client_key",
        "invalid_grant",
        "The session was initiated with a different key...",
    ),
    Row(Verdict.FINAL, "refresh_token_expired", "invalid_grant", "Refresh token expired"),
    Row(Verdict.FINAL, "session_expired", "invalid_grant", "Session expired"),
    Row(Verdict.FINAL, "refresh_token_unknown", "invalid_grant", "Invalid refresh token"),
    Row(Verdict.CONFIRM, "refused", "invalid_grant"),
    # invalid_client_metadata is not among them: the server could not fetch the client's document.
    Row(Verdict.SUSPEND, "client_refused", "invalid_client"),
    Row(Verdict.SUSPEND, "client_refused", "unauthorized_client"),
    Row(Verdict.SUSPEND, "client_refused", "unsupported_grant_type"),
    Row(Verdict.SUSPEND, "scope_refused", "invalid_scope"),
    Row(Verdict.RETRY, "refused"),
)

# Legacy: error and message of an XRPC answer (https://atproto.com/specs/xrpc#error-responses).
_LEGACY = (
    Row(Verdict.FINAL, "refresh_token_expired", "ExpiredToken", "Token has expired"),
    Row(Verdict.FINAL, "revoked", "ExpiredToken", "Token has been revoked"),
    Row(Verdict.FINAL, "refresh_token_unknown", "InvalidToken", "Token could not be verified"),
    # The code stands for malformed requests too; of a lost account only the text speaks.
    Row(Verdict.FINAL, "account_deleted", "InvalidRequest", "Could not find user info for account..."),
    Row(Verdict.SUSPEND, "account_taken_down", "AccountTakedown"),
    Row(Verdict.CONFIRM, "refused", "InvalidToken"),
    Row(Verdict.CONFIRM, "refused", "ExpiredToken"),
    Row(Verdict.RETRY, "refused"),
)

_TABLES: Mapping[Kind, tuple[Row, ...]] = {"dpop": _OAUTH, "bearer": _LEGACY}

# How often in a row CONFIRM must be heard. A refusal consumes nothing that was not lost already.
CONFIRMATIONS = 3


def judge(kind: Kind, error: str | None, description: str) -> Row:
    """The row that applies to a 4xx refusal which was parsed as a protocol error.

    Args:
        kind: which protocol answered.
        error: the error code, None if the body was not a protocol error: then never final.
        description: the human-readable text beside it.
    """
    if error is None:
        return Row(Verdict.RETRY, "unreadable_refusal")
    return next(row for row in _TABLES[kind] if row.matches(error, description))
