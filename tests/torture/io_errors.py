"""An error, or half a write, from each file operation of a refresh, for both stores.

EIO, ENOSPC, EDQUOT, EROFS, EINTR and short writes; from one call only, from several in a row until the
fault passes, and from all that follow until the process has to stop. The spill folder works, as if on
another file system. Afterwards a new process without faults does what the daemon does.

Promised (promise 5): the tokens that the server honours are in the store or in the spill folder when
the process ends; whatever stops a refresh before its request stops it with nothing sent; nothing is
revoked; the session works at the end.

What it does not show: faults of the spill folder too (then the tokens live as long as the process), and
what a disk holds after a failed fsync (see `powercut`).
"""

import json
import sys
import tempfile
from collections import Counter
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path

from tests.torture import tracer
from tests.torture.common import Promises, Server, options, print_table, server
from tests.torture.io_error_lane import FAULTS, MODES, Failed
from tests.torture.lanes import AT_ONCE, run_lanes
from tests.torture.stores import STORE_KINDS

SAMPLE = 32
OUTCOMES = ("refused", "saved", "spilled", "BROKEN")


def main() -> int:
    """Returns the exit code: 0 if everything was as promised."""
    arguments = options("errors from each file operation of a refresh").parse_args()
    reason = tracer.why_not()
    if reason is not None:
        print(f"skipped: {reason}")
        return 0
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="idiolectd-io-errors-")))
        simulator = stack.enter_context(server())
        step = AT_ONCE if arguments.full else AT_ONCE // 2
        more = [] if arguments.full else ["--sample", str(SAMPLE), "--seed", str(arguments.seed)]
        jobs = [
            (simulator.url, store, "--first", str(first), "--step", str(step), *more)
            for store in STORE_KINDS
            for first in range(step)
        ]
        lines = run_lanes("io_error_lane", jobs, folder)
        failed = [
            (job[1], Failed(**json.loads(line)))
            for job, found in zip(jobs, lines, strict=True)
            for line in found
        ]
        _show(failed)
        return _conclude(failed, simulator, least=1500 if arguments.full else 50)


def _show(failed: Sequence[tuple[str, Failed]]) -> None:
    for store in STORE_KINDS:
        counts = Counter((one.fault, one.mode, one.outcome) for kind, one in failed if kind == store)
        print(f"\n{store}: what failed, and what became of the refresh")
        rows = [
            [f"{fault} {mode}", *(counts[fault, mode, outcome] or "·" for outcome in OUTCOMES)]
            for fault in FAULTS
            for mode in MODES
        ]
        print_table(["fault", *OUTCOMES], rows)
    for kind, one in failed:
        if one.problem:
            where = f"{kind}, from file operation {one.number} ({one.call}) on"
            print(f"{where}, {one.fault} {one.mode}: {one.problem}")
    print()


def _conclude(failed: Sequence[tuple[str, Failed]], simulator: Server, *, least: int) -> int:
    outcomes = Counter(one.outcome for _, one in failed)
    stats = simulator.stats()
    promises = Promises()
    promises.expect_at_least("disturbed refreshes", len(failed), least)
    promises.expect_at_least("of them saved in spite of it", outcomes["saved"], 8)
    promises.expect_at_least("of them spilled, and adopted by the next process", outcomes["spilled"], 2)
    promises.expect("broken", outcomes["BROKEN"], 0)
    promises.expect("used tokens sent", stats["replays_seen"], 0)
    promises.expect("sessions ended", stats["sessions"] - stats["alive"], 0)
    promises.expect("revocations", stats["revocation_requests"] + stats["legacy_deletes"], 0)
    return promises.conclude()


if __name__ == "__main__":
    sys.exit(main())
