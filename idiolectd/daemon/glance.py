"""What the daemon says of its sessions at a glance: the service manager's status line.

It names the sessions that a person has to do something for. Only an index, or few records, tell who they are: of
a large store without an index nobody is named.
"""

from dataclasses import dataclass

from idiolectd.errors import RecordError, StoreError
from idiolectd.ports import SharedStore
from idiolectd.scheduler import Statistics
from idiolectd.state import State, attention

# A person has to do something for a session in one of these states.
_NEEDS_PERSON = (State.RELOGIN_REQUIRED, State.SUSPENDED, State.QUARANTINED, State.UNPERSISTED)

# So many records are read to find out who they are, and so many of them are named.
_MOST_READ = 1000
_MOST_NAMED = 3


@dataclass(frozen=True)
class Glance:
    """The sessions of a store.

    Attributes:
        sessions: how many there are.
        needing_person: for how many of them a person has to do something; None: not known.
        names: what some of those are called, with their state.
    """

    sessions: int
    needing_person: int | None = None
    names: tuple[str, ...] = ()


async def look(store: SharedStore, now: float) -> Glance:
    """Looks at a store.

    Raises:
        StoreError: it can't answer.
    """
    overview = await store.overview(now, limit=_MOST_READ)
    if overview is not None:
        counted = sum(overview.needy.get(state, 0) for state in _NEEDS_PERSON)
        if not counted:
            return Glance(overview.sessions, 0)
        found = [name for did in overview.dids if (name := await _needy(store, did))]
        # Whom a person has paused needs nobody, and is counted by the index.
        needing = len(found) if counted <= _MOST_READ else counted
        return Glance(overview.sessions, needing, tuple(found[:_MOST_NAMED]))
    sessions = await store.count()
    if sessions > _MOST_READ:
        return Glance(sessions)
    found = []
    async for page in store.pages():
        found += [name for did in page if (name := await _needy(store, did))]
    return Glance(sessions, len(found), tuple(sorted(found)[:_MOST_NAMED]))


async def _needy(store: SharedStore, did: str) -> str | None:
    """What a session is called that a person has to do something for; None: nobody has."""
    try:
        stored = await store.read(did)
    except RecordError:
        return f"{did} ({State.QUARANTINED})"
    except StoreError:
        return None  # what it can't answer for one of them is reported where it matters
    state = attention(stored.state)
    if stored.session is None or stored.state.paused or state not in _NEEDS_PERSON:
        return None
    return f"{stored.session.known_as or did} ({state})"


def status_line(glance: Glance, now: Statistics, unpersisted: int, view_trouble: str | None = None) -> str:
    """The line, the worst first.

    Args:
        glance: the sessions, as they were lately.
        now: what the scheduler does.
        unpersisted: how many sessions' new tokens could not be saved.
        view_trouble: why the clients' view is not as the store is.
    """
    parts = [f"{unpersisted} NOT SAVED: look at the disk"] if unpersisted else []
    parts += [f"CLIENTS GET NO NEW TOKENS: {view_trouble}"] if view_trouble else []
    parts.append(f"{glance.sessions} session{'s' if glance.sessions != 1 else ''}")
    if glance.needing_person:
        others = glance.needing_person - len(glance.names)
        names = [*glance.names, *([f"{others} more"] if others > 0 else [])]
        need = "needs" if glance.needing_person == 1 else "need"
        parts.append(f"{glance.needing_person} {need} a person: {', '.join(names)}")
    parts += [f"{now.in_flight} refreshing", f"{now.queued} waiting"]
    if now.tripped:
        parts.append(f"{len(now.tripped)} issuers in trouble")
    if now.outrun:
        parts.append(f"{len(now.outrun)} issuers allow too few refreshes")
    if not now.is_caught_up:
        parts.append("still looking at what changed")
    if now.quarantined:
        parts.append(f"{now.quarantined} quarantined")
    return ", ".join(parts)
