"""The daemon is killed at random moments under load, thousands of times, and started again each time.

The real ``idiolectd run`` works on sessions of both kinds; the strict simulator answers late, so that
requests are under way at any moment, and ends a session when a used token is sent again. Most rounds
end in SIGKILL; some freeze the process first (SIGSTOP, as a suspended machine does), some stop it
politely (SIGTERM), and some of those are killed while they stop. A rotation whose answer died with
the daemon ends an OAuth session for good: another login takes its place, so that the load stays.

Shown, by what the server knows and what a reader of the store ever saw (`Observer`):

* a session is `relogin_required`/`response_lost` if and only if the server's newest token for it
  never became durable; all others work, and go on working after one more, forced, refresh;
* a used token is sent only where the rule for unclear answers allows it: never while the access
  token can still tell what happened (the long-lived half), and else only for sessions that were lost
  anyway (the short-lived half);
* a polite stop loses nothing; no reader ever finds half a record.

Not shown: power cuts (`powercut`), each single system call (`boundaries`).
"""

import random
import sys
import tempfile
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from tests.torture.common import Promises, options, print_table
from tests.torture.epoch import ENDS, POLITE_ENDS, Epoch
from tests.torture.findings import Findings
from tests.torture.stores import STORE_KINDS, StoreKind, StorePlace

SHORT, USUAL, FULL = 60, 2_000, 10_000

# One server and store are used for so many kills at most: each leaves dead sessions behind.
_KILLS_IN_EPOCH = 120


@dataclass(frozen=True)
class Plan:
    """How much to do.

    Attributes:
        kills: in all, over both stores.
        minutes: no new round starts after so long.
        seed: what is drawn by lot is drawn from this.
    """

    kills: int
    minutes: float
    seed: int


def run(plan: Plan, folder: Path) -> int:
    """Both stores side by side; returns the exit code."""
    end = time.monotonic() + plan.minutes * 60
    reports: dict[StoreKind, Findings] = {kind: Findings() for kind in STORE_KINDS}
    with ThreadPoolExecutor(len(STORE_KINDS)) as pool:
        running = [pool.submit(_one_store, kind, plan, folder, end, reports[kind]) for kind in STORE_KINDS]
    for store in running:
        store.result()
    return _conclude(reports, plan)


def _one_store(kind: StoreKind, plan: Plan, folder: Path, end: float, report: Findings) -> None:
    chance = random.Random(f"{plan.seed} {kind}")
    wanted, number = plan.kills // len(STORE_KINDS), 0
    while report.counts["kills"] < wanted and time.monotonic() < end:
        number += 1
        place = StorePlace(kind, folder / f"{kind}-{number}")
        kills = min(_KILLS_IN_EPOCH, wanted - report.counts["kills"])
        with Epoch(place, chance, report) as epoch:
            epoch.run(kills, end=end)


def _conclude(reports: dict[StoreKind, Findings], plan: Plan) -> int:
    names = (*ENDS, *POLITE_ENDS, "rotations", "lost", "classified", "replays", "reader's looks")
    rows = [[name, *(report.counts[name] for report in reports.values())] for name in names]
    print_table(["", *reports], rows)
    total = sum((report.counts for report in reports.values()), Counter[str]())
    promises = Promises()
    for report in reports.values():
        for problem in report.problems[:10]:
            print(f"  {problem}")
    promises.expect("problems", sum(len(report.problems) for report in reports.values()), 0)
    promises.expect("kills", sum(report.counts["kills"] for report in reports.values()), plan.kills)
    promises.expect(
        "classified as lost / rotations that never became durable", total["classified"], total["lost"]
    )
    promises.expect_at_least("rotations lost to a kill", total["lost"], plan.kills // 20)
    promises.expect_at_least("refreshes", total["rotations"], plan.kills)
    return promises.conclude()


def main() -> int:
    """The command line; returns the exit code."""
    parser = options(f"kills the daemon at random: {USUAL} times, with --full {FULL}")
    parser.add_argument("--short", action="store_true", help=f"{SHORT} times")
    parser.add_argument("--kills", type=int, help="so many times")
    parser.add_argument("--minutes", type=float, default=480.0, help="no new round after so long")
    given = parser.parse_args()
    kills = given.kills or (FULL if given.full else SHORT if given.short else USUAL)
    with tempfile.TemporaryDirectory(prefix="idiolectd-kills-") as folder:
        return run(Plan(kills, given.minutes, given.seed), Path(folder))


if __name__ == "__main__":
    sys.exit(main())
