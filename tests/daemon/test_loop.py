"""Nothing of ours keeps the event loop from turning: what can block runs in other threads."""

import json
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.daemon.test_daemon import Host
from tests.daemon_process import DaemonProcess, environment
from tests.torture.common import child, line_of

pytestmark = [pytest.mark.timeout(300), pytest.mark.slow]


class Watched(DaemonProcess):
    """The daemon, with a watch on its event loop."""

    def __init__(self, env: dict[str, str], log: Path) -> None:
        self.log = log
        self._file = log.open("wb")
        self._report = log.with_name("report")
        self.process = subprocess.Popen(
            [sys.executable, "-m", "tests.daemon.watched", str(self._report)],
            env=env,
            stdin=subprocess.DEVNULL,
            stderr=self._file,
            cwd=Path(__file__).parents[2],
        )

    def found(self) -> dict[str, int]:
        """What would have kept the loop from turning, with the number of times."""
        found: dict[str, int] = json.loads(self._report.read_text())
        return found


@pytest.fixture(params=["files", "sqlite"])
def store_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """Which store."""
    (tmp_path / "store").mkdir(0o700)
    return f"file://{tmp_path}/store" if request.param == "files" else f"sqlite://{tmp_path}/store/s.sqlite"


@pytest.fixture
def host(tmp_path: Path, store_url: str) -> Iterator[Host]:
    """A simulator, and a daemon's environment with a configuration that can be read again."""
    (tmp_path / "config.toml").write_text("[refresh]\nconcurrency = 4\n")
    with child("tests.simulator", "--accounts", "0", "--access-life", "3600") as simulator:
        url = json.loads(line_of(simulator))["url"]
        env = environment(store_url, IDIOLECTD_CONFIG=str(tmp_path / "config.toml"))
        yield Host(url, tmp_path / "store", env, tmp_path / "daemon.log")


def test_nothing_blocks_the_loop(host: Host, store_url: str) -> None:
    """Found, refreshed, retried, read again, logged out, reported: no call that waits for a disk."""
    records = [host.account(f"o{number}.test", oauth=1)["oauth"][0] for number in range(3)]
    records += [host.account(f"l{number}.test", legacy=1)["legacy"][0] for number in range(2)]
    nowhere = {
        **records[0],
        "did": "did:plc:nowhere",
        "pdsUrl": "http://127.0.0.1:9",
        "issuer": "http://127.0.0.1:9",
    }
    with Watched(host.env, host.log) as daemon:
        daemon.wait_event("daemon.ready", timeout=60)
        for record in [*records, nowhere]:
            _put(host, store_url, record)
        for record in records:
            daemon.wait_event("session.refreshed", timeout=60, did=record["did"])
        daemon.wait_event("session.retrying", timeout=60, did=nowhere["did"])
        _remove(host, store_url, records[0]["did"])
        daemon.wait_event("session.removed", timeout=60, did=records[0]["did"])
        daemon.process.send_signal(signal.SIGHUP)
        daemon.wait_event("daemon.reloaded", timeout=60)
        note = next(host.folder.rglob("daemon.json"))
        written = note.stat().st_mtime_ns
        _until_newer(note, written)
        assert daemon.stop() == 0
    assert daemon.found() == {}


def _put(host: Host, store_url: str, record: dict[str, Any]) -> None:
    if store_url.startswith("file:"):
        host.put(record, age=3590)
        return
    issued = time.time() - 3590
    for name, at in (("issuedAt", issued), ("expiresAt", issued + 3600)):
        record = {**record, name: time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(at))}
    _execute(host, "INSERT INTO sessions VALUES (?, ?)", record["did"], json.dumps(record))


def _remove(host: Host, store_url: str, did: str) -> None:
    if store_url.startswith("file:"):
        (host.folder / (did.replace(":", "_") + ".json")).unlink()
    else:
        _execute(host, "DELETE FROM sessions WHERE did = ?", did)


def _execute(host: Host, sql: str, *values: str) -> None:
    database = sqlite3.connect(host.folder / "s.sqlite", timeout=30)
    with database:
        database.execute(sql, values)
    database.close()


def _until_newer(path: Path, than: int) -> None:
    end = time.monotonic() + 60
    while path.stat().st_mtime_ns == than:
        assert time.monotonic() < end
        time.sleep(0.05)
