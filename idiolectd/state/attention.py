"""Which sessions somebody should look at, told from their state alone. Pure.

Stores that have an index keep this word beside the state, so that the few among a million that need a
person are found without reading the others.
"""

from idiolectd.state.refresh_state import RefreshState, State

# A session that is well now and comes to its end: a person will have to log in.
ENDING = "ending"


def attention(state: RefreshState) -> str:
    """Empty: the session is well, or due and being worked on; else why not, a `State` or `ENDING`."""
    if state.paused and state.state is not State.RELOGIN_REQUIRED:
        return State.SUSPENDED.value
    if state.state is State.AMBIGUOUS and is_under_way(state):
        return ""  # should the answer never come, the session is due when that is to be found out
    if state.state is not State.FRESH:
        return state.state.value
    if state.ending or state.warned is not None or state.moved_to is not None:
        return ENDING
    return ""


def is_under_way(state: RefreshState) -> bool:
    """Whether a refresh token was about to be sent after the last thing that went wrong."""
    return state.note is not None and (state.last_error is None or state.note.at > state.last_error.at)
