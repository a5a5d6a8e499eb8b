"""What became of a session that can't be worked on now, and of a store that can't answer.

Each trouble is reported when it begins, however often it is met; one that lasts is told again at
growing distance, so that a log that is read later shows it, and then that it is over.
"""

import anyio

from idiolectd import events
from idiolectd.errors import RecordError, StoreError
from idiolectd.events import EventSink
from idiolectd.policy import reminder_gap

# So long nothing must have failed before an outage is over.
_QUIET = 30.0


class FaultReporter:
    """Remembers which records and whether the store are known to be broken.

    Args:
        emit: who is told.
    """

    def __init__(self, emit: EventSink) -> None:
        self._emit = emit
        self._quarantined: dict[str, str] = {}
        self._looks: dict[str, int] = {}
        self._down_since: float | None = None
        self._failed_at = self._say_at = 0.0
        self._told = 0

    @property
    def quarantined(self) -> int:
        """How many records are known to be unreadable."""
        return len(self._quarantined)

    def record_is_broken(self, did: str, error: RecordError) -> float:
        """A record could not be read twice, a second apart; returns in how many seconds to look again.

        A change of the record is noticed at once. That a folder above it was opened again, say, is not.
        """
        looks = self._looks[did] = self._looks.get(did, -1) + 1
        if self._quarantined.get(did) != error.reason:
            self._quarantined[did] = error.reason
            self._emit(events.SessionQuarantined(did=did, place=error.place, error=error.reason))
        return reminder_gap(looks + 1)

    def record_is_readable(self, did: str) -> None:
        """A record could be read."""
        self._quarantined.pop(did, None)
        self._looks.pop(did, None)

    def store_failed(self, error: StoreError) -> None:
        """The store could not answer."""
        self._failed_at = now = anyio.current_time()
        if self._down_since is None:
            self._down_since, self._say_at, self._told = now, now, 0
        if now >= self._say_at:
            self._told += 1
            self._say_at = now + reminder_gap(self._told)
            self._emit(events.StoreUnavailable(error=str(error), lasting=round(now - self._down_since, 3)))

    def settle(self) -> None:
        """To be called now and then: reports that an outage is over.

        One answer is no proof: a store may be readable and not writable. Whoever failed tries again within
        seconds, so a while without a failure is one.
        """
        if self._down_since is not None and anyio.current_time() - self._failed_at >= _QUIET:
            self._emit(events.StoreAvailable(lasted=round(self._failed_at - self._down_since, 3)))
            self._down_since = None
