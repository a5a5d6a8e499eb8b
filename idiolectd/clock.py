"""Wall-clock time: where it comes from and how it is written.

Inside the project a point in time is a ``float``: seconds since the epoch, UTC. Text (RFC 3339) is
only for records and for people. Waiting is not done here: sleeps are anyio's, so that tests can
make them virtual; deadlines are wall-clock, so that a suspended machine notices them.
"""

import re
import time
from datetime import UTC, datetime
from typing import Protocol

# datetime.fromisoformat() takes much that RFC 3339 does not (weeks, dates alone, no offset).
_RFC3339 = re.compile(r"\d{4}-\d\d-\d\d[Tt ]\d\d:\d\d:\d\d(\.\d+)?([Zz]|[+-]\d\d:\d\d)", re.ASCII)

# The years 1 and 9999, in UTC: what `rfc3339` can write. An offset leads beyond them.
EARLIEST, LATEST = -62_135_596_800.0, 253_402_300_799.0


class Clock(Protocol):
    """A source of wall-clock time."""

    def now(self) -> float:
        """Seconds since the epoch, UTC. May jump in either direction."""
        ...


class SystemClock:
    """The machine's own clock."""

    def now(self) -> float:
        """Seconds since the epoch, UTC."""
        return time.time()


def rfc3339(timestamp: float) -> str:
    """Writes a point in time as upstream does: UTC, milliseconds, ``Z``.

    Never fails: beyond the years 1 to 9999 it writes the nearest time that can be written.
    """
    text = datetime.fromtimestamp(min(LATEST, max(EARLIEST, timestamp)), UTC).isoformat(
        timespec="milliseconds"
    )
    return text.removesuffix("+00:00") + "Z"


def parse_rfc3339(text: str | None) -> float | None:
    """Reads an RFC 3339 timestamp with any offset; None if it is missing, unreadable or out of range."""
    if text is None or not _RFC3339.fullmatch(text):
        return None
    try:
        found = datetime.fromisoformat(text.upper()).timestamp()
    except (ValueError, OverflowError):
        return None
    return found if EARLIEST <= found <= LATEST else None
