"""SIGKILL before each system call of refresh-and-persist, then recovery by a new process.

For both stores and both kinds of session; a third kind are OAuth sessions at a server whose access
tokens outlive their rotation (an entryway), where no probe can tell whether a token was rotated; a fourth
at a server so slow that the killed process' request is still to be served when the next one looks. After
each kill a reader of upstream's format looks at the store, a new process does what the daemon does,
and the server, which ends a session when a used token comes back, is asked.

Promised: no torn record; no session lost that the server still honours; no token sent twice outside the
rule for unclear answers; what is ``relogin_required`` is so with the cause "response lost", and is
exactly what was rotated without the new tokens ever being held.

What it does not show: a power cut (see `powercut`): what the killed process wrote stays readable.
"""

import json
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from tests.torture import tracer
from tests.torture.boundary_lane import Killed
from tests.torture.common import Promises, Server, SessionKind, options, print_table, server
from tests.torture.lanes import AT_ONCE, run_lanes
from tests.torture.stores import STORE_KINDS, StoreKind

SAMPLE = 20
SERVING = 0.35
IN_FLIGHT = 3
OUTCOMES = ("before", "after", "regained", "lost", "BROKEN")


@dataclass(frozen=True)
class Job:
    """One lane to run.

    Attributes:
        store: which store.
        shown: how the table names the kind of session.
        arguments: the lane's.
    """

    store: StoreKind
    shown: str
    arguments: Sequence[str]


def main() -> int:
    """Returns the exit code: 0 if everything was as promised."""
    arguments = options("SIGKILL before each system call of a refresh").parse_args()
    reason = tracer.why_not()
    if reason is not None:
        print(f"skipped: {reason}")
        return 0
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="idiolectd-boundaries-")))
        strict = stack.enter_context(server())
        entryway = stack.enter_context(server("--stateless-access-tokens"))
        slow = stack.enter_context(server())
        slow.fault(kind="delay", match="/oauth/token", times=None, delay=SERVING)
        jobs = list(_jobs(strict, entryway, slow, full=arguments.full, seed=arguments.seed))
        done = run_lanes("boundary_lane", [job.arguments for job in jobs], folder)
        killed = [
            (job, Killed(**json.loads(line))) for job, lines in zip(jobs, done, strict=True) for line in lines
        ]
        _show(killed)
        return _conclude(killed, (strict, slow), entryway, least=2000 if arguments.full else 60)


def _jobs(strict: Server, entryway: Server, slow: Server, *, full: bool, seed: int) -> Iterator[Job]:
    kinds: list[tuple[SessionKind, Server, str]] = [("dpop", strict, "dpop"), ("bearer", strict, "bearer")]
    if full:
        kinds.append(("dpop", entryway, "entryway"))
    for store in STORE_KINDS:
        yield Job(store, "slow", (slow.url, store, "dpop", "--in-flight", str(IN_FLIGHT)))
        for session, at, shown in kinds:
            lane = (at.url, store, session)
            if not full:
                yield Job(store, shown, (*lane, "--sample", str(SAMPLE), "--seed", str(seed)))
                continue
            for first in range(AT_ONCE):
                yield Job(store, shown, (*lane, "--first", str(first), "--step", str(AT_ONCE)))


def _show(killed: Sequence[tuple[Job, Killed]]) -> None:
    for store in STORE_KINDS:
        counts = Counter((one.label, one.outcome) for job, one in killed if job.store == store)
        labels = sorted({label for label, _ in counts})
        print(f"\n{store}: killed before … → what became of the session")
        rows = [[label, *(counts[label, outcome] or "·" for outcome in OUTCOMES)] for label in labels]
        total = [sum(counts[label, outcome] for label in labels) for outcome in OUTCOMES]
        print_table(["call", *OUTCOMES], [*rows, ["together", *total]])
    for job, one in killed:
        if one.problem:
            print(f"{job.store} {job.shown}, before call {one.number} ({one.label}): {one.problem}")
    print()


def _conclude(
    killed: Sequence[tuple[Job, Killed]], strict: Sequence[Server], entryway: Server, *, least: int
) -> int:
    outcomes = Counter((job.shown, one.outcome) for job, one in killed)
    stats, stateless = [one.stats() for one in strict], entryway.stats()
    promises = Promises()
    promises.expect_at_least("kills", len(killed), least)
    promises.expect_at_least("answers lost", outcomes["dpop", "lost"] + outcomes["bearer", "regained"], 4)
    promises.expect("broken", sum(one.outcome == "BROKEN" for _, one in killed), 0)
    promises.expect(
        "used tokens sent to a server that can be asked", sum(one["replays_seen"] for one in stats), 0
    )
    promises.expect("sessions ended by it", sum(one["sessions_killed"] for one in stats), 0)
    lost = outcomes["entryway", "lost"]
    promises.expect("used tokens sent to one that can't", stateless["replays_seen"], lost)
    return promises.conclude()


if __name__ == "__main__":
    sys.exit(main())
