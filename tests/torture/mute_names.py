"""Healthy sessions beside a thousand whose issuers' names get no answer from the DNS.

The scheduler, the engine, the store and the transport are real, and so are the threads; the resolver is
not: it answers `localhost` at once, and everybody else after ten seconds that there is no answer, as the
system's does with one mute name server. The healthy sessions are at a simulator.

Shown: they are refreshed as often and as punctually as without the others, also when all of them are due
in the very moment in which the daemon starts; no more threads wait than are meant to; every mute session
is tried, and each failure is said.
"""

import random
import socket
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import anyio

from idiolectd.clock import SystemClock, rfc3339
from idiolectd.events import Event, SessionRefreshed
from idiolectd.http import NetworkPolicy, OriginPools
from idiolectd.http.name_lookup import NameLookups
from idiolectd.scheduler import IssuerLimits, Scheduler
from idiolectd.store import open_store
from tests.parts import NOBODY, configured, parts_over
from tests.torture.common import Promises, Record, Server, options, print_table, server
from tests.torture.stores import StorePlace

_ANSWER_AFTER = 10.0
_MOST_THREADS = 520

# Seconds of a healthy token's life, and how late its refresh may begin: those of a machine that is busy
# with a thousand failures, not of one that waits for a name server.
_LIFE = 30
_LATE = 2.0


@dataclass(frozen=True)
class Size:
    """How many, for how long."""

    mute: int
    healthy: int
    seconds: float


SHORT = Size(mute=300, healthy=10, seconds=75.0)
FULL = Size(mute=1000, healthy=20, seconds=150.0)


class MuteDns:
    """A resolver that knows `localhost` only; all others wait."""

    def __init__(self) -> None:
        self.most = 0
        self.asked: Counter[str] = Counter()
        self._waiting = 0
        self._guard = threading.Lock()
        self._end = threading.Event()

    def __call__(self, host: str) -> list[str]:
        if host == "localhost":
            return ["127.0.0.1"]
        with self._guard:
            self._waiting += 1
            self.most = max(self.most, self._waiting)
            self.asked[host] += 1
        self._end.wait(_ANSWER_AFTER)
        with self._guard:
            self._waiting -= 1
        raise socket.gaierror(socket.EAI_AGAIN, "no answer")

    def end(self) -> None:
        """Lets everybody go."""
        self._end.set()


@dataclass
class Watch:
    """What became of the healthy ones."""

    healthy: set[str]
    refreshed: Counter[str] = field(default_factory=Counter)
    lateness: list[float] = field(default_factory=list)
    began: float = field(default_factory=time.monotonic)
    caught_up: float = 0.0
    failed: set[str] = field(default_factory=set)

    def __call__(self, event: Event) -> None:
        did = getattr(event, "did", "")
        if isinstance(event, SessionRefreshed) and did in self.healthy:
            self.refreshed[did] += 1
            if self.refreshed[did] == 1:
                self.caught_up = time.monotonic() - self.began
            else:  # the first was overdue when we started
                self.lateness.append(event.lateness or 0.0)
        elif event.name == "session.retrying":
            self.failed.add(did)


async def live(place: StorePlace, dns: MuteDns, watch: Watch, seconds: float) -> None:
    """A daemon's work on a store, for some time."""
    clock, names = SystemClock(), NameLookups(dns)
    transport = OriginPools(NetworkPolicy(allow_loopback_http=True), names=names)
    async with (
        open_store(place.url) as store,
        parts_over(
            transport, configured(NOBODY), clock=clock, events=watch, store=store, luck=random.random
        ) as parts,
    ):
        scheduler = Scheduler(
            store,
            lambda: parts.engine,
            clock=clock,
            emit=watch,
            limits=IssuerLimits(),
            jitter=random.random,
        )
        with anyio.move_on_after(seconds):
            await scheduler.run()


def seed(place: StorePlace, simulator: Server, size: Size, mute: int) -> set[str]:
    """Sessions that are all overdue; returns the DIDs of the healthy ones."""
    healthy = set()
    records: list[Record] = []
    for _ in range(size.healthy):
        record = simulator.login("bearer")
        healthy.add(record["did"])
        records.append({**record, "pdsUrl": record["pdsUrl"].replace("127.0.0.1", "localhost")})
    for number in range(mute):
        name = {"did": f"did:plc:mute{number}", "pdsUrl": f"https://mute{number}.test"}
        records.append({**records[0], **name, "handle": f"mute{number}.test"})
    now = time.time()
    random.Random(1).shuffle(records)
    for record in records:
        place.seed({**record, "issuedAt": rfc3339(now - _LIFE), "expiresAt": rfc3339(now + _LIFE / 2)})
    return healthy


def run(size: Size, folder: Path, mute: int, promises: Promises | None) -> Sequence[object]:
    """One run; returns the row of the table."""
    place, dns = StorePlace("files", folder), MuteDns()
    with server("--legacy-access-life", str(_LIFE)) as simulator:
        watch = Watch(seed(place, simulator, size, mute))
        anyio.run(live, place, dns, watch, size.seconds, backend="trio")
        dns.end()
    fewest, latest = min(watch.refreshed[did] for did in watch.healthy), max(watch.lateness, default=0.0)
    if promises is not None:
        # The first at once, then one in 85 % of a life at the latest.
        promises.expect_at_least("refreshes of each healthy session", fewest, int(size.seconds / _LIFE))
        promises.expect(f"latest beginning of a refresh below {_LATE} s", latest < _LATE, True)
        # They had half a life left when we started.
        promises.expect("healthy ones refreshed before their tokens ended", watch.caught_up < _LIFE / 2, True)
        promises.expect("mute sessions that were not tried", mute - len(watch.failed - watch.healthy), 0)
        promises.expect(f"look-ups at a time, at most {_MOST_THREADS}", dns.most <= _MOST_THREADS, True)
    return [
        mute,
        size.healthy,
        f"{watch.caught_up:.1f} s",
        watch.refreshed.total(),
        fewest,
        f"{latest:.3f} s",
        dns.most,
        dns.asked.total(),
    ]


def main() -> int:
    """The command line; returns the exit code."""
    given = options(f"healthy sessions beside mute names: {SHORT}, with --full {FULL}").parse_args()
    size, promises = (FULL if given.full else SHORT), Promises()
    with tempfile.TemporaryDirectory(prefix="idiolectd-mute-") as folder:
        rows = [run(size, Path(folder) / str(mute), mute, promises) for mute in (0, size.mute)]
    head = ["mute", "healthy", "caught up in", "refreshed", "each, at least", "latest"]
    head += ["look-ups at a time", "look-ups"]
    print_table(head, rows)
    return promises.conclude()


if __name__ == "__main__":
    sys.exit(main())
