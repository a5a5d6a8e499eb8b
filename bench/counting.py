"""What a refresh does, counted: function calls, hops between threads, SQL, syncs, bytes.

Counts are the same on a slow and on a fast machine, so a test can hold them (tests/bench/test_counts.py).
The refreshes come one after the other, so that nothing is shared by several of them: with many at once
there are fewer commits, hops and syncs a refresh.
"""

import json
import signal
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from functools import partial
from itertools import chain
from pathlib import Path

from bench.compiling import compiled
from bench.daemon import Daemon, write_config
from bench.endpoint import Endpoint
from bench.errors import BenchError, DueTooSoon
from bench.measuring import Figure, Measure, Workshop
from bench.processes import Quiet, usage
from bench.seeding import Seeding, write_files, write_sqlite

PER_REFRESH = "per refresh"

_WARM, _COUNTED = 16, 48

# Seconds: until the first sessions are due, and between them and those that are counted.
_LEAD, _PAUSE = 5.0, 3.0

# What these are multiplied by, one after the other, until they are long enough.
_SLOWNESS = (1.0, 3.0, 9.0)

# For this long nothing must have happened before something is counted.
_QUIET = 0.3

_GLANCE = 0.02
_LONGEST = 120.0


def counts(
    workshop: Workshop, subject: str, write: Callable[[Path, Iterable[tuple[str, str]]], str]
) -> Iterator[Figure]:
    """One round: the cost of a refresh in a store of one kind; with more time, if the machine is busy."""
    for slowness in _SLOWNESS:
        try:
            yield from _counts_of(workshop, subject, write, slowness)
        except DueTooSoon:
            continue
        return
    raise DueTooSoon("this machine is too busy to do 16 refreshes before the next ones are due")


def _counts_of(
    workshop: Workshop,
    subject: str,
    write: Callable[[Path, Iterable[tuple[str, str]]], str],
    slowness: float,
) -> Iterator[Figure]:
    total = _WARM + _COUNTED
    with workshop.scratch() as folder, Endpoint(1, sessions=total) as endpoint:
        warm = Seeding(endpoint.issuers, _WARM, due=time.time() + slowness * _LEAD)
        counted = replace(warm, first=_WARM, count=_COUNTED, due=warm.due + slowness * _PAUSE)
        url = write(folder / "store", chain(warm.records(), counted.records()))
        config = write_config(folder, url, endpoint, concurrency=1)
        found = folder / "counts.json"
        with Daemon(config, program=_program(found)) as daemon:
            _wait_done(daemon, endpoint, _WARM)
            if time.time() > counted.due:
                raise DueTooSoon
            time.sleep(max(0.0, counted.due - _QUIET - time.time()))
            before, used = _counts(daemon, found), usage(daemon.pid)
            _wait_done(daemon, endpoint, total)
            after, spent = _counts(daemon, found), usage(daemon.pid)
        if endpoint.statistics().replays:
            raise BenchError(f"{endpoint.statistics().replays} replays")
    for what in sorted(after):
        yield Figure(subject, f"{what} {PER_REFRESH}", (after[what] - before[what]) / _COUNTED, "")
    written = (spent.written - used.written) / _COUNTED / 1024
    yield Figure(subject, f"written {PER_REFRESH}", written, "KiB")


def _program(found: Path) -> list[str]:
    preloaded = compiled("syncs.c", "-shared", "-fPIC", "-ldl")
    return ["env", f"LD_PRELOAD={preloaded}", sys.executable, "-m", "bench.counted", str(found), "run"]


def _wait_done(daemon: Daemon, endpoint: Endpoint, tokens: int) -> None:
    """Waits until so many tokens were given, and nothing is done any more."""
    end, quiet = time.monotonic() + _LONGEST, Quiet(daemon.pid, _QUIET)
    while endpoint.statistics().tokens < tokens or quiet.glance() is None:
        daemon.glance()
        if time.monotonic() > end:
            raise BenchError(f"{endpoint.statistics().tokens} of {tokens} refreshes within {_LONGEST:.0f} s")
        time.sleep(_GLANCE)


def _counts(daemon: Daemon, found: Path) -> Counter[str]:
    """What the daemon has counted so far."""
    found.unlink(missing_ok=True)
    daemon.signal(signal.SIGUSR2)
    while not found.exists():
        daemon.glance()
        time.sleep(_GLANCE)
    return Counter(json.loads(found.read_text()))


def _both(workshop: Workshop) -> Iterator[Figure]:
    yield from sqlite_counts(workshop)
    yield from files_counts(workshop)


sqlite_counts = partial(counts, subject="SQLite store", write=write_sqlite)
files_counts = partial(counts, subject="file store", write=write_files)

MEASURES = (
    Measure(
        "counts",
        "What a refresh does, counted",
        "Calls of Python functions (and resumptions of coroutines), work handed to another thread and back,"
        " statements for SQLite, JSON texts read or written, URLs parsed, fsync and fdatasync, locks on ranges of"
        " files, bytes written: of refreshes that come one after the other.",
        _both,
        rounds=1,
    ),
)
