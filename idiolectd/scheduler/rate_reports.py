"""Tells when a server's sessions need a higher rate than the usual one, and when they need more than is allowed.

A refresh that comes too late because a limit is too low is nobody's fault that a log would name otherwise: each
attempt succeeds, and tokens end all the same.
"""

from collections.abc import Callable, Mapping

from idiolectd import events
from idiolectd.events import EventSink
from idiolectd.scheduler.pace import USUAL_RATE, Pace

# A rate is reported again when it has changed by this factor, and a shortage is over with so much to spare.
_CHANGE = 1.5
_TO_SPARE = 0.9


class RateReports:
    """Remembers what was told of each server.

    Args:
        emit: who is told.

    Attributes:
        outrun: the servers that allow fewer refreshes than their sessions need.
    """

    def __init__(self, emit: EventSink) -> None:
        self.outrun: set[str] = set()
        self._emit = emit
        self._told: dict[str, float] = {}

    def compare(self, needs: Mapping[str, float], pace_of: Callable[[str], Pace], now: float) -> None:
        """Compares what is needed with what is allowed.

        Args:
            needs: refreshes a second that each server's sessions need.
            pace_of: how fast a server is asked.
            now: monotonic seconds.
        """
        for server in self.outrun | self._told.keys() | needs.keys():
            pace, needed = pace_of(server), needs.get(server, 0.0)
            allowed = pace.most(now)
            if needed > allowed and server not in self.outrun:
                self.outrun.add(server)
                self._emit(
                    events.IssuerOutrun(
                        issuer=server,
                        needed=round(needed, 1),
                        allowed=round(allowed, 1),
                        limited_by=pace.limited_by(now),
                    )
                )
            elif needed <= _TO_SPARE * allowed:
                self.outrun.discard(server)
            self._tell_rate(server, pace.rate(now, waiting=0), needed)

    def _tell_rate(self, server: str, rate: float, needed: float) -> None:
        told = self._told.get(server, USUAL_RATE)
        if needed > USUAL_RATE and not told / _CHANGE < rate < told * _CHANGE:
            self._told[server] = rate
            self._emit(events.IssuerRate(issuer=server, needed=round(needed, 1), rate=round(rate, 1)))
        elif needed <= USUAL_RATE:
            self._told.pop(server, None)
