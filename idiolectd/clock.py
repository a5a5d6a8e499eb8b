"""Tells the wall-clock time, and reads and writes it as text.

Inside the project a point in time is a ``float``: seconds since the epoch, UTC. Text (RFC 3339) is
only for records and for people. Nothing here waits: sleeps use anyio, so that tests can use virtual time. Due
times are wall-clock times, so that they have passed when a suspended machine wakes up.
"""

import re
import time
from datetime import UTC, datetime
from functools import lru_cache
from typing import Protocol

# datetime.fromisoformat() takes much that RFC 3339 does not (weeks, dates alone, no offset).
_RFC3339 = re.compile(r"\d{4}-\d\d-\d\d[Tt ]\d\d:\d\d:\d\d(\.\d+)?([Zz]|[+-]\d\d:\d\d)", re.ASCII)

# The first and last second, UTC, that `rfc3339` can write: the years 1 to 9999. A text with an offset may
# name a time beyond them.
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
    """Writes a point in time as idiolect-oauth does: UTC, milliseconds, ``Z``.

    Never fails: a time beyond the years 1 to 9999 is written as the nearest one that can be.
    """
    text = datetime.fromtimestamp(min(LATEST, max(EARLIEST, timestamp)), UTC).isoformat(
        timespec="milliseconds"
    )
    return text.removesuffix("+00:00") + "Z"


@lru_cache(maxsize=4096)  # a session's times are read some ten times a refresh
def parse_rfc3339(text: str | None) -> float | None:
    """Reads an RFC 3339 timestamp with any offset; None if it is missing, unreadable or out of range."""
    if text is None or not _RFC3339.fullmatch(text):
        return None
    try:
        found = datetime.fromisoformat(text.upper()).timestamp()
    except (ValueError, OverflowError):
        return None
    return found if EARLIEST <= found <= LATEST else None
