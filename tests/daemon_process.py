"""`idiolectd run` as its own process, its log read as a monitoring system would read it."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self
from urllib.parse import urlsplit


def environment(store_url: str, **more: str) -> dict[str, str]:
    """What a command needs to work on a store with servers on loopback, and nothing of the user's own."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("IDIOLECT", "ATPROTO"))}
    return {
        **kept,
        "IDIOLECTD_CONFIG": os.devnull,
        "IDIOLECTD_STORE__URL": store_url,
        "IDIOLECTD_STORE__SPILL_DIR": f"{urlsplit(store_url).path.rstrip('/')}.spill",
        "IDIOLECTD_NETWORK__ALLOW_LOOPBACK_HTTP": "true",
        "IDIOLECTD_LOG__FORMAT": "json",
        **more,
    }


def idiolectd(
    *arguments: str, env: Mapping[str, str], timeout: float = 120, stdin: str | None = None
) -> subprocess.CompletedProcess[str]:
    """Runs one command to its end."""
    return subprocess.run(
        [sys.executable, "-m", "idiolectd", *arguments],
        env=env,
        timeout=timeout,
        input=stdin,
        capture_output=True,
        text=True,
        check=False,
    )


def wait_until(condition: Callable[[], bool], *, timeout: float = 60, every: float = 0.02) -> None:
    """Waits for what another process does; looks every so many seconds.

    Raises:
        TimeoutError: it does not come.
    """
    end = time.monotonic() + timeout
    while not condition():
        if time.monotonic() > end:
            raise TimeoutError
        time.sleep(every)


class DaemonProcess:
    """A running daemon. A context manager: leaving it stops the process.

    Args:
        env: its environment, from `environment`.
        log: the file that gets its standard error.
    """

    def __init__(self, env: Mapping[str, str], log: Path) -> None:
        self.log = log
        self._file = log.open("wb")
        self.process = subprocess.Popen(
            [sys.executable, "-m", "idiolectd", "run"], env=env, stdin=subprocess.DEVNULL, stderr=self._file
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait(10)
        self._file.close()

    def events(
        self, name: str | None = None, *, containing: str = "", **fields: object
    ) -> list[dict[str, Any]]:
        """The events that were logged so far; of one name, with this text and these fields, if given."""
        lines = [
            json.loads(line)
            for line in self.log.read_text().splitlines()
            if line.startswith("{") and containing in line
        ]
        return [
            line
            for line in lines
            if (name is None or line["event"] == name)
            and all(line.get(field) == value for field, value in fields.items())
        ]

    def wait_event(
        self, name: str, *, timeout: float = 60, containing: str = "", **fields: object
    ) -> dict[str, Any]:
        """The first event of that name; waits for it.

        Raises:
            TimeoutError: it did not come; shows the end of the log.
        """
        end = time.monotonic() + timeout
        while time.monotonic() < end:
            if found := self.events(name, containing=containing, **fields):
                return found[0]
            if self.process.poll() is not None:
                break
            time.sleep(0.05)
        raise TimeoutError(f"no {name} {fields}; the log ends:\n{self.log.read_text()[-3000:]}")

    def stop(self, how: signal.Signals = signal.SIGTERM) -> int:
        """Ends it in order; returns its exit code."""
        if self.process.poll() is None:
            self.process.send_signal(how)
        return self.process.wait(60)
