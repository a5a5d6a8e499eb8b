"""Makes tokens durable that exist nowhere else, and holds them in memory until that has worked (promise 5)."""

import math

import anyio

from idiolectd.errors import StoreError
from idiolectd.outcome import Unpersisted
from idiolectd.policy import reminder_gap
from idiolectd.ports import Committed, Spilled
from idiolectd.refresh import report
from idiolectd.refresh.recorder import STAYS_AWAY, ClaimedSession, Recorder
from idiolectd.session import Tokens

# A save that failed is tried again after 0.1 s, doubling to 5 s: the tokens exist only here.
_SAVE_RETRY = (0.1, 5.0)


class SaveDeadline:
    """How long tokens that can't be saved are held.

    Args:
        longest: for this many seconds; a daemon: without end.

    Attributes:
        holding: the sessions whose tokens are held now. Any is an alarm: the disk.
    """

    def __init__(self, longest: float = math.inf) -> None:
        self.holding: set[str] = set()
        self._longest = longest
        self._until = math.inf

    def end_in(self, seconds: float) -> None:
        """Holds them from now on for this long only, so that a stop is bounded."""
        self._until = anyio.current_time() + seconds

    def lasts(self, since: float, pause: float) -> bool:
        """Whether tokens that arrived at `since` (of the event loop's clock) are held that much longer."""
        return anyio.current_time() + pause <= min(since + self._longest, self._until)


class Saver:
    """Saves what arrived; while the store does not take it, spills it and tries again.

    Args:
        recorder: commits, reports and knows the spill.
        deadline: how long tokens that can't be saved are held.
    """

    def __init__(self, recorder: Recorder, deadline: SaveDeadline) -> None:
        self._recorder = recorder
        self._deadline = deadline

    async def save(
        self, sent: ClaimedSession, arrived: ClaimedSession, spilled: Spilled, tokens: Tokens | None
    ) -> Committed | Unpersisted:
        """Makes what arrived durable. Runs shielded.

        Args:
            sent: as it was sent.
            arrived: with what came.
            spilled: what is spilled if the store does not take it.
            tokens: what to publish in the record; None: nothing.

        Returns:
            What became of it; `Unpersisted`: the deadline has passed.
        """
        committed = await self._hold_until_saved(sent, arrived, spilled, tokens)
        if committed is Committed.GONE:
            # Perhaps a foreign program is replacing the record, and has removed it first.
            await anyio.sleep(STAYS_AWAY)
            committed = await self._hold_until_saved(sent, arrived, spilled, tokens)
        return committed

    async def _hold_until_saved(
        self, sent: ClaimedSession, arrived: ClaimedSession, spilled: Spilled, tokens: Tokens | None
    ) -> Committed | Unpersisted:
        """Saves, and tries again while it fails.

        All failures are one fault. It is reported when it begins, when the tokens are spilled, and at
        growing intervals.
        """
        did = sent.session.did
        pause, longest = _SAVE_RETRY
        place: str | None = None
        since = report_at = anyio.current_time()
        reports = 0
        while True:
            try:
                committed = await self._recorder.commit(sent.session, arrived, tokens=tokens)
            except StoreError as error:
                self._deadline.holding.add(did)
                was, place = place, place or await self._recorder.spill.put(spilled)
                if place != was or anyio.current_time() >= report_at:
                    reports += 1
                    report_at = anyio.current_time() + reminder_gap(reports)
                    self._recorder.emit(report.unpersisted(sent.session, sent.state, error, place))
                if not self._deadline.lasts(since, pause):
                    return Unpersisted(str(error))
            else:
                if place is not None:  # worthless now
                    await self._recorder.spill.forget(did, spilled.previous_token_hash)
                self._deadline.holding.discard(did)
                return committed
            await anyio.sleep(pause)
            pause = min(longest, pause * 2)
