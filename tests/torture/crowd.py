"""Many processes find many sessions due at the same moment, generation after generation.

Half of them run on trio, half on asyncio; half of them go through the sessions in the same order,
half in one of their own. The strict simulator counts.

Shown, for either store and both kinds of session: each session is refreshed by one process a
generation, all others find it done; the server sees one consumption per session and generation, no
used token, and no legacy token twice; at the end every session works and refreshes once more.

Not shown: what happens when one of the crowd dies (`kills`).
"""

import json
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from tests.torture.common import (
    SESSION_KINDS,
    Promises,
    Server,
    call_works,
    child,
    line_of,
    options,
    print_table,
    refresh_works,
    server,
)
from tests.torture.stores import STORE_KINDS, StoreKind, StorePlace, token_hash

# The life of a token, and what the crowd's clocks move on by with each generation.
_LIFE = 3600.0


# On a machine that has far fewer cores than the crowd has heads, one may wait too long for a lock.
# Then it has done nothing, which is right; it has to be rare.
_BUSY = "LockBusy"
_MOST_BUSY = 0.02

# For one store; who is not done by then hangs.
_LIMIT = 1200.0


@dataclass(frozen=True)
class Size:
    """How large the crowd is."""

    processes: int
    sessions: int
    generations: int


# One session, for which all meet a hundred times.
MEETING = Size(processes=16, sessions=1, generations=100)
SHORT = Size(processes=8, sessions=40, generations=3)
FULL = Size(processes=32, sessions=200, generations=4)


def run(size: Size, kind: StoreKind, folder: Path, promises: Promises, *, seed: int) -> list[object]:
    """Adds to the promises; returns the row of the table."""
    place = StorePlace(kind, folder)
    with ExitStack() as stack:
        simulator = stack.enter_context(server("--nonce-rotation", "5", "--legacy-access-life", str(_LIFE)))
        for number in range(size.sessions):
            place.seed(simulator.login(SESSION_KINDS[number % 2]))
        crowd = [
            stack.enter_context(
                child(
                    "tests.torture.crowd_worker",
                    place.url,
                    *("--backend", ("trio", "asyncio")[number % 2]),
                    *("--seed", str(seed + number)),
                )
            )
            for number in range(size.processes)
        ]
        hanging = threading.Timer(_LIMIT, _kill_all, [crowd])
        hanging.start()
        stack.callback(hanging.cancel)
        for process in crowd:
            assert _line(process) == "ready"
        started, now = time.monotonic(), time.time()
        outcomes: Counter[str] = Counter()
        for generation in range(1, size.generations + 1):
            now += _LIFE  # whatever was drawn, they are due
            for process in crowd:
                _tell(process, str(now))
            found = sum((Counter(json.loads(_line(process))) for process in crowd), Counter[str]())
            outcomes += found
            busy = found.pop(_BUSY, 0)
            expected = {"Refreshed": size.sessions, "Current": size.sessions * (size.processes - 1) - busy}
            promises.expect(f"{kind}: outcomes of generation {generation}", dict(found), expected)
        seconds = time.monotonic() - started
        _judge(simulator, place, size, promises)
    rare = outcomes[_BUSY] <= _MOST_BUSY * outcomes.total()
    promises.expect(f"{kind}: no lock in time, at most {_MOST_BUSY:.0%} of the time", rare, True)
    return [kind, outcomes["Refreshed"], outcomes["Current"], outcomes[_BUSY], f"{seconds:.1f} s"]


def _judge(simulator: Server, place: StorePlace, size: Size, promises: Promises) -> None:
    stats, kind = simulator.stats(), place.kind
    shares = Counter(stats["consumptions_by_did"].values())
    promises.expect(f"{kind}: sessions by consumptions", dict(shares), {size.generations: size.sessions})
    promises.expect(f"{kind}: used tokens sent", stats["replays_seen"] + stats["legacy_grace_refreshes"], 0)
    promises.expect(f"{kind}: sessions ended", stats["sessions_killed"], 0)
    records = [place.upstream_record(did) for did in stats["consumptions_by_did"]]
    newest = [simulator.session(record["did"]).refresh_hash for record in records]
    stored = [token_hash(record["refreshJwt"]) for record in records]
    promises.expect(f"{kind}: sessions whose newest token is stored", _same(newest, stored), size.sessions)
    promises.expect(f"{kind}: sessions that can call", sum(map(call_works, records)), size.sessions)
    promises.expect(f"{kind}: sessions that refresh again", sum(map(refresh_works, records)), size.sessions)


def _same(left: list[str], right: list[str]) -> int:
    return sum(a == b for a, b in zip(left, right, strict=True))


def _kill_all(crowd: list[subprocess.Popen[str]]) -> None:
    for process in crowd:
        process.kill()


def _line(process: subprocess.Popen[str]) -> str:
    line = line_of(process)
    if not line:
        raise TimeoutError(f"one of the crowd ended early, or hung for {_LIMIT} s")
    return line


def _tell(process: subprocess.Popen[str], line: str) -> None:
    assert process.stdin is not None
    process.stdin.write(line + "\n")
    process.stdin.flush()


def run_all(size: Size, folder: Path, *, seed: int) -> int:
    """Both stores, one after the other; returns the exit code."""
    promises = Promises()
    rows = [run(size, kind, folder / kind, promises, seed=seed) for kind in STORE_KINDS]
    print(f"  {size.processes} processes, {size.sessions} sessions, {size.generations} generations")
    print_table(["store", "refreshed", "found it done", "no lock in time", "took"], rows)
    return promises.conclude()


def main() -> int:
    """The command line; returns the exit code."""
    given = options(f"a crowd on one store: {SHORT}, with --full {FULL}").parse_args()
    with tempfile.TemporaryDirectory(prefix="idiolectd-crowd-") as folder:
        return run_all(FULL if given.full else SHORT, Path(folder), seed=given.seed)


if __name__ == "__main__":
    sys.exit(main())
