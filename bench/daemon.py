"""``idiolectd run`` as its own process, with a configuration of its own, told ready as a service manager is."""

import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from types import TracebackType
from typing import Self

from bench.endpoint import Endpoint
from bench.errors import BenchError
from bench.processes import own_cpus, pinned
from bench.seeding import WINDOW

# Above what anybody here can reach, so that it is not what is measured.
_RATE = 10_000


def write_config(folder: Path, store_url: str, endpoint: Endpoint, *, ca_file: Path | None = None) -> Path:
    """Writes a configuration for a store with sessions of an endpoint; returns its path."""
    path = folder / "config.toml"
    network = ["allow_loopback_http = true"]
    if ca_file is not None:
        network += ['allow_addresses = ["127.0.0.0/8"]', f'ca_file = "{ca_file}"']
    lines = [
        "[store]",
        f'url = "{store_url}"',
        f'spill_dir = "{folder / "spill"}"',
        "[refresh]",
        f"rate = {_RATE}",
        f"window = [{WINDOW[0]}, {WINDOW[1]}]",
        "[identity]",
        f'plc_directory_url = "{endpoint.directory}"',
        "[network]",
        *network,
        "[log]",
        'format = "json"',
    ]
    path.write_text("\n".join(lines) + "\n")
    return path


def environment(config: Path) -> dict[str, str]:
    """The environment of a command: nothing of the user's own but what Python needs."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("IDIOLECT", "ATPROTO"))}
    return kept | {"IDIOLECTD_CONFIG": str(config), "HOME": str(config.parent)}


def command(*arguments: str) -> list[str]:
    """The command line of idiolectd, in the same interpreter."""
    return [sys.executable, "-m", "idiolectd", *arguments]


class Daemon:
    """A daemon that has said it is ready. A context manager: leaving it ends the process in order.

    Args:
        config: its configuration; the log lies beside it.
        within: how many seconds it may take until it is ready.
        program: what runs ``idiolectd run``, if not idiolectd itself.

    Attributes:
        pid: its process.
        began: when it was started, in seconds, monotonic.
        ready_after: seconds until it said that it is ready.

    Raises:
        BenchError: it was not ready in time, or ended; the message shows the end of its log.
    """

    def __init__(self, config: Path, *, within: float = 600, program: list[str] | None = None) -> None:
        self.log = config.parent / "log"
        address = str(config.parent / "notify")
        Path(address).unlink(missing_ok=True)
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
            manager.bind(address)
            self.began = time.monotonic()
            with self.log.open("ab") as log, pinned(own_cpus()):
                self._process = subprocess.Popen(
                    program or command("run"),
                    env=environment(config) | {"NOTIFY_SOCKET": address},
                    stdin=subprocess.DEVNULL,
                    stderr=log,
                )
            self.pid = self._process.pid
            self.ready_after = self._wait_ready(manager, within)

    def _wait_ready(self, manager: socket.socket, within: float) -> float:
        manager.settimeout(1)
        while time.monotonic() - self.began < within and self._process.poll() is None:
            try:
                if b"READY=1" in manager.recv(4096):
                    return time.monotonic() - self.began
            except TimeoutError:
                continue
        self._process.kill()
        self._process.wait()
        raise BenchError(f"the daemon is not ready after {within:.0f} s; its log ends:\n{self._end_of_log()}")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._process.send_signal(signal.SIGTERM)
        try:
            code = self._process.wait(120)
        except subprocess.TimeoutExpired:
            self._process.kill()
            code = self._process.wait()
        if code != 0 and error is None:
            raise BenchError(f"the daemon ended with {code}; its log ends:\n{self._end_of_log()}")

    def require_running(self) -> None:
        """Raises `BenchError` if it has ended."""
        if self._process.poll() is not None:
            raise BenchError(
                f"the daemon ended with {self._process.returncode}; its log ends:\n{self._end_of_log()}"
            )

    def _end_of_log(self) -> str:
        return self.log.read_text(errors="replace")[-2000:]
