"""Daemons in a tenth of the time: one process imports everything, and forks each daemon from there.

``idiolectd run`` spends most of its start importing; who kills it thousands of times would mostly
kill imports. A fork runs the very same command in a process of its own, with its own environment,
log and signals. It is not reaped before it is asked for, so its pid is nobody else's until then.

As a program it reads orders as lines of JSON: ``{"env", "log"}`` is answered with a pid,
``{"wait"}`` with that process' exit code, negative for a signal.
"""

import contextlib
import json
import os
import signal
import sys
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from tests.torture.common import child

_START_LIMIT = 30.0
_STOP_LIMIT = 60.0


class Daemon:
    """A daemon from the nursery.

    Attributes:
        pid: its process, ours until `wait`.
        log: what gets its standard error.
    """

    def __init__(self, nursery: "Nursery", pid: int, log: Path) -> None:
        self.pid = pid
        self.log = log
        self._nursery = nursery

    def send_signal(self, number: signal.Signals) -> None:
        """Sends a signal; fine if it has ended."""
        os.kill(self.pid, number)

    def wait_ready(self) -> None:
        """Waits until it works.

        Raises:
            TimeoutError: it does not, or has ended; shows the end of its log.
        """
        end = time.monotonic() + _START_LIMIT
        while b'"daemon.ready"' not in self.log.read_bytes():
            if self.has_ended or time.monotonic() > end:
                raise TimeoutError(f"not ready: {self.log.read_text()[-2000:]}")
            time.sleep(0.01)

    @property
    def has_ended(self) -> bool:
        """Whether it only waits to be asked for its exit code."""
        status = Path(f"/proc/{self.pid}/stat").read_text()
        return status.rpartition(")")[2].split()[0] == "Z"

    def wait(self) -> int:
        """Waits for its end, and brings it about if it takes too long; its exit code, negative for a signal."""
        end = time.monotonic() + _STOP_LIMIT
        while not self.has_ended:
            if time.monotonic() > end:
                self.send_signal(signal.SIGKILL)
                break
            time.sleep(0.005)
        return self._nursery.reap(self)

    def events(self) -> list[dict[str, Any]]:
        """What it logged; a line that its death cut off is left out."""
        found = []
        for line in self.log.read_text().splitlines():
            with contextlib.suppress(ValueError):
                found.append(json.loads(line))
        return [event for event in found if isinstance(event, dict) and "event" in event]


class Nursery:
    """The process that forks daemons; a context manager by `open_nursery`."""

    def __init__(self, process: Any) -> None:
        self._process = process
        self._born: dict[int, Daemon] = {}

    def start(self, env: Mapping[str, str], log: Path) -> Daemon:
        """A new daemon."""
        log.write_bytes(b"")
        daemon = Daemon(self, int(self._order({"env": dict(env), "log": str(log)})), log)
        self._born[daemon.pid] = daemon
        return daemon

    def reap(self, daemon: Daemon) -> int:
        """Takes the exit code of one that has ended, or is just about to."""
        del self._born[daemon.pid]
        return int(self._order({"wait": daemon.pid}))

    def kill_all(self) -> None:
        """Nobody is left behind."""
        for daemon in list(self._born.values()):
            daemon.send_signal(signal.SIGKILL)
            self.reap(daemon)

    def _order(self, order: Mapping[str, Any]) -> str:
        self._process.stdin.write(json.dumps(order) + "\n")
        self._process.stdin.flush()
        return str(self._process.stdout.readline())


@contextlib.contextmanager
def open_nursery() -> Iterator[Nursery]:
    """A nursery; ends with the block, and so do its daemons."""
    with child("tests.torture.nursery") as process:
        nursery = Nursery(process)
        try:
            yield nursery
        finally:
            nursery.kill_all()


def main() -> None:
    """Works until standard input closes."""
    # What `run` imports when it is called, too.
    import idiolectd.cli
    import idiolectd.daemon  # noqa: F401

    # Not through a buffer: a fork would inherit what is left in it.
    while line := _read_line():
        order = json.loads(line)
        if "wait" in order:
            _, status = os.waitpid(order["wait"], 0)
            answer = os.waitstatus_to_exitcode(status)
        else:
            answer = os.fork()
            if answer == 0:
                _become_daemon(order["env"], order["log"])
        os.write(1, f"{answer}\n".encode())


def _become_daemon(env: Mapping[str, str], log: str) -> None:
    os.environ.clear()
    os.environ.update(env)
    null, file = os.open(os.devnull, os.O_RDWR), os.open(log, os.O_WRONLY | os.O_APPEND)
    for source, target in ((null, 0), (null, 1), (file, 2)):
        os.dup2(source, target)
    os.close(null)
    os.close(file)
    sys.argv = ["idiolectd", "run"]
    from idiolectd.__main__ import main as idiolectd

    idiolectd()


def _read_line() -> bytes:
    line = b""
    while not line.endswith(b"\n"):
        if not (byte := os.read(0, 1)):
            return b""
        line += byte
    return line


if __name__ == "__main__":
    main()
