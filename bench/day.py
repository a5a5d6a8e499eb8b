"""A day of many sessions on a virtual clock: whether any is late, and how even the load is.

Scheduler and timing are the daemon's own; what a refresh does is left out, so that millions of them can be
simulated: an engine that answers after a moment, and an index of due times in memory.
"""

import math
import random
import sqlite3
import time
from array import array
from collections.abc import AsyncIterator, Collection, Iterator
from contextlib import asynccontextmanager
from typing import cast

import anyio
import trio.testing

from bench.measuring import Figure, Goal, Measure, Workshop
from bench.seeding import did
from idiolectd.outcome import Refreshed
from idiolectd.policy import Policy, due_at
from idiolectd.ports import ScheduleEntry, SharedStore
from idiolectd.refresh import AttemptResult, RefreshEngine
from idiolectd.scheduler import IssuerLimits, Scheduler
from idiolectd.session import OAuthSession

_START = 1_800_000_000.0
_DAY = 86400.0

# Seconds: the life of an access token, and how long the servers think.
_LIFETIME = 3600.0
_ANSWER = 0.05

_ISSUERS = [f"https://issuer{number}.example" for number in range(20)]

# Of a million sessions a day has 31 million refreshes, and each takes 0.1 ms here. So many are simulated at most,
# and two hours at least: one to begin, and one to look at.
_MOST_REFRESHES = 3_200_000

# As few as these are never too many for one issuer: the limits of servers are not what is simulated.
_LIMITS = IssuerLimits(concurrency=8, rate=10_000)

_SESSION = OAuthSession(did=did(0), pds_url=_ISSUERS[0], access_jwt="a", refresh_jwt="r")


class Clock:
    """Wall-clock time that follows the event loop's."""

    def now(self) -> float:
        return _START + anyio.current_time()


class _Unchanged:
    """Watches a store that nobody else writes to."""

    def __init__(self) -> None:
        self._is_first = True

    async def wait_changed(self) -> Collection[str]:
        if not self._is_first:
            await anyio.sleep_forever()
        self._is_first = False
        return []


class Sessions:
    """As much of a store, and of an engine, as the scheduler uses; writes down when it is asked.

    Attributes:
        latest: seconds by which the latest refresh began too late.
        minutes: refreshes in each minute of the day.
    """

    def __init__(self, count: int, clock: Clock) -> None:
        self.latest = 0.0
        self.minutes = array("L", [0]) * math.ceil(_DAY / 60)
        self._clock = clock
        self._generations = array("L", [0]) * count
        self._index = sqlite3.connect(":memory:", isolation_level=None)
        self._index.execute("CREATE TABLE due (did TEXT PRIMARY KEY, at REAL, expires_at REAL, server TEXT)")
        self._index.execute("CREATE INDEX due_at ON due (at, did)")
        self._numbers = {did(number): number for number in range(count)}
        for number in range(count):  # ages as they are in the middle of a life
            self._plan(did(number), _START - random.random() * 0.775 * _LIFETIME)

    def _plan(self, name: str, issued_at: float) -> ScheduleEntry:
        number = self._numbers[name]
        token = f"{name} {self._generations[number]}"
        expires_at = issued_at + _LIFETIME
        at = due_at(Policy(), issued_at=issued_at, expires_at=expires_at, token_hash=token)
        entry = ScheduleEntry(max(at, self._clock_start(at)), name, expires_at, self._server(number))
        self._index.execute(
            "REPLACE INTO due VALUES (?, ?, ?, ?)", (name, entry.at, expires_at, entry.server)
        )
        return entry

    @staticmethod
    def _clock_start(at: float) -> float:
        """What would have been due before the day begins is due in its first minutes."""
        return at if at >= _START else _START + (_START - at) % 60

    @staticmethod
    def _server(number: int) -> str:
        return _ISSUERS[number % len(_ISSUERS)]

    # The engine ------------------------------------------------------------------------------

    async def refresh(self, name: str, **_options: object) -> AttemptResult:
        now = self._clock.now()
        row = self._index.execute("SELECT at FROM due WHERE did = ?", (name,)).fetchone()
        self.latest = max(self.latest, now - row[0])
        self.minutes[min(len(self.minutes) - 1, int((now - _START) // 60))] += 1
        await anyio.sleep(_ANSWER)
        number = self._numbers[name]
        self._generations[number] += 1
        due = self._plan(name, self._clock.now())
        return AttemptResult(Refreshed(_SESSION), due, token="t", asked=self._server(number))

    async def spilled(self) -> list[str]:
        return []

    # The store -------------------------------------------------------------------------------

    async def due(
        self, before: float, *, limit: int, after: ScheduleEntry | None = None
    ) -> list[ScheduleEntry]:
        await anyio.lowlevel.checkpoint()
        beyond = (after.at, after.did) if after is not None else (-math.inf, "")
        rows = self._index.execute(
            "SELECT at, did, expires_at, server FROM due WHERE at < ? AND (at, did) > (?, ?) "
            "ORDER BY at, did LIMIT ?",
            (before, *beyond, limit),
        )
        return [ScheduleEntry(*row) for row in rows]

    def schedule(self, _did: str, _due: ScheduleEntry | None) -> None:
        """The refresh has done it already."""

    @asynccontextmanager
    async def new_sessions(self) -> AsyncIterator[None]:
        """All are known."""
        yield None

    @asynccontextmanager
    async def watch(self) -> AsyncIterator[_Unchanged]:
        yield _Unchanged()


def hours_of(count: int) -> float:
    """How much of the day is simulated for so many sessions: all of it, unless that would take hours, too."""
    hours = _MOST_REFRESHES / count * 0.775 * _LIFETIME / 3600
    return min(_DAY / 3600, max(2.0, math.floor(hours)))


def simulate(count: int) -> Sessions:
    """A day of so many sessions, or as much of it as `hours_of` says."""
    clock = Clock()
    sessions = Sessions(count, clock)

    async def day() -> None:
        store, engine = cast("SharedStore", sessions), cast("RefreshEngine", sessions)
        scheduler = Scheduler(
            store, lambda: engine, clock=clock, emit=lambda _: None, limits=_LIMITS, jitter=random.random
        )
        with anyio.move_on_after(3600 * hours_of(count)):
            await scheduler.run()

    virtual = trio.testing.MockClock(autojump_threshold=0)
    anyio.run(day, backend="trio", backend_options={"clock": virtual})
    return sessions


def days(workshop: Workshop) -> Iterator[Figure]:
    """The day of each number of sessions."""
    for count in workshop.size.days:
        subject = f"{count:,} sessions"
        began = time.process_time()
        found = simulate(count)
        used = time.process_time() - began
        last = int(60 * hours_of(count)) - 1
        later = found.minutes[math.ceil(_LIFETIME / 60) : last]  # the last minute may be cut off
        mean = sum(later) / len(later)
        yield Figure(subject, "simulated", hours_of(count), "h")
        yield Figure(subject, "refreshes", sum(found.minutes), "")
        yield Figure(subject, "latest start", found.latest, "s")
        yield Figure(subject, "fullest minute, above the mean", 100 * (max(later) / mean - 1), "%")
        yield Figure(subject, "emptiest minute, below the mean", 100 * (1 - min(later) / mean), "%")
        yield Figure(subject, "scheduler's CPU per refresh", 1e6 * used / sum(found.minutes), "µs")


_MANY = "100,000 sessions"

MEASURES = (
    Measure(
        "day",
        "A simulated day",
        "Sessions with access tokens of an hour, whose ages are spread at the beginning, on a virtual clock. The"
        " load of a minute is looked at after the first hour. Of very many sessions some hours are simulated.",
        days,
        goals=(
            Goal(_MANY, "latest start", most=1),
            Goal(_MANY, "fullest minute, above the mean", most=10),
            Goal(_MANY, "emptiest minute, below the mean", most=10),
        ),
        rounds=1,
    ),
)
