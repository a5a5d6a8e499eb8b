"""Explains to a client, from what the store shows, why there is no newer token and what to do."""

from idiolectd.auth.steps import Explain
from idiolectd.errors import IdiolectError, TokenRefused
from idiolectd.session import OAuthSession
from idiolectd.state import RefreshState, State, reconcile
from idiolectd.store import Reading, Standing, is_daemon_running


def explain_refusal(why: Explain, reading: Reading | None, *, place: str, now: float) -> TokenRefused:
    """Makes the error for a client whose token is refused. Reads the store; raises nothing itself.

    Args:
        why: the session, its refused tokens and the time waited.
        reading: reads the store; None: the store can't be read without an event loop.
        place: the store's name for people.
        now: seconds since the epoch.
    """
    session = why.session
    if why.tokens > 1:
        found = f"refused {why.tokens} access tokens of {session.did} in a row, each the newest in {place}"
    else:
        waited = f" within {why.waited:g} s" if why.waited else ""
        found = f"refused the access token of {session.did}, and {place} has brought no newer one{waited}"
    standing = Standing.in_entry(session)
    if standing is not None:
        state, action, next_step = _by_view(session, standing)
    else:
        state, action, next_step = _by_store(session, reading, now)
    return TokenRefused(session.did, f"{session.pds_url} {found}. {next_step}", state=state, action=action)


# How a session is called, what is to be typed for it, and what a person does next.
_Found = tuple[str | None, str | None, str]


def _by_view(session: OAuthSession, standing: Standing) -> _Found:
    why = ": ".join(text for text in (standing.cause, standing.message) if text)
    named = f"The session is {standing.state}" + (f" ({why})" if why else "")
    if not standing.rests:
        return standing.state, None, f"{named}; the daemon has been told, and its log and status say more"
    action = _action(session, standing.state, standing.cause)
    return standing.state, action, named + (f"; where idiolectd runs, type: {action}" if action else "")


def _by_store(session: OAuthSession, reading: Reading | None, now: float) -> _Found:
    known = _known(session, reading, now)
    if known is None:
        return None, None, _about_daemon(session.did, reading)
    action = _action(session, known.state, known.cause)
    if action:
        return known.state, action, f"The session is {known.state}; type: {action}"
    if known.refusals and known.last_error is not None:
        refuses = f"Its server refuses to refresh it ({known.last_error.message}) and is asked again"
        return known.state, None, f"{refuses}; how it goes: idiolectd status {session.did}"
    return known.state, None, _about_daemon(session.did, reading)


def _known(session: OAuthSession, reading: Reading | None, now: float) -> RefreshState | None:
    if reading is None:
        return None
    try:
        return reconcile(session, reading.state(session.did, now), now).state
    except IdiolectError:  # this user may be allowed to read records but not states
        return None


def _action(session: OAuthSession, state: str, cause: str | None) -> str | None:
    from idiolectd.remedy import remedy_for  # imported here because it is rarely needed

    try:
        action = remedy_for(session.did, State(state), cause, session=session)
    except ValueError:  # a newer program's word
        return None
    return None if action is None else action.command


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
