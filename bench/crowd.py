"""A crowd: very many sessions become due within a minute, and the daemon may open few files."""

import json
import sqlite3
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

from bench.daemon import Daemon, command, write_config
from bench.endpoint import Endpoint
from bench.errors import BenchError, DueTooSoon
from bench.measuring import Figure, Goal, Measure, Workshop
from bench.processes import Quiet, cpu_time, resident
from bench.seeding import Seeding, write_sqlite

_ISSUERS = 1000
_FILES = 1024
_MINUTE = 60.0

_GLANCE = 0.1

# Seconds that a first look at a session takes at most, where very many are looked at together.
_LOOK = 0.002

# Where the digits of the generation stand in a refresh token.
_GENERATION = slice(len("ref-") + 24, len("ref-") + 32)


def crowd(workshop: Workshop) -> Iterator[Figure]:
    """One round."""
    count = workshop.size.crowd
    with workshop.scratch() as folder, Endpoint(_ISSUERS, sessions=count) as endpoint:
        seen_by = time.time() + 10 + count * _LOOK
        seeding = Seeding(endpoint.issuers, count, due=seen_by, pause=_MINUTE / count)
        path = folder / "store"
        config = write_config(folder, write_sqlite(path, seeding.records()), endpoint, refreshes="each")
        few = ["sh", "-c", f'ulimit -n {_FILES}; exec "$@"', "sh"]
        with Daemon(config, program=[*few, *command("run")]) as daemon:
            _wait_seen(daemon, seen_by)
            cpu, files = cpu_time(daemon.pid), 0
            while (tokens := endpoint.statistics().tokens) < count:
                daemon.glance()
                files = max(files, sum(1 for _ in Path(f"/proc/{daemon.pid}/fd").iterdir()))
                if time.time() - seen_by > _MINUTE + workshop.size.patience:
                    raise BenchError(f"{tokens} of {count} sessions were refreshed, and time is up")
                time.sleep(_GLANCE)
            passed = time.time() - seen_by
            used, memory = cpu_time(daemon.pid) - cpu, resident(daemon.pid, peak=True)
        subject = f"{count:,} sessions"
        yield Figure(subject, "replayed", endpoint.statistics().replays, "")
        yield Figure(subject, "not saved", count - _saved(path), "")
        yield Figure(subject, "all refreshed after", passed, "s")
        yield Figure(subject, "latest start", _latest(config.parent / "log"), "s")
        yield Figure(subject, "furthest out of order", _disorder(config.parent / "log"), "sessions")
        yield Figure(subject, "files open at once", files, "")
        yield Figure(subject, "CPU per refresh", 1000 * used / count, "ms")
        yield Figure(subject, "memory at most", memory, "MiB")


def _wait_seen(daemon: Daemon, by: float) -> None:
    quiet = Quiet(daemon.pid)
    while quiet.glance() is None or daemon.ready_after is None:
        daemon.glance()
        if time.time() > by:
            raise DueTooSoon("the sessions became due while the daemon still looked at them")
        time.sleep(_GLANCE)


def _saved(path: Path) -> int:
    """How many records hold the token that the server gave last."""
    with closing(sqlite3.connect(path)) as database:
        bodies = database.execute("SELECT body_json FROM sessions")
        generations = (json.loads(body)["refreshJwt"][_GENERATION] for (body,) in bodies)
        return sum(int(generation, 16) == 1 for generation in generations)


def _refreshed(log: Path) -> Iterator[dict[str, object]]:
    with log.open() as lines:
        for line in lines:
            if '"session.refreshed"' in line:
                yield json.loads(line)


def _latest(log: Path) -> float:
    """Seconds by which the latest refresh began after it was due, as the daemon says."""
    return max(float(str(event.get("lateness", 0.0))) for event in _refreshed(log))


def _disorder(log: Path) -> int:
    """How many sessions that became due later were through before the one that was overtaken most."""
    letters = str.maketrans("abcdefghij", "0123456789")
    furthest = newest = 0
    for event in _refreshed(log):
        number = int(str(event["did"]).removeprefix("did:plc:").translate(letters))
        newest = max(newest, number)
        furthest = max(furthest, newest - number)
    return furthest


_CROWD = "100,000 sessions"

MEASURES = (
    Measure(
        "crowd",
        "A crowd in one minute",
        f"Sessions of {_ISSUERS:,} issuers, all of which become due within a minute, for a daemon that may open"
        f" {_FILES:,} files.",
        crowd,
        goals=(
            Goal(_CROWD, "replayed", most=0),
            Goal(_CROWD, "not saved", most=0),
            Goal(_CROWD, "files open at once", most=_FILES),
        ),
        rounds=1,
    ),
)
