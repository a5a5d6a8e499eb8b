"""``idiolectd run`` as its own process, with a configuration of its own, told ready as a service manager is."""

import contextlib
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Literal, Self

from bench.endpoint import Endpoint
from bench.errors import BenchError
from bench.processes import own_cpus, pinned
from bench.seeding import WINDOW

# Above what anybody here can reach, so that it is not what is measured.
_RATE = 10_000


def write_config(
    folder: Path,
    store_url: str,
    endpoint: Endpoint,
    *,
    ca_file: Path | None = None,
    concurrency: int | None = None,
    refreshes: Literal["each", "auto"] = "auto",
) -> Path:
    """Writes a configuration for a store with sessions of an endpoint; returns its path.

    Args:
        folder: where it is written, and what else belongs to the daemon.
        store_url: the store.
        endpoint: the server.
        ca_file: the certificate of the server's authority; None: it speaks plain HTTP.
        concurrency: how many refreshes may be under way at one issuer; None: as many as by default.
        refreshes: whether each refresh has a line in the log; as by default: not with many sessions.
    """
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
        *([f"concurrency = {concurrency}"] if concurrency is not None else []),
        "[identity]",
        f'plc_directory_url = "{endpoint.directory}"',
        f'handle_resolver_url = "{endpoint.issuers[0]}"',
        "[network]",
        *network,
        "[log]",
        'format = "json"',
        f'refreshes = "{refreshes}"',
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
    """A running daemon. A context manager: leaving it ends the process in order.

    Args:
        config: its configuration; the log lies beside it.
        program: what runs ``idiolectd run``, if not idiolectd itself.

    Attributes:
        pid: its process.
        began: when it was started, in seconds, monotonic.
        ready_after: seconds until it said that it is ready; None: it has not been heard yet.
    """

    def __init__(self, config: Path, *, program: Sequence[str] = ()) -> None:
        self.ready_after: float | None = None
        self._log = config.parent / "log"
        address = config.parent / "notify"
        address.unlink(missing_ok=True)
        self._manager = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._manager.bind(str(address))
        self._manager.setblocking(False)
        self.began = time.monotonic()
        with self._log.open("ab") as log, pinned(own_cpus()):
            self._process = subprocess.Popen(
                program or command("run"),
                env=environment(config) | {"NOTIFY_SOCKET": str(address)},
                stdin=subprocess.DEVNULL,
                stderr=log,
            )
        self.pid = self._process.pid

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
        self._manager.close()
        if code != 0 and error is None:
            raise BenchError(f"the daemon ended with {code}; its log ends:\n{self._end_of_log()}")

    def glance(self) -> None:
        """Hears what it has told the service manager.

        Raises:
            BenchError: it has ended; the message shows the end of its log.
        """
        if self._process.poll() is not None:
            raise BenchError(
                f"the daemon ended with {self._process.returncode}; its log ends:\n{self._end_of_log()}"
            )
        with contextlib.suppress(BlockingIOError):
            while message := self._manager.recv(4096):
                if b"READY=1" in message and self.ready_after is None:
                    self.ready_after = time.monotonic() - self.began

    def signal(self, number: signal.Signals) -> None:
        """Sends it a signal."""
        self._process.send_signal(number)

    def _end_of_log(self) -> str:
        return self._log.read_text(errors="replace")[-2000:]
