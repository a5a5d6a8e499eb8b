"""What became of a session that can't be worked on now, and of a store that can't answer.

Each trouble is reported once, when it begins, however often it is met.
"""

from idiolectd import events
from idiolectd.errors import RecordError, StoreError
from idiolectd.events import EventSink


class Troubles:
    """Remembers which records and whether the store are known to be broken.

    Args:
        emit: who is told.
    """

    def __init__(self, emit: EventSink) -> None:
        self._emit = emit
        self._quarantined: dict[str, str] = {}
        self._store_is_down = False

    @property
    def quarantined(self) -> int:
        """How many records are known to be unreadable."""
        return len(self._quarantined)

    def record_is_broken(self, did: str, error: RecordError) -> None:
        """A record could not be read twice, a second apart."""
        if self._quarantined.get(did) != error.reason:
            self._quarantined[did] = error.reason
            self._emit(events.SessionQuarantined(did=did, place=error.place, error=error.reason))

    def record_is_readable(self, did: str) -> None:
        """A record could be read."""
        self._quarantined.pop(did, None)

    def store_failed(self, error: StoreError) -> None:
        """The store could not answer."""
        if not self._store_is_down:
            self._store_is_down = True
            self._emit(events.StoreUnavailable(error=str(error)))

    def store_answered(self) -> None:
        """The store works."""
        self._store_is_down = False
