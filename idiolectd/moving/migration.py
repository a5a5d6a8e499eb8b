"""Copies a session from one store to another, with its state and the tokens that are spilled for it.

Under the claims of both stores, in this order, each step durable before the next:

    spilled tokens → record → state → both read back → the source's state says where the session went

Whoever is interrupted repeats it: until the last step the source's session counts, and what the target has of it is
written again; after it, nothing is sent for the source's session any more, and nothing is copied.
"""

from enum import StrEnum

from idiolectd.clock import Clock
from idiolectd.errors import StoreError
from idiolectd.ports import NO_SERVER, Committed, ScheduleEntry, SharedStore, StoredSession
from idiolectd.session import OAuthSession
from idiolectd.state import RefreshState, State, reconcile


class Migrated(StrEnum):
    """What became of a session."""

    WOULD_MIGRATE = "would_migrate"
    MIGRATED = "migrated"
    ALREADY = "migrated_already"  # by an earlier run
    GONE = "gone"  # somebody logged it out meanwhile
    OTHER = "other_session"  # the target has another session of the account


async def migrate(
    did: str, source: SharedStore, target: SharedStore, clock: Clock, *, patience: float, looking: bool
) -> Migrated:
    """Moves one session.

    Args:
        did: whose.
        source: where it is.
        target: where it is to be.
        clock: wall-clock time.
        patience: how many seconds to wait for other programs' claims.
        looking: says only what would become of it.

    Raises:
        LockBusy: another program works on the session.
        RecordError: one of the records is unreadable.
        StoreError: a store failed; what the source's session is has not changed.
    """
    async with source.claim(did, patience=patience), target.claim(did, patience=patience):
        stored = await source.read(did)
        if stored.session is None:
            return Migrated.GONE
        if stored.state.migrated_to is not None:
            return Migrated.ALREADY
        # What another program has written since the state was counts first, or puts back what it has dropped.
        seen = reconcile(stored.session, stored.state, clock.now())
        there = await target.read(did)
        is_ahead = seen.session.refresh_token_hash in there.state.spent
        if not is_ahead and not _is_free(there, seen.session):
            return Migrated.OTHER
        if looking:
            return Migrated.WOULD_MIGRATE
        if not is_ahead:
            await _copy(seen.session, seen.state, source, target, clock.now())
        told = await source.commit(seen.session, seen.state.migrated(target.url))
        return Migrated.MIGRATED if told is Committed.DONE else Migrated.GONE


def _is_free(there: StoredSession, session: OAuthSession) -> bool:
    """Whether the target has no session of the account, or this one."""
    return there.session is None or there.session.refresh_token_hash == session.refresh_token_hash


async def _copy(
    session: OAuthSession, state: RefreshState, source: SharedStore, target: SharedStore, now: float
) -> None:
    """Writes all that the source has of a session to the target, and reads it back.

    Raises:
        StoreError: it can't be written, or is not what was written.
    """
    if source.spill is not None and target.spill is not None:
        spilled = await source.spill.find(session.did, session.refresh_token_hash)
        if spilled is not None:
            await target.spill.put(spilled)
    await target.save(session)
    rests = state.paused or state.state is State.RELOGIN_REQUIRED
    # As after a login: the daemon looks at it, and plans by what the state says.
    look = None if rests else ScheduleEntry(at=now, did=session.did, expires_at=now, server=NO_SERVER)
    await target.commit(session, state, due=look)
    copied = await target.read(session.did)
    if copied.session != session or copied.state != state:
        raise StoreError(
            f"{target.url} does not hold {session.did} as it was written; it stays in {source.url}"
        )
