"""The good news of very many sessions in one line a minute, instead of a line for each of them.

A million sessions that are refreshed every hour write some gigabytes a day that nobody reads. What goes wrong
always has a line of its own.
"""

from collections import Counter

from idiolectd.events import (
    Event,
    EventSink,
    SessionFound,
    SessionRefreshed,
    SessionsFound,
    SessionsRefreshed,
)

# So many issuers are named, those with the most sessions; the others are counted together.
_MOST_NAMED = 10
OTHERS = "others"


class RefreshSummary:
    """An `EventSink` that counts refreshed and new sessions, or lets each pass; and lets everything else pass.

    Args:
        emit: who is told.

    Attributes:
        is_on: whether they are counted.
    """

    def __init__(self, emit: EventSink) -> None:
        self.is_on = False
        self._emit = emit
        self._found: Counter[str] = Counter()
        self._refreshed: Counter[str] = Counter()
        self._latest = self._slowest = 0.0

    def __call__(self, event: Event) -> None:
        """Takes an event."""
        match event:
            case SessionRefreshed() if self.is_on:
                self._refreshed[event.issuer or event.pds_url or ""] += 1
                self._latest = max(self._latest, event.lateness or 0.0)
                self._slowest = max(self._slowest, event.duration)
            case SessionFound() if self.is_on:
                self._found[event.issuer or event.pds_url or ""] += 1
            case _:
                self._emit(event)

    def flush(self) -> None:
        """Reports what was counted since the last time, if anything was."""
        if self._found:
            self._emit(SessionsFound(found=self._found.total(), issuers=_named(self._found)))
        if self._refreshed:
            self._emit(
                SessionsRefreshed(
                    refreshed=self._refreshed.total(),
                    issuers=_named(self._refreshed),
                    latest=self._latest,
                    slowest=self._slowest,
                )
            )
        self._found.clear()
        self._refreshed.clear()
        self._latest = self._slowest = 0.0


def _named(issuers: Counter[str]) -> dict[str, int]:
    named = dict(issuers.most_common(_MOST_NAMED))
    others = issuers.total() - sum(named.values())
    return named | ({OTHERS: others} if others else {})
