"""What a process uses, as the kernel counts it, and on which processors it runs."""

import os
import time
from collections.abc import Iterator, Set
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

_TICK = os.sysconf("SC_CLK_TCK")

# CPU time of a process that only waits: its timers, its watchdog. Below it, it has nothing to do.
_QUIET = 0.05


@dataclass(frozen=True)
class Usage:
    """A process at one moment.

    Attributes:
        at: seconds, monotonic.
        cpu: seconds of CPU time, user and system, of all its threads.
        written: bytes that it made dirty or wrote to storage; the kernel counts whole pages.
        switches: how often its threads gave up or lost their processor.
    """

    at: float
    cpu: float
    written: int
    switches: int


def usage(pid: int) -> Usage:
    """What a process has used so far."""
    return Usage(time.monotonic(), cpu_time(pid), _written(pid), _switches(pid))


def cpu_time(pid: int) -> float:
    """Seconds of CPU time of a process, to 10 ms; see proc(5)."""
    after_name = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(after_name[11]) + int(after_name[12])) / _TICK


def _written(pid: int) -> int:
    for line in Path(f"/proc/{pid}/io").read_text().splitlines():
        if line.startswith("write_bytes: "):
            return int(line.split()[1])
    return 0


def _switches(pid: int) -> int:
    found = 0
    for task in Path(f"/proc/{pid}/task").iterdir():
        try:
            lines = (task / "status").read_text().splitlines()
        except OSError:  # the thread has ended
            continue
        found += sum(int(line.split()[1]) for line in lines if "ctxt_switches" in line)
    return found


def resident(pid: int, *, peak: bool = False) -> float:
    """MiB of memory that a process holds now, or held at most."""
    wanted = "VmHWM:" if peak else "VmRSS:"
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith(wanted):
            return int(line.split()[1]) / 1024
    return 0.0


class Quiet:
    """Notices when a process has nothing to do any more.

    Args:
        pid: the process.
        interval: for how many seconds it must do nothing.
    """

    def __init__(self, pid: int, interval: float = 0.5) -> None:
        self._pid = pid
        self._interval = interval
        self._since, self._cpu = time.monotonic(), cpu_time(pid)

    def glance(self) -> float | None:
        """Looks again; says since when it has done nothing (in seconds, monotonic), None while it works."""
        now, cpu = time.monotonic(), cpu_time(self._pid)
        if cpu - self._cpu > _QUIET * self._interval:
            self._since, self._cpu = now, cpu
        return self._since if now - self._since >= self._interval else None


def own_cpus() -> Set[int]:
    """Where what is measured runs: everywhere but on the server's processor."""
    cpus = os.sched_getaffinity(0)
    return frozenset(cpus - {max(cpus)}) if len(cpus) > 1 else cpus


def other_cpus() -> Set[int]:
    """Where the server runs: on a processor of its own, if there are two."""
    cpus = os.sched_getaffinity(0)
    return frozenset({max(cpus)})


@contextmanager
def pinned(cpus: Set[int]) -> Iterator[None]:
    """What is started meanwhile runs on these processors only."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, cpus)
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)
