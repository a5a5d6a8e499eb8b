"""The events that idiolectd reports: one class for each kind, with typed fields.

The packages that do the work report through an `EventSink` and know nothing of logs or metrics. Names and
fields are an interface: users write alerts against them. No field ever holds a secret.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar, Literal, TypedDict

from idiolectd.session import Kind, OAuthSession

Level = Literal["debug", "info", "warning", "error"]


@dataclass(frozen=True, kw_only=True)
class Event:
    """Base of all events: the class defines `name` and `level`, the instance holds the fields."""

    name: ClassVar[str]
    level: ClassVar[Level] = "info"


EventSink = Callable[[Event], None]


def ignore_event(_event: Event) -> None:
    """An `EventSink` that discards events."""


@dataclass(frozen=True, kw_only=True)
class DaemonStarted(Event):
    """The store is open and locked by this process."""

    name = "daemon.started"
    version: str
    pid: int
    store: str
    config: str | None


@dataclass(frozen=True, kw_only=True)
class DaemonReady(Event):
    """All known sessions are scheduled; unless `caught_up`, recently changed records are still being read.

    Attributes:
        needing_person: how many sessions of them a person has to do something for; None: not known, because
            only reading all of many records would tell.
    """

    name = "daemon.ready"
    sessions: int
    caught_up: bool
    needing_person: int | None


@dataclass(frozen=True, kw_only=True)
class DaemonReloaded(Event):
    """SIGHUP: the configuration was read again; `changed` and `ignored` name keys."""

    name = "daemon.reloaded"
    changed: list[str]
    ignored: list[str]


@dataclass(frozen=True, kw_only=True)
class DaemonReloadFailed(Event):
    """SIGHUP: the configuration is wrong; the running one stays."""

    name = "daemon.reload_failed"
    level = "error"
    error: str


@dataclass(frozen=True, kw_only=True)
class DaemonStopping(Event):
    """Nothing new is started; what was sent is finished."""

    name = "daemon.stopping"
    reason: str
    in_flight: int


@dataclass(frozen=True, kw_only=True)
class DaemonStopped(Event):
    """The daemon has ended in order; the last event of a run."""

    name = "daemon.stopped"
    exit_code: int


@dataclass(frozen=True, kw_only=True)
class DaemonFailed(Event):
    """A part of the daemon raised an exception; the daemon ends in order and exits with status 1."""

    name = "daemon.failed"
    level = "error"
    error: str
    traceback: str


@dataclass(frozen=True, kw_only=True)
class SessionEvent(Event):
    """Base of what happens to one session; see `about` for what names it.

    Attributes:
        did: whose session.
        handle: what the account is called; None here and below: not known.
        kind: ``dpop`` for OAuth, ``bearer`` for an app password.
        pds_url: the account's PDS.
        issuer: the authorization server; an app-password session has none.
    """

    did: str
    handle: str | None = None
    kind: Kind | None = None
    pds_url: str | None = None
    issuer: str | None = None


class About(TypedDict):
    """What names a session in each of its events."""

    did: str
    handle: str | None
    kind: Kind | None
    pds_url: str | None
    issuer: str | None


def about(session: OAuthSession) -> About:
    """Returns the fields of `SessionEvent` for a session."""
    return About(
        did=session.did,
        handle=session.known_as,
        kind=session.kind,
        pds_url=session.pds_url,
        issuer=session.issuer,
    )


def about_did(did: str, session: OAuthSession | None) -> About:
    """Returns the same fields for a session whose record may be unreadable (None): then only its DID is known."""
    if session is not None:
        return about(session)
    return About(did=did, handle=None, kind=None, pds_url=None, issuer=None)


@dataclass(frozen=True, kw_only=True)
class SessionFound(SessionEvent):
    """A session was seen for the first time, or somebody logged in again."""

    name = "session.found"
    next_attempt_at: str | None


@dataclass(frozen=True, kw_only=True)
class SessionRemoved(SessionEvent):
    """The record is gone: logged out."""

    name = "session.removed"


@dataclass(frozen=True, kw_only=True)
class SessionOverdue(SessionEvent):
    """The access token has expired, and no program has refreshed the session; once for each token.

    `error` is the reason, as far as it is known.
    """

    name = "session.overdue"
    level = "error"
    expires_at: str | None
    error: str


@dataclass(frozen=True, kw_only=True)
class SessionReplanned(SessionEvent):
    """The session was missing from the schedule, and the watch put it back."""

    name = "session.replanned"
    level = "warning"
    next_attempt_at: str | None


@dataclass(frozen=True, kw_only=True)
class SessionCommand(SessionEvent):
    """A person has done something to the session with a command; written some seconds after it.

    Attributes:
        command: ``login``, ``refresh``, ``pause``, ``resume`` or ``logout``.
        result: what came of it, in one word.
        code: a short name of what went wrong.
        error: what went wrong.
        user: who typed it; behind a name ``(sudo)``: as root.
        pid: the command's process ID.
        at: when it was done.
    """

    name = "session.command"
    command: str
    result: str
    code: str | None = None
    error: str | None = None
    user: str
    pid: int
    at: str


@dataclass(frozen=True, kw_only=True)
class SessionRotatedElsewhere(SessionEvent):
    """Another program stored new tokens. This is normal for programs that use the store's locks."""

    name = "session.rotated_elsewhere"


@dataclass(frozen=True, kw_only=True)
class SessionSpentTokenUndone(SessionEvent):
    """A foreign writer had put a used-up token back; the last good record was restored."""

    name = "session.spent_token_undone"
    level = "warning"


@dataclass(frozen=True, kw_only=True)
class SessionRefreshed(SessionEvent):
    """New tokens are durably stored.

    Attributes:
        due: when the refresh was planned.
        lateness: seconds from then to the start of the work.
        duration: seconds from the start of the work to durable.
    """

    name = "session.refreshed"
    attempt: int
    due: str | None
    lateness: float | None
    duration: float
    expires_at: str
    next_attempt_at: str | None


@dataclass(frozen=True, kw_only=True)
class SessionsRefreshed(Event):
    """So many sessions were refreshed since the last such line, in the place of a line for each.

    Attributes:
        refreshed: how many.
        issuers: how many of each issuer; the ten with the most, and the others together.
        latest: the greatest `lateness` among them.
        slowest: the greatest `duration`.
    """

    name = "sessions.refreshed"
    refreshed: int
    issuers: dict[str, int]
    latest: float
    slowest: float


@dataclass(frozen=True, kw_only=True)
class SessionsFound(Event):
    """So many sessions were seen for the first time, or logged in again, since the last such line."""

    name = "sessions.found"
    found: int
    issuers: dict[str, int]


@dataclass(frozen=True, kw_only=True)
class SessionProblem(SessionEvent):
    """Base of events for an attempt that brought no tokens."""

    level: ClassVar[Level] = "warning"
    attempt: int
    code: str
    error: str
    next_attempt_at: str | None


@dataclass(frozen=True, kw_only=True)
class SessionRetrying(SessionProblem):
    """The attempt failed for a reason that may pass by itself."""

    name = "session.retrying"


@dataclass(frozen=True, kw_only=True)
class SessionAmbiguous(SessionProblem):
    """The token was sent and the answer was lost; the outcome is checked after the settling time."""

    name = "session.ambiguous"


@dataclass(frozen=True, kw_only=True)
class SessionSuspended(SessionProblem):
    """A person must change something.

    Attributes:
        action: the command to type.
        advice: what to do or to know before.
    """

    name = "session.suspended"
    level = "error"
    action: str
    advice: str | None = None


@dataclass(frozen=True, kw_only=True)
class SessionReloginRequired(SessionProblem):
    """The server has ended the session.

    Attributes:
        action: the command to type.
        advice: what to do or to know before.
    """

    name = "session.relogin_required"
    level = "error"
    action: str
    advice: str | None = None


@dataclass(frozen=True, kw_only=True)
class SessionNotPublished(SessionEvent):
    """The session's entry in the clients' view could not be made, and stays as it was; clients may hold old tokens."""

    name = "session.not_published"
    level = "error"
    error: str


@dataclass(frozen=True, kw_only=True)
class SessionUnpersisted(SessionProblem):
    """New tokens could not be saved; they are held in memory and tried again.

    Attributes:
        spilled: the file that keeps them meanwhile; None: that could not be written either.
    """

    name = "session.unpersisted"
    level = "error"
    spilled: str | None


@dataclass(frozen=True, kw_only=True)
class SessionSpillAdopted(SessionEvent):
    """Tokens that an earlier process could not save are in the store now."""

    name = "session.spill_adopted"
    level = "warning"
    next_attempt_at: str | None


@dataclass(frozen=True, kw_only=True)
class SessionQuarantined(Event):
    """A record can't be read, so no more is known of its session. It is left where it is.

    Attributes:
        did: whose record it is.
        place: the file, or the database and its row.
        error: what is wrong with it.
        action: the command that removes it.
        advice: what else helps.
    """

    name = "session.quarantined"
    level = "error"
    did: str | None
    place: str
    error: str
    action: str
    advice: str | None


@dataclass(frozen=True, kw_only=True)
class SessionCrashed(SessionEvent):
    """Our own code failed on this session; all others go on. The traceback holds no values."""

    name = "session.crashed"
    level = "error"
    error: str
    traceback: str
    next_attempt_at: str | None


@dataclass(frozen=True, kw_only=True)
class SessionEnding(SessionEvent):
    """The absolute end of the session is `left` seconds away, at the latest; only a login can extend it.

    Three times: below 72 hours, below 24 hours, and when a refresh can't move the end any more.
    """

    name = "session.ending"
    level = "warning"
    session_deadline: str
    at_latest: bool
    left: float
    action: str


@dataclass(frozen=True, kw_only=True)
class SessionAccountInactive(SessionEvent):
    """The server gives tokens for an account that is not active; reported once for each new status."""

    name = "session.account_inactive"
    level = "warning"
    status: str


@dataclass(frozen=True, kw_only=True)
class SessionAccountActive(SessionEvent):
    """An account that was inactive is active again."""

    name = "session.account_active"


@dataclass(frozen=True, kw_only=True)
class SessionAccountMoved(SessionEvent):
    """The account is at another PDS now; its session at the old one goes on as long as that accepts it."""

    name = "session.account_moved"
    level = "warning"
    moved_to: str
    action: str


@dataclass(frozen=True, kw_only=True)
class IssuerPaused(Event):
    """Nothing is sent to this server for a while: it is failing, or it asked for a pause."""

    name = "issuer.paused"
    level = "warning"
    issuer: str
    code: str
    until: str
    waiting: int


@dataclass(frozen=True, kw_only=True)
class IssuerResumed(Event):
    """The server answers again."""

    name = "issuer.resumed"
    issuer: str


@dataclass(frozen=True, kw_only=True)
class IssuerRate(Event):
    """The sessions of this server need more refreshes a second than the usual 50, and `rate` may be sent."""

    name = "issuer.rate"
    issuer: str
    needed: float
    rate: float


@dataclass(frozen=True, kw_only=True)
class IssuerOutrun(Event):
    """What is due at this server within minutes needs more refreshes a second than are allowed: some will be late.

    Attributes:
        limited_by: ``refresh.rate``, or what the server said: ``ratelimit_headers`` or ``status_429``.
    """

    name = "issuer.outrun"
    level = "warning"
    issuer: str
    needed: float
    allowed: float
    limited_by: str


@dataclass(frozen=True, kw_only=True)
class ViewUnavailable(Event):
    """The clients' view can't be written, for `lasting` seconds so far; clients don't get new tokens."""

    name = "view.unavailable"
    level = "error"
    error: str
    lasting: float


@dataclass(frozen=True, kw_only=True)
class ViewAvailable(Event):
    """The clients' view is as the store is again, after `lasted` seconds."""

    name = "view.available"
    lasted: float


@dataclass(frozen=True, kw_only=True)
class StoreUnavailable(Event):
    """The store can't be read or written, for `lasting` seconds so far; reported at growing intervals."""

    name = "store.unavailable"
    level = "error"
    error: str
    lasting: float


@dataclass(frozen=True, kw_only=True)
class StoreAvailable(Event):
    """The store has worked again for a while, after it was unavailable for `lasted` seconds."""

    name = "store.available"
    lasted: float


@dataclass(frozen=True, kw_only=True)
class StoreReopened(Event):
    """Somebody replaced or removed the store's files; those that are there now were opened."""

    name = "store.reopened"
    level = "warning"
    error: str


@dataclass(frozen=True, kw_only=True)
class StorePutBack(Event):
    """An older copy of the store lies in its place: sessions are asked about at their PDS before tokens are sent."""

    name = "store.put_back"
    level = "warning"
    store: str


@dataclass(frozen=True, kw_only=True)
class SpillFolderUnreadable(Event):
    """A folder that may hold spilled tokens can't be read; the sessions concerned wait for it."""

    name = "spill.unreadable"
    level = "error"
    error: str


@dataclass(frozen=True, kw_only=True)
class ClockJumped(Event):
    """The wall clock moved by itself (suspend, NTP step); due times were looked at again."""

    name = "clock.jumped"
    level = "warning"
    seconds: float


@dataclass(frozen=True, kw_only=True)
class ClockSkewed(Event):
    """A server's clock and ours disagree; proofs are dated by the server's."""

    name = "clock.skewed"
    level = "warning"
    origin: str
    seconds: float
