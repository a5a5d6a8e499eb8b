"""Two records of one account, and no server's time that tells which is newer: which of them lives?

Somebody put a record into the place of another (a rotation by a foreign program, a login, a copy from a
backup), and the one that lost is kept (`RefreshState.displaced`). To send a used-up refresh token would
end the session, so before the stored one is sent its PDS is asked about the *access* tokens:

1. It takes the stored one: that is the newest; the other is forgotten.
2. It refuses the stored one although that should live, or takes the other one: the stored record is an
   old copy; the other comes back.
3. It can't say while the stored one should live: not now.
4. The stored one is over, so nothing more can be known: it is sent.

A legacy session's refresh token can be sent without harm, and its access tokens outlive a rotation: there
the first refusal of the stored one brings the other back.
"""

from dataclasses import replace
from typing import Any

from idiolectd import events
from idiolectd.outcome import Current, Retry
from idiolectd.ports import AccessTokenStatus, Committed, SplitRefresher
from idiolectd.refresh import unclear
from idiolectd.refresh.recorder import AttemptResult, ClaimedSession, Recorder
from idiolectd.session import OAuthSession
from idiolectd.state import TokenTimes, displaced, tokens_of


async def settle(
    work: ClaimedSession, refresher: SplitRefresher[Any], recorder: Recorder
) -> ClaimedSession | AttemptResult:
    """Finds out which of the two lives; returns what is to be worked on, or how that has ended already."""
    session, state, now = work.session, work.state, recorder.clock.now()
    other = displaced(state)
    if other is None:
        return replace(work, state=state.proven())
    other = state.pins.restored_to(other) if other.dpop_thumbprint == session.dpop_thumbprint else other
    if refresher.has_grace:
        return await _brought_back(work, other, recorder) if state.refusals else work
    probe = await refresher.probe(session)
    if probe.taken is AccessTokenStatus.ACCEPTED:
        return replace(work, state=state.proven())
    if probe.taken is AccessTokenStatus.REFUSED and unclear.outlives(session, probe, now):
        return await _brought_back(work, other, recorder)
    if probe.taken is AccessTokenStatus.UNKNOWN and TokenTimes.of(session, state, now).expires_at > now:
        message = (
            "another program has replaced the record, and the PDS can't say whether its tokens are newer"
        )
        return await recorder.conclude(work, Retry("unproven", message))
    if (await refresher.probe(other)).taken is AccessTokenStatus.ACCEPTED:
        return await _brought_back(work, other, recorder)
    return work


async def _brought_back(work: ClaimedSession, other: OAuthSession, recorder: Recorder) -> AttemptResult:
    """Stores the record that had lost, and plans it."""
    now = recorder.clock.now()
    state = recorder.planner.fresh(other, work.state.brought_back(work.session, other, now), now)
    done = replace(work, session=other, state=state)
    # The stored token counts as used up now, so the commit replaces it, the key included.
    if await recorder.commit(other, done, tokens=tokens_of(other)) is not Committed.DONE:
        return AttemptResult(Current(work.session), None)  # somebody was here: looked at anew
    recorder.emit(events.SessionSpentTokenUndone(did=other.did))
    return recorder.attempt(Current(other), done)
