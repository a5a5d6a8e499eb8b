"""Explains to a client, from what the store shows, why there is no newer token and what to do."""

from idiolectd.auth.steps import Explain
from idiolectd.errors import IdiolectError, TokenRefused
from idiolectd.session import OAuthSession
from idiolectd.state import RefreshState, reconcile
from idiolectd.store import Reading, is_daemon_running


def explain_refusal(why: Explain, reading: Reading | None, *, place: str, now: float) -> TokenRefused:
    """Makes the error for a client whose token is refused. Reads the store; raises nothing itself.

    Args:
        why: the session, its refused tokens and the time waited.
        reading: reads the store; None: the store can't be read without an event loop.
        place: the store's name for people.
        now: seconds since the epoch.
    """
    session = why.session
    known = _known(session, reading, now)
    state, action = (None, None) if known is None else _state_and_action(session, known)
    if why.tokens > 1:
        found = f"refused {why.tokens} access tokens of {session.did} in a row, each the newest in {place}"
    else:
        waited = f" within {why.waited:g} s" if why.waited else ""
        found = f"refused the access token of {session.did}, and {place} has brought no newer one{waited}"
    if action:
        next_step = f"The session is {state}; type: {action}"
    elif known is not None and known.refusals and known.last_error is not None:
        next_step = (
            f"Its server refuses to refresh it ({known.last_error.message}) and is asked again; how it"
            f" goes: idiolectd status {session.did}"
        )
    else:
        next_step = _about_daemon(session.did, reading)
    return TokenRefused(session.did, f"{session.pds_url} {found}. {next_step}", state=state, action=action)


def _known(session: OAuthSession, reading: Reading | None, now: float) -> RefreshState | None:
    if reading is None:
        return None
    try:
        return reconcile(session, reading.state(session.did, now), now).state
    except IdiolectError:  # this user may be allowed to read records but not states
        return None


def _state_and_action(session: OAuthSession, known: RefreshState) -> tuple[str, str | None]:
    from idiolectd.remedy import remedy_for  # imported here because it is rarely needed

    action = remedy_for(session.did, known.state, known.cause, session=session)
    return known.state.value, action.command if action is not None else None


def _about_daemon(did: str, reading: Reading | None) -> str:
    try:
        running = None if reading is None else is_daemon_running(reading.runtime_dir)
    except IdiolectError:
        running = None
    match running:
        case True:
            return f"An idiolectd runs on this store; what it knows: idiolectd status {did}"
        case False:
            return "No idiolectd runs on this store: start it (idiolectd run)"
        case None:
            return (
                "Whether idiolectd runs on this store can't be told by this user; ask as its owner:"
                f" idiolectd status {did}"
            )
