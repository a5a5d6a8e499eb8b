"""Stores with many sessions: how the daemon starts on them, what it costs to keep them, how commands answer."""

import math
import os
import sqlite3
import subprocess
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing
from dataclasses import dataclass
from itertools import chain
from pathlib import Path

from bench.daemon import Daemon, command, environment, write_config
from bench.endpoint import Endpoint
from bench.errors import BenchError
from bench.measuring import Figure, Goal, Measure, Workshop
from bench.processes import Quiet, cpu_time, own_cpus, pinned, resident
from bench.seeding import Seeding, handle, write_files, write_sqlite

# So many of the sessions are due when the daemon starts: the last of the store, so that whoever reads
# it from its beginning finds them last.
_DUE_AT_ONCE = 1000

# The access tokens of all others, in seconds: nothing else becomes due while we measure.
_LONG_LIFE = 10 * 86400.0

_GLANCE = 0.05

# Seconds without work after which a start is over. Before a daemon does nothing it may pause.
_QUIET = 2.0


@dataclass(frozen=True)
class _Start:
    """When what happened after a daemon was started, in seconds.

    Attributes:
        refreshing: the first token was refreshed.
        caught_up: everything that was due was refreshed.
        over: it had nothing to do any more.
    """

    ready: float
    refreshing: float
    caught_up: float
    over: float


def _records(issuers: list[str], count: int) -> Iterator[tuple[str, str]]:
    due = min(_DUE_AT_ONCE, count // 10)
    now = time.time()
    later = Seeding(issuers, count - due, due=now + 0.6 * _LONG_LIFE, lifetime=_LONG_LIFE, is_foreign=True)
    soon = Seeding(issuers, due, due=now - 60.0, first=count - due, is_foreign=True)
    return chain(later.records(), soon.records())


def _start(daemon: Daemon, endpoint: Endpoint, due: int, within: float) -> _Start | None:
    """Watches a start; None: it was not over in time."""
    before = endpoint.statistics().tokens
    quiet = Quiet(daemon.pid, _QUIET)
    refreshing = caught_up = math.nan if due else 0.0
    while (passed := time.monotonic() - daemon.began) < within:
        daemon.glance()
        done = endpoint.statistics().tokens - before
        if done > 0 and math.isnan(refreshing):
            refreshing = passed
        if done >= due and math.isnan(caught_up):
            caught_up = passed
        since = quiet.glance()
        if since is not None and daemon.ready_after is not None and done >= due:
            return _Start(daemon.ready_after, refreshing, caught_up, since - daemon.began)
        time.sleep(_GLANCE)
    return None


def _planned(path: Path) -> int:
    """How many sessions of an SQLite store have a due time."""
    with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as database:
        row = database.execute("SELECT count(*) FROM idiolectd_state WHERE due_at IS NOT NULL").fetchone()
    return int(row[0])


def _run(config: Path, *arguments: str, within: float) -> tuple[float, float]:
    """Runs a command to its end; returns its seconds, and the MiB that it held at most.

    Raises:
        BenchError: it did not end in time, or failed.
    """
    began = time.monotonic()
    with pinned(own_cpus()):
        process = subprocess.Popen(
            command(*arguments), env=environment(config), stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL
        )
    while True:
        pid, status, used = os.wait4(process.pid, os.WNOHANG)
        if pid:
            break
        if time.monotonic() - began > within:
            process.kill()
            process.wait()
            raise BenchError(f"idiolectd {' '.join(arguments)} took more than {within:.0f} s")
        time.sleep(0.002)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode != 0:
        raise BenchError(f"idiolectd {' '.join(arguments)} ended with {process.returncode}")
    return time.monotonic() - began, used.ru_maxrss / 1024


def _commands(subject: str, config: Path, known: str, within: float) -> Iterator[Figure]:
    for name, arguments in (
        ("--version", ("--version",)),
        ("status", ("status", "--json")),
        ("list", ("list", "--json")),
        ("status HANDLE", ("status", "--json", known)),
        ("refresh HANDLE", ("refresh", "--force", "--json", known)),
    ):
        seconds, memory = _run(config, *arguments, within=within)
        yield Figure(subject, f"{name}: time", seconds, "s")
        yield Figure(subject, f"{name}: memory", memory, "MiB")


def _idle(subject: str, daemon: Daemon, seconds: float) -> Iterator[Figure]:
    before, began = cpu_time(daemon.pid), time.monotonic()
    time.sleep(seconds)
    share = (cpu_time(daemon.pid) - before) / (time.monotonic() - began)
    yield Figure(subject, "idle: share of a core", 100 * share, "%")
    yield Figure(subject, "idle: memory", resident(daemon.pid), "MiB")


def _of_size(
    workshop: Workshop, count: int, subject: str, write: Callable[[Path, Iterable[tuple[str, str]]], str]
) -> Iterator[Figure]:
    size, due = workshop.size, min(_DUE_AT_ONCE, count // 10)
    with workshop.scratch() as folder, Endpoint(16, sessions=count) as endpoint:
        path = folder / "store"
        url = write(path, _records(endpoint.issuers, count))
        config = write_config(folder, url, endpoint)
        with Daemon(config) as daemon:
            first = _start(daemon, endpoint, due, size.patience)
            yield Figure(subject, "first start: memory at most", resident(daemon.pid, peak=True), "MiB")
            if first is None:
                found = f"{_planned(path):,} of {count:,}" if write is write_sqlite else "not all"
                workshop.missing[subject] = f"after {size.patience:.0f} s the first start had seen {found}"
                return
        yield Figure(subject, "first start: READY", first.ready, "s")
        yield Figure(subject, "first start: refreshing", first.refreshing, "s")
        yield Figure(subject, f"first start: the {due:,} due refreshed", first.caught_up, "s")
        yield Figure(subject, "first start: all seen", first.over, "s")
        if write is write_sqlite and (planned := _planned(path)) != count:
            raise BenchError(
                f"the daemon did nothing any more, but {count - planned} sessions have no due time"
            )
        if endpoint.statistics().tokens != due or endpoint.statistics().replays:
            raise BenchError(f"{endpoint.statistics()}: {due} sessions were to be refreshed once")
        with Daemon(config) as daemon:
            second = _start(daemon, endpoint, 0, size.patience)
            if second is None:
                workshop.missing[subject] = f"the second start was not over after {size.patience:.0f} s"
                return
            yield Figure(subject, "second start: READY", second.ready, "s")
            yield Figure(subject, "second start: nothing more to do", second.over, "s")
            yield from _idle(subject, daemon, size.idle)
            yield from _commands(subject, config, handle(count - 1), size.patience)


def _sqlite(workshop: Workshop) -> Iterator[Figure]:
    for count in workshop.size.sessions:
        yield from _of_size(workshop, count, f"{count:,} sessions", write_sqlite)


def _files(workshop: Workshop) -> Iterator[Figure]:
    count = min(100_000, max(workshop.size.sessions))
    yield from _of_size(workshop, count, f"{count:,} files", write_files)


def _small_and_idle(workshop: Workshop) -> Iterator[Figure]:
    with workshop.scratch() as folder, Endpoint(16, sessions=100) as endpoint:
        seeding = Seeding(endpoint.issuers, 100, due=time.time() + 0.6 * _LONG_LIFE, lifetime=_LONG_LIFE)
        url = write_sqlite(folder / "store", seeding.records())
        with Daemon(write_config(folder, url, endpoint)) as daemon:
            if _start(daemon, endpoint, 0, workshop.size.patience) is None:
                raise BenchError("the daemon does not come to rest with 100 sessions")
            yield from _idle("100 sessions", daemon, workshop.size.idle)


_MILLION, _FILES = "1,000,000 sessions", "100,000 files"

MEASURES = (
    Measure(
        "many",
        "A store of many sessions",
        "An SQLite store full of records that another program wrote, 1,000 of them due at once. The first start"
        " looks at all of them, the second knows them. The commands run beside the daemon.",
        _sqlite,
        goals=(
            Goal(_MILLION, "first start: refreshing", most=5),
            Goal(_MILLION, "first start: all seen", most=150),
            Goal(_MILLION, "second start: READY", most=2),
            Goal(_MILLION, "idle: share of a core", most=0.5),
            Goal(_MILLION, "status: time", most=2),
            Goal(_MILLION, "status: memory", most=100),
            Goal(_MILLION, "list: memory", most=100),
            Goal(_MILLION, "status HANDLE: time", most=0.3),
            Goal(_MILLION, "status HANDLE: memory", most=100),
            Goal(_MILLION, "refresh HANDLE: time", most=0.3),
            Goal(_MILLION, "refresh HANDLE: memory", most=100),
        ),
        plot="first start: all seen",
    ),
    Measure(
        "many-files",
        "A folder of many sessions",
        "The same in a file store.",
        _files,
        goals=(Goal(_FILES, "second start: READY", most=3),),
    ),
    Measure(
        "idle",
        "A small store, idle",
        "100 sessions, none of them due.",
        _small_and_idle,
        goals=(Goal("100 sessions", "idle: share of a core", most=0.1),),
    ),
)
