"""The event that reports how an attempt ended, and the command that helps."""

from dataclasses import dataclass

from idiolectd.events import (
    Event,
    SessionAccountActive,
    SessionAccountInactive,
    SessionAccountMoved,
    SessionAmbiguous,
    SessionEnding,
    SessionProblem,
    SessionRefreshed,
    SessionReloginRequired,
    SessionRetrying,
    SessionSuspended,
    SessionUnpersisted,
)
from idiolectd.outcome import Code, Remedy, remedy_of
from idiolectd.session import OAuthSession
from idiolectd.state import RefreshState, State, shown


def action(did: str, state: State, cause: str | None) -> str | None:
    """The command to type, or None if nobody has to do anything."""
    match state:
        case State.RELOGIN_REQUIRED:
            remedy = Remedy.LOGIN
        case State.SUSPENDED:
            remedy = remedy_of(cause)
        case State.QUARANTINED | State.UNPERSISTED:
            remedy = Remedy.CHECK
        case _:
            return None
    return remedy.value.format(did=did)


def refreshed(
    session: OAuthSession, state: RefreshState, before: RefreshState, *, started: float, now: float
) -> Event:
    """New tokens are durable."""
    due = before.next_attempt_at
    return SessionRefreshed(
        did=session.did,
        kind=session.kind,
        issuer=session.issuer,
        attempt=before.attempts + 1,
        due=shown(due),
        lateness=None if due is None else round(max(0.0, started - due), 3),
        duration=round(max(0.0, now - started), 3),
        expires_at=session.expires_at,
        next_attempt_at=shown(state.next_attempt_at),
    )


@dataclass(frozen=True)
class _Fields:
    did: str
    issuer: str | None
    attempt: int
    code: str
    error: str
    next_attempt_at: str | None


def problem(session: OAuthSession, state: RefreshState) -> SessionProblem:
    """An attempt that brought no tokens, by the state it left."""
    assert state.last_error is not None  # noqa: S101 - every transition to a problem sets it
    common = _Fields(
        did=session.did,
        issuer=session.issuer,
        attempt=state.attempts,
        code=state.last_error.code,
        error=state.last_error.message,
        next_attempt_at=shown(state.next_attempt_at),
    )
    fields = vars(common)
    todo = action(session.did, state.state, state.cause) or ""
    match state.state:
        case State.RELOGIN_REQUIRED:
            return SessionReloginRequired(**fields, action=todo)
        case State.SUSPENDED:
            return SessionSuspended(**fields, action=todo)
        case State.AMBIGUOUS:
            return SessionAmbiguous(**fields)
        case _:
            return SessionRetrying(**fields)


def unpersisted(session: OAuthSession, state: RefreshState, error: Exception, place: str | None) -> Event:
    """New tokens could not be saved."""
    return SessionUnpersisted(
        did=session.did,
        issuer=session.issuer,
        attempt=state.attempts + 1,
        code=Code.UNPERSISTED,
        error=str(error),
        next_attempt_at=None,
        spilled=place,
    )


def ending(session: OAuthSession, deadline: float, now: float) -> Event:
    """The absolute end is near."""
    return SessionEnding(
        did=session.did,
        session_deadline=shown(deadline) or "",
        left=round(max(0.0, deadline - now), 3),
        action=f"idiolectd login {session.did}",
    )


def account(session: OAuthSession, state: RefreshState, before: RefreshState) -> list[Event]:
    """What became known of the account itself; each change is reported once."""
    changes: list[Event] = []
    if state.moved_to is not None and state.moved_to != before.moved_to:
        changes.append(
            SessionAccountMoved(
                did=session.did,
                pds_url=session.pds_url,
                moved_to=state.moved_to,
                action=f"idiolectd login {session.did}",
            )
        )
    if state.account_status != before.account_status:
        if state.account_status is None:
            changes.append(SessionAccountActive(did=session.did))
        else:
            changes.append(SessionAccountInactive(did=session.did, status=state.account_status))
    return changes
