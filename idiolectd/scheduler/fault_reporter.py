"""Reports records that can't be read and a store that can't answer: when it begins, and when it is over.

A fault that lasts is reported once when it begins, however often it is met, and again at growing distance,
so that a log which is read later shows it.
"""

from collections.abc import Callable

import anyio

from idiolectd import events
from idiolectd.errors import RecordError, StoreError
from idiolectd.events import EventSink
from idiolectd.policy import reminder_gap
from idiolectd.remedy import Commands, remedy_for_unreadable

# An outage is over when nothing has failed for so many seconds.
_QUIET = 30.0


class FaultReporter:
    """Remembers which records are known to be broken, and whether the store is.

    Args:
        emit: who is told.
        commands: returns how the commands are typed that help.
    """

    def __init__(self, emit: EventSink, commands: Callable[[], Commands]) -> None:
        self._emit = emit
        self._commands = commands
        self._quarantined: dict[str, str] = {}
        self._failed_reads: dict[str, int] = {}
        self._down_since: float | None = None
        self._failed_at = self._report_at = 0.0
        self._reports = 0

    @property
    def quarantined(self) -> int:
        """How many records are known to be unreadable."""
        return len(self._quarantined)

    def record_is_broken(self, did: str, error: RecordError) -> float:
        """Reports a record that could not be read twice, a second apart; returns when to read it again, in seconds.

        A change of the record itself is noticed without that. That a folder above it can be read again, say,
        is not.
        """
        failed = self._failed_reads[did] = self._failed_reads.get(did, -1) + 1
        if self._quarantined.get(did) != error.reason:
            self._quarantined[did] = error.reason
            todo = remedy_for_unreadable(did, error.place, commands=self._commands())
            self._emit(
                events.SessionQuarantined(
                    did=did, place=error.place, error=error.reason, action=todo.command, advice=todo.advice
                )
            )
        return reminder_gap(failed + 1)

    def record_is_readable(self, did: str) -> None:
        """Forgets that a record was broken: it could be read."""
        self._quarantined.pop(did, None)
        self._failed_reads.pop(did, None)

    def store_failed(self, error: StoreError) -> None:
        """Reports that the store could not answer, unless that was reported a short while ago."""
        self._failed_at = now = anyio.current_time()
        if self._down_since is None:
            self._down_since, self._report_at, self._reports = now, now, 0
        if now >= self._report_at:
            self._reports += 1
            self._report_at = now + reminder_gap(self._reports)
            self._emit(events.StoreUnavailable(error=str(error), lasting=round(now - self._down_since, 3)))

    def report_recovery(self) -> None:
        """Reports that an outage of the store is over; to be called now and then.

        One answer proves nothing: a store may be readable and not writable. Whoever failed tries again within
        seconds, so `_QUIET` seconds without a failure prove it.
        """
        if self._down_since is not None and anyio.current_time() - self._failed_at >= _QUIET:
            self._emit(events.StoreAvailable(lasted=round(self._failed_at - self._down_since, 3)))
            self._down_since = None
