"""A file system that is really full, and one that becomes read-only, under the running daemon.

For both stores: a tmpfs of a few MiB in a mount namespace of its own, the daemon as a process, a simulator
with tokens of a few seconds. The spill folder lies on another file system.

* full, and nearly so: the disk is filled up. Nothing is sent without room, and the log says why.
* answers: it is filled up while requests are on their way. Their tokens are saved or spilled; the daemon is
  killed, and the next one goes on with them.
* read-only: the mount is. Again nothing is sent that could not be saved. (Files that SQLite has open stay
  writable on Linux: it goes on.)

Promised (promise 5): after each of it every session works, no used token was sent, none was revoked.

What it does not show: quotas, and a full spill folder.
"""

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from tests.daemon_process import DaemonProcess, environment
from tests.torture.common import (
    SESSION_KINDS,
    Promises,
    Record,
    Server,
    call_works,
    options,
    print_table,
    refresh_works,
    server,
)
from tests.torture.stores import STORE_KINDS, StoreKind, StorePlace

# Two thirds of it are below what the daemon wants to see free before it sends anything.
_SIZE = "3m"
_LIFE = 4.0
_SESSIONS = 4

# A note before the request fits into that, and not much more.
_NEARLY = 64 * 1024

# Longer than a token lives, so that every session comes due.
_LOOK = 5.0

# A daemon that could not work looks again after a while; this is the longest that it may take.
_PATIENCE = 60.0


@dataclass(frozen=True)
class Phase:
    """One row of the table.

    Attributes:
        name: what was done to the file system.
        sent: requests with a refresh token while it was so.
        said: what the log said.
        seconds: until every session worked again.
    """

    name: str
    sent: int
    said: str
    seconds: float


def main() -> int:
    """Returns the exit code: 0 if everything was as promised."""
    parser = options("a full disk and a read-only one")
    parser.add_argument("--inside", action="store_true", help="already in a mount namespace")
    arguments = parser.parse_args()
    unshare = ["unshare", "-m" if os.geteuid() == 0 else "-Urm", "--propagation", "private"]
    if arguments.inside:
        return _inside()
    try:
        mount = [*unshare, "mount", "-t", "tmpfs", "tmpfs", "/mnt"]
        tried = subprocess.run(mount, capture_output=True, text=True, timeout=20, check=False)
    except FileNotFoundError as error:
        tried = subprocess.CompletedProcess([], 1, "", str(error))
    if tried.returncode != 0:
        print(f"skipped: no file system of our own can be mounted here: {tried.stderr.strip()}")
        return 0
    command = [*unshare, sys.executable, "-m", "tests.torture.full_disk", "--inside", *sys.argv[1:]]
    return subprocess.run(command, timeout=600, check=False).returncode


def _inside() -> int:
    promises = Promises()
    with ThreadPoolExecutor(len(STORE_KINDS)) as pool:
        houses = list(pool.map(_live_through, STORE_KINDS))
    for house in houses:
        print(f"\n{house.place.kind}: {_SESSIONS} sessions, tokens of {_LIFE:.0f} s")
        print_table(
            ["the file system", "sent meanwhile", "until all work", "log"],
            [[one.name, one.sent, f"{one.seconds:.1f} s", one.said or "-"] for one in house.phases],
        )
    print()
    for house in houses:
        _judge(house, promises)
    return promises.conclude()


class House:
    """A store on a small file system, a simulator and a daemon.

    Attributes:
        place: the store.
        phases: what was lived through.
    """

    def __init__(self, kind: StoreKind, folder: Path, simulator: Server) -> None:
        self.disk = folder / "disk"
        self.place = StorePlace(kind, self.disk)
        self.simulator = simulator
        self.phases: list[Phase] = []
        self.working = 0
        self.stats: dict[str, int] = {}
        self.spilled = 0
        self.adopted = 0
        self._folder = folder
        self._daemons = 0
        records = [simulator.login(SESSION_KINDS[i % 2]) for i in range(_SESSIONS)]
        self.dids = [record["did"] for record in records]
        for record in records:
            self.place.seed(record)

    def daemon(self) -> DaemonProcess:
        """A daemon on the store, not started before."""
        self._daemons += 1
        env = environment(
            self.place.url,
            IDIOLECTD_STORE__SPILL_DIR=str(self._folder / "spill"),
            IDIOLECTD_REFRESH__SETTLE="0.5s",
        )
        return DaemonProcess(env, self._folder / f"daemon-{self._daemons}.log")

    def records(self) -> list[Record]:
        """What a foreign program reads."""
        return [self.place.upstream_record(did) for did in self.dids]

    def sent(self) -> int:
        """How many refresh tokens the server has been sent."""
        stats = self.simulator.stats()
        return int(stats["refresh_requests"] + stats["legacy_refresh_requests"])

    def in_spill(self) -> int:
        """How many sessions' tokens lie in the spill folder."""
        return len(list((self._folder / "spill").rglob("*.json")))

    def wait_working(self) -> float:
        """Waits until every session's stored access token works; returns how long that took."""
        return wait("every session works", lambda: all(call_works(one) for one in self.records()))

    @contextmanager
    def full(self, *, but: int = 0) -> Iterator[None]:
        """The disk is full inside the block, but for so many bytes."""
        filler = self.disk / "filler"
        try:
            with filler.open("wb", buffering=0) as file:
                for size in (65536, 4096, 1):
                    try:
                        while file.write(b"\0" * size):
                            pass
                    except OSError:
                        continue
                file.truncate(file.tell() - but)
            yield
        finally:
            filler.unlink()

    @contextmanager
    def read_only(self) -> Iterator[None]:
        """Whoever looks up a path inside the block finds a read-only mount.

        One laid over the first: the kernel refuses to make a mount read-only while a file is open there.
        """
        _mount("--bind", self.disk, self.disk)
        try:
            _mount("-o", "remount,bind,ro", self.disk)
            yield
        finally:
            subprocess.run(["umount", "-l", self.disk], check=True, timeout=20)


def _mount(*arguments: str | Path) -> None:
    subprocess.run(["mount", *arguments], check=True, timeout=20)


def _live_through(kind: StoreKind) -> House:
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="idiolectd-full-disk-")))
        (folder / "disk").mkdir()
        _mount("-t", "tmpfs", "-o", f"size={_SIZE},mode=0700", "tmpfs", folder / "disk")
        stack.callback(lambda: subprocess.run(["umount", "-l", folder / "disk"], check=True, timeout=20))
        life = str(_LIFE)
        simulator = stack.enter_context(server("--access-life", life, "--legacy-access-life", life))
        house = House(kind, folder, simulator)
        troubles: list[tuple[str, Callable[[], AbstractContextManager[None]]]] = [
            ("nearly full", partial(house.full, but=_NEARLY)),
            ("full", house.full),
            ("read-only", house.read_only),
        ]
        for name, trouble in troubles:  # a daemon each: one calls what follows soon the same outage
            with house.daemon() as daemon:
                daemon.wait_event("daemon.ready")
                _refuse(house, daemon, name, trouble)
                daemon.stop()
        with house.daemon() as daemon:
            daemon.wait_event("daemon.ready")
            _answers_meet_a_full_disk(house, daemon)
        with house.daemon() as daemon:
            seconds = house.wait_working()
            house.phases.append(Phase("full when answers came", 0, _said(daemon, 0), seconds))
            wait("nothing is left in the spill folder", lambda: house.in_spill() == 0)
            house.adopted = len(daemon.events("session.spill_adopted"))
            daemon.stop()
        house.stats = simulator.stats()
        house.working = sum(call_works(one) and refresh_works(one) for one in house.records())
        return house


def _refuse(
    house: House, daemon: DaemonProcess, name: str, trouble: Callable[[], AbstractContextManager[None]]
) -> None:
    house.wait_working()
    lines = len(daemon.events())
    with trouble():
        time.sleep(1.0)  # what was on its way when it began
        before = house.sent()
        time.sleep(_LOOK)
        sent = house.sent() - before
        house.records()
    seconds = house.wait_working()
    house.phases.append(Phase(name, sent, _said(daemon, lines), seconds))


def _answers_meet_a_full_disk(house: House, daemon: DaemonProcess) -> None:
    for path in ("/oauth/token", "refreshSession"):
        house.simulator.fault(kind="delay", match=path, times=None, delay_after=1.5)
    before = house.simulator.stats()["consumptions"]
    wait("answers on their way", lambda: house.simulator.stats()["consumptions"] > before)
    with house.full():
        time.sleep(4.0)
        daemon.process.kill()
        daemon.process.wait(10)
        house.spilled = house.in_spill()
        house.records()
    house.simulator.clear_faults()


def _said(daemon: DaemonProcess, lines: int) -> str:
    """The names of the errors that were logged since."""
    return ", ".join(sorted({line["event"] for line in daemon.events()[lines:] if line["level"] == "error"}))


def wait(what: str, is_so: Callable[[], bool]) -> float:
    """Waits until something is so; returns how long that took.

    Raises:
        TimeoutError: it never was.
    """
    began = time.monotonic()
    while time.monotonic() - began < _PATIENCE:
        if is_so():
            return time.monotonic() - began
        time.sleep(0.1)
    raise TimeoutError(f"not within {_PATIENCE} s: {what}")


def _judge(house: House, promises: Promises) -> None:
    kind, stats = house.place.kind, house.stats
    for phase in house.phases:
        if phase.name in ("full", "nearly full") or (phase.name, kind) == ("read-only", "files"):
            promises.expect(f"{kind}, {phase.name}: tokens sent without room", phase.sent, 0)
            promises.expect(f"{kind}, {phase.name}: the log says so", bool(phase.said), True)
    if kind == "files":  # SQLite may have had the room it needed in its log
        promises.expect_at_least(f"{kind}: answers spilled", house.spilled, 1)
    promises.expect(f"{kind}: spilled answers adopted by the next daemon", house.adopted, house.spilled)
    promises.expect(f"{kind}: sessions that work at the end", house.working, _SESSIONS)
    promises.expect(f"{kind}: used tokens sent", stats["replays_seen"], 0)
    promises.expect(f"{kind}: revocations", stats["revocation_requests"] + stats["legacy_deletes"], 0)


if __name__ == "__main__":
    sys.exit(main())
