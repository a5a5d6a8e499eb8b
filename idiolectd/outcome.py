"""What a refresh can come to, our names for why, and the table that judges a server's refusal.

`RefreshOutcome` is closed: whoever matches on it must handle every case, and mypy checks that.
`Cause` and `Code` hold every name that is stored, logged and shown; docs/runbook.md lists them, and a
test compares. Other modules compare their members, never the text of one.

`judge` is the only place that knows the words of servers, measured on the reference PDS and read in the
sources of others. No words end a session at first sight: a refusal consumes nothing that was not lost
already, and servers say the same of a database that is locked for a moment. `idiolectd.refresh.verdict`
decides when a session is given up.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum, StrEnum, auto

from idiolectd.session import Kind, OAuthSession


class Remedy(Enum):
    """The command that a person types, without the program's name; ``{did}`` is the session's."""

    LOGIN = "login {did}"
    RETRY_NOW = "refresh --force {did}"  # once the cause is mended; it is retried by itself too
    RESUME = "resume {did}"
    REMOVE = "logout {did} --local"
    CHECK = "check"


class Cause(StrEnum):
    """Why a session is `suspended`, `relogin_required` or `quarantined`, or refused while it is retried.

    Attributes:
        remedy: what helps while the session is suspended for it. A dead session needs a login, whatever
            the cause; see `idiolectd.remedy`.
    """

    remedy: Remedy

    def __new__(cls, text: str, remedy: Remedy) -> "Cause":
        """Makes a member whose text is `text`."""
        member = str.__new__(cls, text)
        member._value_ = text
        member.remedy = remedy
        return member

    # Our own checks refuse to send the refresh token: with what is stored or configured, the server
    # would end the session.
    ACCOUNT_MOVED = "account_moved", Remedy.LOGIN
    CLIENT_KEY_MISSING = "client_key_missing", Remedy.RETRY_NOW
    CLIENT_KEY_UNUSABLE = "client_key_unusable", Remedy.RETRY_NOW
    CLIENT_MISMATCH = "client_mismatch", Remedy.RETRY_NOW
    CLIENT_UNKNOWN = "client_unknown", Remedy.RETRY_NOW
    DPOP_KEY_MISMATCH = "dpop_key_mismatch", Remedy.LOGIN
    DPOP_KEY_UNUSABLE = "dpop_key_unusable", Remedy.LOGIN
    ISSUER_CHANGED = "issuer_changed", Remedy.LOGIN
    ISSUER_UNUSABLE = "issuer_unusable", Remedy.LOGIN
    PAUSED = "paused", Remedy.RESUME
    PDS_REFUSED = "pds_refused", Remedy.RETRY_NOW
    TOKEN_SPENT = "token_spent", Remedy.LOGIN

    # Tokens came and are not published.
    ANSWER_MISMATCH = "answer_misfit", Remedy.LOGIN
    ANSWER_UNCONFIRMED = "answer_unconfirmed", Remedy.LOGIN

    # The server refuses the client or the account, and may let it in again.
    ACCOUNT_TAKEN_DOWN = "account_taken_down", Remedy.RETRY_NOW
    CLIENT_REFUSED = "client_refused", Remedy.RETRY_NOW
    SCOPE_REFUSED = "scope_refused", Remedy.RETRY_NOW

    # The server refuses the session.
    ACCOUNT_DELETED = "account_deleted", Remedy.REMOVE
    REFRESH_TOKEN_EXPIRED = "refresh_token_expired", Remedy.LOGIN
    REFRESH_TOKEN_UNKNOWN = "refresh_token_unknown", Remedy.LOGIN
    REFUSED = "refused", Remedy.LOGIN  # in words too general to name more
    REPLAYED = "replayed", Remedy.LOGIN
    # It has rotated the token, and the answer got lost. While it refuses the client too: suspended.
    RESPONSE_LOST = "response_lost", Remedy.RETRY_NOW
    # It came back from a copy, and nothing shows that its token was not used up since.
    RESTORED_COPY = "restored_copy", Remedy.LOGIN
    REVOKED = "revoked", Remedy.LOGIN
    SESSION_EXPIRED = "session_expired", Remedy.LOGIN
    WRONG_CLIENT = "wrong_client", Remedy.LOGIN
    WRONG_CLIENT_KEY = "wrong_client_key", Remedy.LOGIN
    WRONG_DPOP_KEY = "wrong_dpop_key", Remedy.LOGIN

    # Nothing can be told of the session.
    BUG = "bug", Remedy.CHECK
    UNREADABLE = "unreadable", Remedy.CHECK


class Code(StrEnum):
    """Our own short names for a failure, in the place of the error code that a server would have given.

    Beside these a session's last error may bear a server's own code, ``http_`` with a status, or a `Cause`.
    """

    # Nothing was sent.
    CONNECT = "connect"
    CONNECT_TIMEOUT = "connect_timeout"
    DISCOVERY = "discovery"
    DNS = "dns"
    DNS_BUSY = "dns_busy"
    GUARD = "guard"  # it would go to a place where no request of ours may go
    HEADER = "header"
    IDENTITY = "identity"
    NO_ROOM = "no_room"
    POOL = "pool"
    TLS = "tls"
    UNPROVEN = "unproven"
    UNSENDABLE = "unsendable"

    # A request left, and nobody can say what became of it.
    CALLBACK_FAILED = "callback_failed"
    NO_VERDICT = "no_verdict"
    PROTOCOL = "protocol"
    READ_TIMEOUT = "read_timeout"
    RESET = "reset"
    TOO_LARGE = "too_large"
    UNREADABLE_ANSWER = "unreadable_answer"
    WRITE_TIMEOUT = "write_timeout"

    # Of our own house.
    STATE_DAMAGED = "state_damaged"
    UNKNOWN = "unknown"
    UNPERSISTED = "unpersisted"


_REMEDIES = {cause.value: cause.remedy for cause in Cause}


def remedy_of(cause: str | None) -> Remedy:
    """What helps a suspended session; a cause that only a newer program knows may pass by itself."""
    return _REMEDIES.get(cause or "", Remedy.RETRY_NOW)


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
        cause: a `Cause`; or, out of a stored state, what a newer program calls it.
        code: the protocol's error code, or the cause again.
        message: for a person.
    """

    cause: str
    code: str
    message: str


@dataclass(frozen=True)
class ReloginRequired:
    """The server has ended the session, or nobody may try whether it has. Only a login helps.

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
    """One row of the table; what is None matches everything.

    Attributes:
        verdict: what it means.
        cause: our name for it; it says nothing where the token was not judged.
        error: the error code.
        text: the description, or the code of an answer without one; in upper or lower case. Whole; with
            ``...`` at an end, more may stand there. Whole, because a server may say more behind the
            same words and mean less: "Invalid refresh token" speaks of the session, "Invalid refresh
            token: String must contain exactly 68 character(s)" may not.
    """

    verdict: Verdict
    cause: Cause = Cause.REFUSED
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
    RefusalRule(Verdict.NONCE, error="use_dpop_nonce"),
    RefusalRule(Verdict.RETRY, error="invalid_dpop_proof"),
    *(
        RefusalRule(Verdict.RETRY, error=error)
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
    RefusalRule(Verdict.RETRY, text="Invalid request payload..."),
    RefusalRule(Verdict.RETRY, text="Client credentials missing..."),
    RefusalRule(Verdict.RETRY, text="A request body was provided..."),
)

# What servers say in other places than the reference's: cocoon puts its text where the code belongs,
# tranquil its own text beside `invalid_grant`.
_ELSEWHERE = (
    RefusalRule(Verdict.REPLAYED, Cause.REPLAYED, text="...reuse detected..."),
    RefusalRule(Verdict.EXPIRED, Cause.REFUSED, text="Session expired"),
    RefusalRule(Verdict.EXPIRED, Cause.REFUSED, text="Refresh token expired"),
    RefusalRule(Verdict.SESSION, Cause.REFUSED, text="dpop proof does not match..."),
    RefusalRule(Verdict.RETRY, text="...dpop proof..."),
    RefusalRule(Verdict.CLIENT, Cause.CLIENT_REFUSED, text="...client metadata..."),
    RefusalRule(Verdict.CLIENT, Cause.CLIENT_REFUSED, text="...assertion..."),
    RefusalRule(Verdict.CLIENT, Cause.ACCOUNT_TAKEN_DOWN, "AccountTakedown"),
)

# OAuth: error and error_description of RFC 6749, section 5.2, as measured on the reference server.
_OAUTH = (
    *_OF_THE_REQUEST,
    RefusalRule(Verdict.RETRY, error="invalid_grant", text="private_key_jwt jti reused"),
    RefusalRule(Verdict.REPLAYED, Cause.REPLAYED, "invalid_grant", "Refresh token replayed"),
    RefusalRule(
        Verdict.SESSION, Cause.WRONG_DPOP_KEY, "invalid_grant", "DPoP proof does not match the expected JKT"
    ),
    RefusalRule(Verdict.SESSION, Cause.WRONG_CLIENT, "invalid_grant", "Token was not issued to this client"),
    RefusalRule(
        Verdict.SESSION,
        Cause.WRONG_CLIENT_KEY,
        "invalid_grant",
        "The session was initiated with a different key...",
    ),
    RefusalRule(Verdict.EXPIRED, Cause.REFRESH_TOKEN_EXPIRED, "invalid_grant", "Refresh token expired"),
    RefusalRule(Verdict.EXPIRED, Cause.SESSION_EXPIRED, "invalid_grant", "Session expired"),
    # Also said of a database that is locked for a moment.
    RefusalRule(Verdict.SESSION, Cause.REFRESH_TOKEN_UNKNOWN, "invalid_grant", "Invalid refresh token"),
    # Also said while the server can't fetch the client's document (rsky, tranquil, cirrus).
    RefusalRule(Verdict.CLIENT, Cause.CLIENT_REFUSED, "invalid_client"),
    RefusalRule(Verdict.CLIENT, Cause.CLIENT_REFUSED, "invalid_client_metadata"),
    RefusalRule(Verdict.CLIENT, Cause.CLIENT_REFUSED, "unauthorized_client"),
    RefusalRule(Verdict.CLIENT, Cause.CLIENT_REFUSED, "unsupported_grant_type"),
    RefusalRule(Verdict.CLIENT, Cause.SCOPE_REFUSED, "invalid_scope"),
    *_ELSEWHERE,
    RefusalRule(Verdict.SESSION, Cause.REFUSED),
)

# Legacy: error and message of an XRPC answer (https://atproto.com/specs/xrpc#error-responses).
_LEGACY = (
    *_OF_THE_REQUEST,
    RefusalRule(Verdict.RETRY, error="AuthMissing"),
    RefusalRule(Verdict.EXPIRED, Cause.REFRESH_TOKEN_EXPIRED, "ExpiredToken", "Token has expired"),
    RefusalRule(Verdict.SESSION, Cause.REVOKED, "ExpiredToken", "Token has been revoked"),
    RefusalRule(Verdict.EXPIRED, Cause.REFUSED, "ExpiredToken"),
    RefusalRule(Verdict.SESSION, Cause.REFRESH_TOKEN_UNKNOWN, "InvalidToken", "Token could not be verified"),
    RefusalRule(
        Verdict.SESSION, Cause.ACCOUNT_DELETED, "InvalidRequest", "Could not find user info for account..."
    ),
    *_ELSEWHERE,
    RefusalRule(Verdict.SESSION, Cause.REFUSED),
)

_TABLES: Mapping[Kind, tuple[RefusalRule, ...]] = {"dpop": _OAUTH, "bearer": _LEGACY}

# What refuses a client or an account, and not the session.
CLIENT_CAUSES = frozenset(
    row.cause for table in _TABLES.values() for row in table if row.verdict is Verdict.CLIENT
)


def judge(kind: Kind, error: str | None, description: str) -> RefusalRule:
    """Finds the row that applies to a refusal which an application wrote.

    Args:
        kind: which protocol answered.
        error: the error code; None: there was none beside the text.
        description: the human-readable text beside it.
    """
    return next(row for row in _TABLES[kind] if row.matches(error, description))
