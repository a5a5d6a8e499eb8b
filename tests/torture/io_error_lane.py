"""Refreshes one session after the other while the store's files fail, each at another place.

One lane works on one kind of store, and prints a line of JSON for each run; `io_errors` runs several
and counts. A process of its own, because it forks.
"""

import argparse
import errno
import json
import random
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from itertools import count
from pathlib import Path

from tests.torture import tracer, worker
from tests.torture.aftermath import assert_lives, last_words, recover
from tests.torture.common import SESSION_KINDS, Record, Server, SessionKind
from tests.torture.stores import STORE_KINDS, StoreKind, StorePlace, TornError
from tests.torture.syscalls import Call, words

_TIMEOUT = 60.0

# How long the process may hold what it can't save before it has to give up.
_PATIENCE = 0.6

# A fault that passes while the process lives: so many calls fail, then none.
_BURST = 8

# What may fail in which way (the manual pages' ERRORS; quotas and remounts hit whatever changes
# something). Not among them: fcntl, whose failures on a local disk are those of `claims`.
_CHANGES = words("write pwrite64 openat rename mkdir ftruncate unlink fallocate")
_SYNCS = words("fsync fdatasync")
_LOOKS = words("read pread64 newfstatat fstat getdents64 statfs")
_GRANTS = words("fchmod fchown chmod")
FAILABLE = _CHANGES | _SYNCS | _LOOKS | _GRANTS | words("close")

SHORT = "short write"
FAULTS: dict[str, frozenset[str]] = {
    "EIO": FAILABLE,
    "ENOSPC": _CHANGES | _SYNCS,
    "EDQUOT": _CHANGES | _SYNCS,
    "EROFS": words("openat rename mkdir ftruncate unlink fchmod fchown chmod"),
    "EINTR": words("openat read pread64 write pwrite64 fsync fdatasync ftruncate"),
    SHORT: words("write pwrite64"),
}

# Once: one call. Burst: it passes. Lasting: the process has to give up, and another one comes later.
MODES = ("once", "burst", "lasting")


@dataclass(frozen=True)
class Failed:
    """What became of one disturbed refresh.

    Attributes:
        number: which of the failable calls was the first to fail.
        call: its name.
        fault: how it failed.
        mode: see `MODES`.
        outcome: ``refused`` (nothing was sent), ``saved`` (by the same process), ``spilled`` (and
            found by the next); ``BROKEN``.
        problem: what is broken.
    """

    number: int
    call: str
    fault: str
    mode: str
    outcome: str
    problem: str = ""


@dataclass(frozen=True)
class Plan:
    """One run: from which call on what fails, and how."""

    number: int
    call: str
    fault: str
    mode: str


class Disturbance:
    """Makes the store's files fail as planned.

    Args:
        store: below it lie the files that fail; those beside it (the spill) do not.
        plan: None: nothing fails.
    """

    def __init__(self, store: Path, plan: Plan | None = None) -> None:
        self._store = str(store)
        self._plan = plan
        self.calls: list[str] = []
        self.failed = 0

    def __call__(self, call: Call) -> tracer.Action:
        if call.name not in FAILABLE or not call.path.startswith(self._store):
            return None
        self.calls.append(call.name)
        plan = self._plan
        if plan is None or len(self.calls) <= plan.number or call.name not in FAULTS[plan.fault]:
            return None
        if self.failed >= {"once": 1, "burst": _BURST, "lasting": 10**9}[plan.mode]:
            return None
        if plan.fault == "EROFS" and call.name == "openat" and not call.args[2] & 0o3:
            return None  # a read-only file system can be read
        self.failed += 1
        if plan.fault == SHORT:
            return tracer.Shorten(7 if plan.mode == "once" else 700)
        # The kernel closes a file even if it then reports an error.
        return tracer.Fail(getattr(errno, plan.fault), done=call.name == "close")


class Lane:
    """Disturbs refreshes on one kind of store.

    Args:
        server: the simulator.
        store_kind: which store.
        folder: where stores may be made.
    """

    def __init__(self, server: Server, store_kind: StoreKind, folder: Path) -> None:
        self._server = server
        self._store_kind = store_kind
        self._folder = folder
        self._serial = count()

    def plans(self) -> list[Plan]:
        """Every place of an undisturbed run, with every fault that there may be."""
        place, record = self._fresh("dpop")
        look = Disturbance(place.path)
        self._run(place, record, look, None)
        return [
            Plan(number, call, fault, mode)
            for number, call in enumerate(look.calls)
            for fault, calls in FAULTS.items()
            if call in calls
            for mode in MODES
            if (fault, mode) != ("EINTR", "lasting")  # a signal is a moment
        ]

    def disturb(self, plan: Plan) -> Failed:
        """Carries one plan out and judges what is left."""
        place, record = self._fresh(
            SESSION_KINDS[(plan.number + MODES.index(plan.mode)) % len(SESSION_KINDS)]
        )
        try:
            outcome = self._judged(place, record, plan)
        except (TornError, TimeoutError, AssertionError) as error:
            return Failed(**asdict(plan), outcome="BROKEN", problem=f"{type(error).__name__}: {error}")
        shutil.rmtree(place.folder)
        return Failed(**asdict(plan), outcome=outcome)

    def _fresh(self, session_kind: SessionKind) -> tuple[StorePlace, Record]:
        place = StorePlace(self._store_kind, self._folder / f"store-{next(self._serial)}")
        record = self._server.login(session_kind)
        place.seed(record)
        return place, record

    def _run(
        self, place: StorePlace, record: Record, disturbance: Disturbance, patience: float | None
    ) -> str:
        report = place.folder / "outcome"

        def work() -> None:
            report.write_text(worker.refresh(place, record["did"], patience=patience))

        log = place.folder / "refresh.log"
        ended = tracer.run(work, disturbance, timeout=_TIMEOUT, log=log)
        assert ended.code == 0, f"the process ended with {ended.code}: {last_words(log)}"
        return report.read_text()

    def _judged(self, place: StorePlace, record: Record, plan: Plan) -> str:
        did = record["did"]
        disturbance = Disturbance(place.path, plan)
        lasting = plan.mode == "lasting" and plan.fault != SHORT
        outcome = self._run(place, record, disturbance, _PATIENCE if lasting else None)
        at_server = self._server.session(did)
        with place.copied() as copy:
            copy.upstream_record(did)
            held = copy.held_tokens(did)
        assert at_server.alive, "the session was ended"
        assert at_server.refresh_hash in held, f"{outcome}: the tokens that the server honours are nowhere"
        match outcome:
            case "Refreshed":
                assert at_server.generation == 1, "refreshed, and the server knows nothing of it"
            case "StoreError" | "LockBusy" | "RecordError":
                assert at_server.generation == 0, f"{outcome}, and the token was sent"
            case "Unpersisted":
                assert lasting, "tokens were given up, though they could have been saved"
            case _:
                raise AssertionError(f"the outcome was {outcome}")
        assert_lives(self._server, place, did, recover(place, did))
        return {"Refreshed": "saved", "Unpersisted": "spilled"}.get(outcome, "refused")


def sample(plans: Sequence[Plan], size: int, seed: int) -> list[Plan]:
    """Some plans: half spread over the run, half over its last part, where tokens have to be saved in spite of it."""
    lot = random.Random(seed)
    numbers = max(plan.number for plan in plans) + 1
    late = [plan for plan in plans if plan.mode != "once"]
    return [
        *_spread(lot, plans, 0, numbers, size // 2),
        *_spread(lot, late, int(0.6 * numbers), numbers, size - size // 2),
    ]


def _spread(lot: random.Random, plans: Sequence[Plan], start: int, end: int, size: int) -> Iterator[Plan]:
    for i in range(size):
        first, last = start + i * (end - start) // size, start + (i + 1) * (end - start) // size
        found = [plan for plan in plans if first <= plan.number <= last]
        if found:
            yield lot.choice(found)


def main(arguments: argparse.Namespace) -> None:
    """Runs one lane."""
    lane = Lane(Server(arguments.server), arguments.store, arguments.folder)
    plans = lane.plans()
    if arguments.sample is not None:
        plans = sample(plans, arguments.sample, arguments.seed)
    for plan in plans[arguments.first :: arguments.step]:
        print(json.dumps(asdict(lane.disturb(plan))), flush=True)


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("folder", type=Path)
    parser.add_argument("server")
    parser.add_argument("store", choices=STORE_KINDS)
    parser.add_argument("--sample", type=int)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--first", type=int, default=0)
    parser.add_argument("--step", type=int, default=1)
    main(parser.parse_args())
