"""Kills one process after the other, each before another system call of the same refresh.

One lane works on one kind of store and one kind of session, and prints a line of JSON for each kill;
`boundaries` runs several lanes and counts. A process of its own, because it forks.
"""

import argparse
import json
import random
import shutil
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, dataclass
from itertools import count
from pathlib import Path

from tests.torture import tracer, worker
from tests.torture.aftermath import assert_lives, assert_lost, recover
from tests.torture.common import SESSION_KINDS, Record, Server, SessionKind
from tests.torture.stores import STORE_KINDS, StoreKind, StorePlace, TornError, token_hash
from tests.torture.syscalls import Call, words

# The server works off a request whose client is gone; this is long enough for one on loopback.
_IN_FLIGHT = 0.05

_RUN_TIMEOUT = 30.0

# No refresh has that many calls: where counting must have gone wrong.
_MOST = 5000

# Whatever is not among them changes nothing that outlives the process, nor lets time pass in which
# the server could.
_CHANGING = words(
    "write writev pwrite64 fsync fdatasync ftruncate fallocate rename renameat renameat2 unlink unlinkat mkdir "
    "mkdirat openat close connect fchmod fchmodat chmod fchown fcntl exit_group"
)
_NETWORK = words("sendto recvfrom sendmsg recvmsg connect shutdown")


@dataclass(frozen=True)
class Killed:
    """What one kill did.

    Attributes:
        number: before which call of those that were counted.
        label: that call, and what it was about.
        outcome: ``before`` or ``after`` (the session lives, with its old or its new tokens), ``lost``
            (rotated, and the new tokens were never held: a new login), ``regained`` (the same, and
            the server gave them again); ``BROKEN``.
        problem: what is broken.
    """

    number: int
    label: str
    outcome: str
    problem: str = ""


class Sequence:
    """The calls of one run that count.

    Args:
        folder: where the store is.
        all_calls: count every call, also those that change nothing.
    """

    def __init__(self, folder: Path, *, all_calls: bool) -> None:
        self._folder = str(folder)
        self._all = all_calls
        self._sockets: set[str] = set()
        self.labels: list[str] = []

    def counts(self, call: Call) -> bool:
        """Whether a call belongs to the sequence; if so, it is the newest of `labels` now."""
        path = call.path
        if call.name == "connect":
            self._sockets.add(path)
        network = call.name in _NETWORK and path in self._sockets
        changing = call.name in _CHANGING and not path.startswith(("socket", "/dev"))
        if not (self._all or network or changing):
            return False
        self.labels.append(f"{call.name} {'network' if network else _what(path, self._folder)}".strip())
        return True


def _what(path: str, folder: str) -> str:
    if not path.startswith(folder):
        return ""
    name = path.removeprefix(folder).strip("/")
    for part, what in (
        (".tmp", "temporary file"), ("/state/", "state"), ("claims", "lock"), ("-wal", "wal"), ("-shm", "shm"),
        ("-journal", "journal"), (".json", "record"), ("spill", "spill"),
    ):  # fmt: skip
        if part in name:
            return what
    return "database" if name.endswith(".sqlite") else "folder"


class Lane:
    """Kills refreshes on one kind of store.

    Args:
        server: the simulator.
        store_kind: which store.
        session_kind: which sessions.
        folder: where stores may be made.
        all_calls: see `Sequence`.
    """

    def __init__(
        self,
        server: Server,
        store_kind: StoreKind,
        session_kind: SessionKind,
        folder: Path,
        *,
        all_calls: bool,
    ) -> None:
        self._server = server
        self._store_kind = store_kind
        self._session_kind = session_kind
        self._folder = folder
        self._all_calls = all_calls
        self._serial = count()

    def reference(self) -> list[str]:
        """The labels of one run that nobody kills."""
        place, record = self._fresh()
        sequence = Sequence(place.folder, all_calls=self._all_calls)

        def look(call: Call) -> None:
            sequence.counts(call)

        ended = tracer.run(self._work(place, record), look, timeout=_RUN_TIMEOUT)
        if ended.code != 0:
            raise RuntimeError(f"a refresh that nobody killed failed: {ended}")
        return sequence.labels

    def kill_before(self, number: int) -> Killed | None:
        """Kills a refresh before one of its calls; None: it ended before it came there."""
        place, record = self._fresh()
        sequence = Sequence(place.folder, all_calls=self._all_calls)

        def decide(call: Call) -> tracer.Action:
            return tracer.Kill() if sequence.counts(call) and len(sequence.labels) > number else None

        ended = tracer.run(self._work(place, record), decide, timeout=_RUN_TIMEOUT)
        if not ended.killed:
            return None
        label = sequence.labels[-1]
        try:
            outcome = self._judge(place, record)
            shutil.rmtree(place.folder)
            return Killed(number, label, outcome)
        except (TornError, TimeoutError, AssertionError) as error:
            return Killed(number, label, "BROKEN", f"{type(error).__name__}: {error}")

    @staticmethod
    def _work(place: StorePlace, record: Record) -> Callable[[], None]:
        def work() -> None:
            outcome = worker.refresh(place, record["did"])
            assert outcome == "Refreshed", f"a refresh that nobody disturbed was {outcome}"

        return work

    def _fresh(self) -> tuple[StorePlace, Record]:
        place = StorePlace(self._store_kind, self._folder / f"{next(self._serial)}")
        record = self._server.login(self._session_kind)
        # With one of the kinds the first write also has to switch the database to WAL mode.
        place.seed(record, wal=self._session_kind == "dpop")
        return place, record

    def _judge(self, place: StorePlace, before: Record) -> str:
        did = before["did"]
        if self._session_kind == "bearer":
            time.sleep(_IN_FLIGHT)  # later nobody can tell a first answer from its repetition
        at_kill = self._server.session(did)
        with place.copied() as copy:
            found = copy.upstream_record(did)
            held = at_kill.refresh_hash in copy.held_tokens(did) and at_kill.generation == 1
        known = (
            found["refreshJwt"] == before["refreshJwt"]
            or token_hash(found["refreshJwt"]) == at_kill.refresh_hash
        )
        assert known, "a reader finds tokens that are neither the old nor the new ones"
        recovered = recover(place, did)
        rotated = at_kill.generation
        if self._session_kind == "dpop":  # the request may have been in flight still
            ours = (recovered.outcome, recovered.forced).count("Refreshed")
            rotated = self._server.session(did).generation - ours
        if rotated and not held and self._session_kind == "dpop":
            assert_lost(recovered)
            return "lost"
        assert_lives(self._server, place, did, recovered)
        return "before" if not rotated else "after" if held else "regained"


def sending(labels: list[str]) -> int:
    """The number of the call that sends the refresh token."""
    return max(i for i, label in enumerate(labels) if label == "sendto network")


def sample(labels: list[str], size: int, seed: int) -> list[int]:
    """Numbers of calls: half of them spread evenly, half between the request and the end of the commit."""
    sent = sending(labels)
    lot = random.Random(seed)
    chosen = set(_spread(lot, 0, len(labels), size // 2))
    durable = [i for i, label in enumerate(labels) if i > sent and label.startswith(("fsync", "fdatasync"))]
    last = durable[min(3, len(durable) - 1)] + 1 if durable else len(labels)
    chosen |= set(_spread(lot, sent, last, size - len(chosen)))
    return sorted(chosen)


def _spread(lot: random.Random, first: int, end: int, size: int) -> Iterator[int]:
    step = (end - first) / max(1, size)
    for i in range(size):
        yield min(end - 1, first + int((i + lot.random()) * step))


def main(arguments: argparse.Namespace, say: Callable[[Killed], None]) -> None:
    """Runs one lane."""
    lane = Lane(
        Server(arguments.server),
        arguments.store,
        arguments.session,
        arguments.folder,
        all_calls=arguments.sample is None and arguments.in_flight is None,
    )
    numbers: Iterable[int] = ()
    if arguments.in_flight is not None:
        sent = sending(lane.reference())
        numbers = range(sent + 1, sent + 1 + arguments.in_flight)
    elif arguments.sample is not None:
        numbers = sample(lane.reference(), arguments.sample, arguments.seed)
    if numbers:
        for number in numbers:
            killed = lane.kill_before(number)
            if killed is not None:
                say(killed)
        return
    for number in range(arguments.first, _MOST, arguments.step):
        killed = lane.kill_before(number)
        if killed is None:
            return
        say(killed)
    raise SystemExit(f"no end after {_MOST} calls")


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("folder", type=Path)
    parser.add_argument("server")
    parser.add_argument("store", choices=STORE_KINDS)
    parser.add_argument("session", choices=SESSION_KINDS)
    parser.add_argument("--sample", type=int)
    parser.add_argument("--in-flight", type=int, help="only so many calls, from just after the request on")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--first", type=int, default=0)
    parser.add_argument("--step", type=int, default=1)
    main(parser.parse_args(), lambda killed: print(json.dumps(asdict(killed)), flush=True))
