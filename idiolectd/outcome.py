"""What a refresh can come to, and the table that judges a server's refusal.

`RefreshOutcome` is closed: whoever matches on it must handle every case, and mypy checks that.
The table is the only place that knows the words of servers, measured on the reference PDS and read in
the sources of others. No words end a session at first sight: a refusal consumes nothing that was not
lost already, and servers say the same of a database that is locked for a moment. When a session is
given up is decided in `idiolectd.refresh.verdict`.
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
        rate_limited: it is well, and wants to be asked less often.
        server: the origin that was asked, if it was not the one that the refresh token goes to.
    """

    code: str
    message: str
    retry_after: float | None = None
    issuer_wide: bool = False
    rate_limited: bool = False
    server: str | None = None


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
    """What the words of one refusal are worth. None of them ends a session: see `idiolectd.refresh.verdict`."""

    NONCE = auto()  # repeat once with the nonce that came along; RFC 9449, section 8
    RETRY = (
        auto()
    )  # for the request's form, proof or time, or by a server in trouble: the token was not judged
    CLIENT = auto()  # refuses the client or the account, which may be let in again
    SESSION = auto()  # refuses the session, in whatever words
    EXPIRED = auto()  # the same, and says that it has come to its end: we may know of that end ourselves
    REPLAYED = auto()  # the same, and says that the token was used before: our own note may say so too


@dataclass(frozen=True)
class RefusalRule:
    """One line of the table; what is None matches everything.

    Attributes:
        verdict: what it means.
        cause: our fixed name for it; ``refused`` where the words are too general to name one.
        error: the error code.
        text: the description, or the code of an answer without one; in upper or lower case. Whole; with
            ``...`` at an end, more may stand there. Whole, because a server may say more behind the
            same words and mean less: "Invalid refresh token" speaks of the session, "Invalid refresh
            token: String must contain exactly 68 character(s)" may not.
    """

    verdict: Verdict
    cause: str
    error: str | None = None
    text: str | None = None

    def matches(self, error: str | None, description: str) -> bool:
        """Whether this row judges such an answer."""
        if self.error is not None and self.error != error:
            return False
        return self.text is None or _says(description or error or "", self.text)


def _says(found: str, wanted: str) -> bool:
    found, wanted = found.casefold(), wanted.casefold()
    core = wanted.removeprefix("...").removesuffix("...")
    match wanted.startswith("..."), wanted.endswith("..."):
        case True, True:
            return core in found
        case False, True:
            return found.startswith(core)
        case True, False:
            return found.endswith(core)
        case _:
            return found == core


# First match wins. Judged before the token is looked at, by any server and in either protocol; or
# said by one in trouble, whatever the status.
_OF_THE_REQUEST = (
    RefusalRule(Verdict.NONCE, "use_dpop_nonce", "use_dpop_nonce"),
    RefusalRule(Verdict.RETRY, "invalid_dpop_proof", "invalid_dpop_proof"),
    *(
        RefusalRule(Verdict.RETRY, "server_trouble", error)
        for error in (
            "server_error",  # RFC 6749, section 4.1.2.1
            "temporarily_unavailable",
            "slow_down",
            "RateLimitExceeded",  # https://atproto.com/specs/xrpc
            "InternalServerError",
            "UpstreamFailure",
            "UpstreamTimeout",
            "NotEnoughResources",
        )
    ),
    RefusalRule(Verdict.RETRY, "malformed_request", text="Invalid request payload..."),
    RefusalRule(Verdict.RETRY, "malformed_request", text="Client credentials missing..."),
    RefusalRule(Verdict.RETRY, "malformed_request", text="A request body was provided..."),
)

# What servers say in other places than the reference's: cocoon puts its text where the code belongs,
# tranquil its own text beside `invalid_grant`.
_ELSEWHERE = (
    RefusalRule(Verdict.REPLAYED, "replayed", text="...reuse detected..."),
    RefusalRule(Verdict.EXPIRED, "refused", text="Session expired"),
    RefusalRule(Verdict.EXPIRED, "refused", text="Refresh token expired"),
    RefusalRule(Verdict.SESSION, "refused", text="dpop proof does not match..."),
    RefusalRule(Verdict.RETRY, "invalid_dpop_proof", text="...dpop proof..."),
    RefusalRule(Verdict.CLIENT, "client_refused", text="...client metadata..."),
    RefusalRule(Verdict.CLIENT, "client_refused", text="...assertion..."),
    RefusalRule(Verdict.CLIENT, "account_taken_down", "AccountTakedown"),
)

# OAuth: error and error_description of RFC 6749, section 5.2, as measured on the reference server.
_OAUTH = (
    *_OF_THE_REQUEST,
    RefusalRule(Verdict.RETRY, "assertion_reused", "invalid_grant", "private_key_jwt jti reused"),
    RefusalRule(Verdict.REPLAYED, "replayed", "invalid_grant", "Refresh token replayed"),
    RefusalRule(
        Verdict.SESSION, "wrong_dpop_key", "invalid_grant", "DPoP proof does not match the expected JKT"
    ),
    RefusalRule(Verdict.SESSION, "wrong_client", "invalid_grant", "Token was not issued to this client"),
    RefusalRule(
        Verdict.SESSION,
        "wrong_client_key",
        "invalid_grant",
        "The session was initiated with a different key...",
    ),
    RefusalRule(Verdict.EXPIRED, "refresh_token_expired", "invalid_grant", "Refresh token expired"),
    RefusalRule(Verdict.EXPIRED, "session_expired", "invalid_grant", "Session expired"),
    # Also said of a database that is locked for a moment.
    RefusalRule(Verdict.SESSION, "refresh_token_unknown", "invalid_grant", "Invalid refresh token"),
    # Also said while the server can't fetch the client's document (rsky, tranquil, cirrus).
    RefusalRule(Verdict.CLIENT, "client_refused", "invalid_client"),
    RefusalRule(Verdict.CLIENT, "client_refused", "invalid_client_metadata"),
    RefusalRule(Verdict.CLIENT, "client_refused", "unauthorized_client"),
    RefusalRule(Verdict.CLIENT, "client_refused", "unsupported_grant_type"),
    RefusalRule(Verdict.CLIENT, "scope_refused", "invalid_scope"),
    *_ELSEWHERE,
    RefusalRule(Verdict.SESSION, "refused"),
)

# Legacy: error and message of an XRPC answer (https://atproto.com/specs/xrpc#error-responses).
_LEGACY = (
    *_OF_THE_REQUEST,
    RefusalRule(Verdict.RETRY, "malformed_request", "AuthMissing"),
    RefusalRule(Verdict.EXPIRED, "refresh_token_expired", "ExpiredToken", "Token has expired"),
    RefusalRule(Verdict.SESSION, "revoked", "ExpiredToken", "Token has been revoked"),
    RefusalRule(Verdict.EXPIRED, "refused", "ExpiredToken"),
    RefusalRule(Verdict.SESSION, "refresh_token_unknown", "InvalidToken", "Token could not be verified"),
    RefusalRule(
        Verdict.SESSION, "account_deleted", "InvalidRequest", "Could not find user info for account..."
    ),
    *_ELSEWHERE,
    RefusalRule(Verdict.SESSION, "refused"),
)

_TABLES: Mapping[Kind, tuple[RefusalRule, ...]] = {"dpop": _OAUTH, "bearer": _LEGACY}

# What refuses a client or an account, and not the session.
CLIENT_CAUSES = frozenset(
    row.cause for table in _TABLES.values() for row in table if row.verdict is Verdict.CLIENT
)


def judge(kind: Kind, error: str | None, description: str) -> RefusalRule:
    """The row that applies to a refusal which an application wrote.

    Args:
        kind: which protocol answered.
        error: the error code; None: there was none beside the text.
        description: the human-readable text beside it.
    """
    return next(row for row in _TABLES[kind] if row.matches(error, description))
