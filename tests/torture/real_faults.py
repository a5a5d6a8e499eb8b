"""The real PDS behind a proxy that loses its answers after it has rotated, or requests before it.

The PDS's own URL is the proxy's (`wire`), so everything passes through it. Each session of the real
daemon meets one mishap at its next refresh, or none. What the proxy swallowed is the proof of what
the server did. Two scenarios:

* the daemon goes on running, and the access token is far from its end;
* the daemon is killed right after, and comes back when the access tokens are over.

Shown, for either store: legacy sessions are all recovered; an OAuth session is `response_lost` if and
only if the server had rotated its token, and nothing more was sent while the access token could tell
(the lost tokens still work), at most once otherwise; all other sessions live, write records, and
refresh once more.

Not shown: an authorization server on another host than the PDS.
"""

import json
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path

from tests.real_pds.harness import RealPds, why_not
from tests.torture.common import Promises, options, print_table
from tests.torture.real_scenario import FIGURES, LIFE, SESSIONS, Result, Scenario, When
from tests.torture.stores import STORE_KINDS, StoreKind, StorePlace
from tests.torture.wire import Kind, Wire, running_wire

# How an answer is lost, and how a request: each round takes the next of both.
_ANSWERS: tuple[Kind, ...] = ("drop_answer", "reset_answer", "cut_answer")
_REQUESTS: tuple[Kind, ...] = ("drop_request", "reset_request", "drop_request")


def rounds(*, full: bool) -> list[list[tuple[StoreKind, When, Kind, Kind]]]:
    """What runs after each other, and in each round side by side."""
    whens: tuple[When, ...] = ("running", "down")
    found = [
        [(store, when, answer, request) for store, when in zip(turn, whens, strict=True)]
        for answer, request in zip(_ANSWERS, _REQUESTS, strict=True)
        for turn in (STORE_KINDS, STORE_KINDS[::-1])
    ]
    return found if full else found[:1]


def run(folder: Path, *, full: bool) -> int:
    """All rounds on one PDS; returns the exit code."""
    results: list[Result] = []
    with ExitStack() as stack:
        wire = stack.enter_context(running_wire())
        pds = stack.enter_context(_pds(folder / "pds", wire))
        wire.upstream = pds.port
        for number, plan in enumerate(rounds(full=full)):
            results += _side_by_side(pds, wire, folder / f"round-{number}", plan)
    return _conclude(results)


def _pds(folder: Path, wire: Wire) -> RealPds:
    return RealPds(
        folder,
        accounts=2 * SESSIONS,
        access_life=LIFE,
        legacy_access_exp=f"{LIFE}s",
        public_port=wire.port,
    )


def _side_by_side(
    pds: RealPds, wire: Wire, folder: Path, plan: list[tuple[StoreKind, When, Kind, Kind]]
) -> list[Result]:
    scenarios = []
    for number, (store, when, answer, request) in enumerate(plan):
        accounts = pds.accounts[number * SESSIONS : (number + 1) * SESSIONS]
        place = StorePlace(store, folder / when)
        scenarios.append(Scenario(pds, wire, place, when, accounts, answer=answer, request=request))
    with ThreadPoolExecutor(len(scenarios)) as pool:
        return list(pool.map(Scenario.run, scenarios))


def _conclude(results: list[Result]) -> int:
    rows = [[result.name, *(result.counts[name] for name in FIGURES)] for result in results]
    print_table(["scenario", *FIGURES], rows)
    problems = [f"{result.name}: {problem}" for result in results for problem in result.problems]
    for problem in problems[:20]:
        print(f"  {problem}")
    promises = Promises()
    promises.expect("problems", len(problems), 0)
    for figure in ("legacy hit", "OAuth hit, rotated", "OAuth hit, not rotated"):
        promises.expect_at_least(figure, sum(result.counts[figure] for result in results), len(results))
    total = {name: sum(result.counts[name] for result in results) for name in FIGURES}
    promises.expect("legacy recovered", total["recovered"], total["legacy hit"])
    promises.expect("OAuth called lost", total["called lost"], total["OAuth hit, rotated"])
    promises.expect("OAuth alive", total["alive"], total["OAuth hit, not rotated"])
    return promises.conclude()


def main() -> int:
    """The command line; returns the exit code."""
    given = options("loses answers of the real PDS; --full: each way of losing, each store").parse_args()
    reason = why_not()
    if reason is not None:
        print(json.dumps({"skipped": reason}))
        return 0
    with tempfile.TemporaryDirectory(prefix="idiolectd-real-faults-") as folder:
        return run(Path(folder), full=given.full)


if __name__ == "__main__":
    sys.exit(main())
