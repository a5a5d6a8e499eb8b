"""The event that reports how an attempt ended."""

from idiolectd.clock import parse_rfc3339
from idiolectd.events import (
    About,
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
    about,
)
from idiolectd.outcome import Code
from idiolectd.remedy import Commands, remedy_for
from idiolectd.session import OAuthSession
from idiolectd.state import RefreshState, State, shown


def refreshed(
    session: OAuthSession, state: RefreshState, before: RefreshState, *, started: float, now: float
) -> Event:
    """New tokens are durable."""
    due = before.next_attempt_at
    return SessionRefreshed(
        **about(session),
        attempt=before.attempts + 1,
        due=shown(due),
        lateness=None if due is None else round(max(0.0, started - due), 3),
        duration=round(max(0.0, now - started), 3),
        expires_at=session.expires_at,
        next_attempt_at=shown(state.next_attempt_at),
    )


class _Problem(About):
    attempt: int
    code: str
    error: str
    next_attempt_at: str | None


def problem(session: OAuthSession, state: RefreshState, commands: Commands) -> SessionProblem:
    """An attempt that brought no tokens, by the state it left."""
    assert state.last_error is not None  # noqa: S101 - every transition to a problem sets it
    fields = _Problem(
        **about(session),
        attempt=state.attempts,
        code=state.last_error.code,
        error=state.last_error.message,
        next_attempt_at=shown(state.next_attempt_at),
    )
    todo = remedy_for(session.did, state.state, state.cause, session=session, commands=commands)
    action, advice = (todo.command, todo.advice) if todo is not None else ("", None)
    match state.state:
        case State.RELOGIN_REQUIRED:
            return SessionReloginRequired(**fields, action=action, advice=advice)
        case State.SUSPENDED:
            return SessionSuspended(**fields, action=action, advice=advice)
        case State.AMBIGUOUS:
            return SessionAmbiguous(**fields)
        case _:
            return SessionRetrying(**fields)


def unpersisted(session: OAuthSession, state: RefreshState, error: Exception, place: str | None) -> Event:
    """New tokens could not be saved."""
    return SessionUnpersisted(
        **about(session),
        attempt=state.attempts + 1,
        code=Code.UNPERSISTED,
        error=str(error),
        next_attempt_at=None,
        spilled=place,
    )


def ending(session: OAuthSession, deadline: float, now: float, commands: Commands) -> Event:
    """The absolute end is near."""
    return SessionEnding(
        **about(session),
        session_deadline=shown(deadline) or "",
        at_latest=parse_rfc3339(session.session_started_at) is None,
        left=round(max(0.0, deadline - now), 3),
        action=commands.login(session.did, session),
    )


def account(
    session: OAuthSession, state: RefreshState, before: RefreshState, commands: Commands
) -> list[Event]:
    """What became known of the account itself; each change is reported once."""
    changes: list[Event] = []
    if state.moved_to is not None and state.moved_to != before.moved_to:
        changes.append(
            SessionAccountMoved(
                **about(session),
                moved_to=state.moved_to,
                action=commands.login(session.did, session),
            )
        )
    if state.account_status != before.account_status:
        if state.account_status is None:
            changes.append(SessionAccountActive(**about(session)))
        else:
            changes.append(SessionAccountInactive(**about(session), status=state.account_status))
    return changes
