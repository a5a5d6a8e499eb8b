"""The daemon as a process: readiness, signals, reload, one a store, an orderly end."""

import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.daemon_process import DaemonProcess, environment, idiolectd, wait_until
from tests.simulator import new_client_key
from tests.simulator.state import token_hash
from tests.torture.common import child, line_of

pytestmark = pytest.mark.timeout(300)


@dataclass
class Host:
    """A simulator, a file store, and the environment of a daemon on it."""

    url: str
    folder: Path
    env: dict[str, str]
    log: Path

    def account(self, handle: str, **kinds: int) -> dict[str, Any]:
        return self.call("accounts", {"handle": handle, "password": "app-password", **kinds})

    def call(self, what: str, body: dict[str, Any]) -> dict[str, Any]:
        request = urllib.request.Request(
            f"{self.url}/_sim/{what}", json.dumps(body).encode(), {"content-type": "application/json"}
        )
        with urllib.request.urlopen(request, timeout=10) as answer:
            found: dict[str, Any] = json.load(answer)
            return found

    def put(self, record: dict[str, Any], *, age: float = 0.0) -> Path:
        """Stores a record as a foreign program does, as if it had been issued `age` seconds ago."""
        if age:
            issued = time.time() - age
            for name, at in (("issuedAt", issued), ("expiresAt", issued + 3600)):
                record = {**record, name: time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(at))}
        path: Path = self.folder / (record["did"].replace(":", "_") + ".json")
        path.with_suffix(".part").write_text(json.dumps(record))
        path.with_suffix(".part").rename(path)
        return path

    def wait_rotated(self, record: dict[str, Any]) -> None:
        """Waits until the server has taken the record's refresh token; its answer may still be on the way."""
        url, spent = f"{self.url}/_sim/sessions?did={record['did']}", token_hash(record["refreshJwt"])

        def is_rotated() -> bool:
            with urllib.request.urlopen(url, timeout=30) as answer:
                return bool(json.load(answer)[0]["refresh_hash"] != spent)

        wait_until(is_rotated)

    def daemon(self) -> DaemonProcess:
        return DaemonProcess(self.env, self.log)


@pytest.fixture
def host(tmp_path: Path) -> Iterator[Host]:
    folder = tmp_path / "store"
    folder.mkdir(0o700)
    with child("tests.simulator", "--accounts", "0", "--access-life", "3600") as simulator:
        url = json.loads(line_of(simulator))["url"]
        yield Host(url, folder, environment(f"file://{folder}"), tmp_path / "daemon.log")


def test_a_file_put_there_is_refreshed_and_written_back(host: Host) -> None:
    """A record that a foreign program writes is noticed, and its tokens renewed."""
    record = host.account("new.test", oauth=1)["oauth"][0]
    with host.daemon() as daemon:
        daemon.wait_event("daemon.ready")
        path = host.put(record, age=3590)
        daemon.wait_event("session.found", did=record["did"])
        daemon.wait_event("session.refreshed", did=record["did"])
        assert json.loads(path.read_text())["refreshJwt"] != record["refreshJwt"]
        path.unlink()
        daemon.wait_event("session.removed", did=record["did"])
        assert daemon.stop() == 0


@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGINT])
def test_a_stop_finishes_what_was_sent(host: Host, how: signal.Signals) -> None:
    """With an answer on its way the daemon stops after saving it, and exits 0."""
    record = host.account("slow.test", oauth=1)["oauth"][0]
    host.call("faults", {"kind": "delay", "match": "/oauth/token", "delay_after": 2.0, "times": None})
    path = host.put(record, age=3590)
    with host.daemon() as daemon:
        daemon.wait_event("daemon.ready")
        host.wait_rotated(record)
        assert json.loads(path.read_text())["refreshJwt"] == record["refreshJwt"]
        assert daemon.stop(how) == 0
        assert daemon.events("daemon.stopping")[0]["in_flight"] == 1
        assert daemon.events()[-1]["event"] == "daemon.stopped"
    assert json.loads(path.read_text())["refreshJwt"] != record["refreshJwt"]


def test_reload_says_what_it_took(host: Host, tmp_path: Path) -> None:
    """SIGHUP takes over what it can, names what waits for a restart, and survives a wrong file."""
    config = tmp_path / "config.toml"
    config.write_text("[refresh]\nconcurrency = 4\n")
    host.env |= {"IDIOLECTD_CONFIG": str(config), "NOTIFY_SOCKET": str(tmp_path / "notify")}
    with closing(Manager(tmp_path / "notify")) as manager, host.daemon() as daemon:
        daemon.wait_event("daemon.ready")
        config.write_text(
            '[refresh]\nconcurrency = 5\n[log]\nlevel = "warning"\n[network]\nproxy = "http://p.example:1"\n'
        )
        daemon.process.send_signal(signal.SIGHUP)
        manager.wait_heard("READY=1", times=2)  # once more after the reload, of which no event is told now
        config.write_text("[refresh]\nconcurrency = 0\n")
        daemon.process.send_signal(signal.SIGHUP)
        failed = daemon.wait_event("daemon.reload_failed")
        assert "refresh.concurrency" in failed["error"]
        config.write_text('[log]\nlevel = "info"\n')
        daemon.process.send_signal(signal.SIGHUP)
        reloaded = daemon.wait_event("daemon.reloaded")
        assert reloaded["changed"] == ["refresh.concurrency", "log.level"]
        assert daemon.stop() == 0


def test_client_keys_at_start_and_reload(host: Host, tmp_path: Path) -> None:
    """A key that can't be read at start is exit 2; at SIGHUP it is named, and the daemon runs on with the old."""
    config, key = tmp_path / "config.toml", tmp_path / "key.json"
    client = {"client_id": "https://app.example/c.json", "kid": "k1"}
    config.write_text(
        f'[[oauth.clients]]\nclient_id = "{client["client_id"]}"\n'
        f'keys = [{{ kid = "{client["kid"]}", file = "{key}" }}]\n'
    )
    host.env["IDIOLECTD_CONFIG"] = str(config)
    done = idiolectd("run", env=host.env)
    assert (done.returncode, "k1" in done.stderr, "bug" in done.stderr) == (2, True, False)
    key.touch(0o600)
    ours = json.dumps(new_client_key("k1"))
    key.write_text(ours)
    with host.daemon() as daemon:
        daemon.wait_event("daemon.ready")
        for word, text in (
            ("can't read", None),
            ("not JSON", "no key"),
            ("another key than before", json.dumps(new_client_key("k1"))),
        ):
            key.unlink() if text is None else key.write_text(text)
            daemon.process.send_signal(signal.SIGHUP)
            daemon.wait_event("daemon.reload_failed", containing=word)
            assert "key k1" in daemon.events("daemon.reload_failed")[-1]["error"]
            key.touch(0o600)
        key.write_text(ours)
        daemon.process.send_signal(signal.SIGHUP)
        daemon.wait_event("daemon.reloaded")
        assert daemon.stop() == 0


def test_one_daemon_a_store(host: Host, tmp_path: Path) -> None:
    """A second `run` on the same store, also through a link, exits 1 and names the first's pid."""
    link = tmp_path / "link"
    link.symlink_to(host.folder)
    with host.daemon() as daemon:
        daemon.wait_event("daemon.ready")
        for url in (f"file://{host.folder}", f"file://{link}"):
            second = idiolectd("run", env={**host.env, "IDIOLECTD_STORE__URL": url})
            assert second.returncode == 1
            assert f"pid {daemon.process.pid}" in second.stderr
        assert daemon.stop() == 0


def test_a_wrong_configuration_exits_2(host: Host) -> None:
    """systemd does not start a daemon again whose configuration is wrong."""
    done = idiolectd("run", env={**host.env, "IDIOLECTD_REFRESH__WINDOW": "[0.9, 0.1]"})
    assert done.returncode == 2
    assert "refresh.window" in done.stderr


class Manager:
    """A service manager's notification socket."""

    def __init__(self, path: Path) -> None:
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.socket.bind(str(path))
        self.socket.settimeout(0.2)
        self.heard: list[str] = []
        self._listening = True
        self._thread = threading.Thread(target=self._listen)
        self._thread.start()

    def _listen(self) -> None:
        while self._listening:
            try:
                self.heard.append(self.socket.recv(4096).decode())
            except TimeoutError:
                continue

    def wait_heard(self, word: str, *, times: int = 1) -> None:
        """Waits until it has been told something so many times."""
        wait_until(lambda: sum(word in told for told in self.heard) >= times)

    def close(self) -> None:
        self._listening = False
        self._thread.join()
        self.socket.close()


def test_the_service_manager_is_told(host: Host, tmp_path: Path) -> None:
    """Ready only after the first schedule, signs of life, reload, stop: in this order."""
    manager = Manager(tmp_path / "notify")
    host.env |= {"NOTIFY_SOCKET": str(tmp_path / "notify"), "WATCHDOG_USEC": "1000000"}
    host.put(host.account("told.test", oauth=1)["oauth"][0])
    try:
        with host.daemon() as daemon:
            manager.wait_heard("WATCHDOG=1")
            daemon.process.send_signal(signal.SIGHUP)
            manager.wait_heard("READY=1", times=2)
            assert daemon.stop() == 0
        manager.wait_heard("STOPPING=1")
    finally:
        manager.close()
    text = "\n---\n".join(manager.heard)
    order = [text.index(word) for word in ("READY=1", "WATCHDOG=1", "RELOADING=1", "STOPPING=1")]
    assert order == sorted(order)
    assert "STATUS=1 session," in text


def test_a_failing_part_ends_the_daemon_in_order(host: Host, tmp_path: Path) -> None:
    """An exception in the daemon's own part: what was sent is saved, the log says what, exit 1."""
    record = host.account("broken.test", oauth=1)["oauth"][0]
    host.call("faults", {"kind": "delay", "match": "/oauth/token", "delay_after": 2.0, "times": None})
    path = host.put(record, age=3590)
    program = (
        "import os, sys\n"
        "from idiolectd.config import load_config\n"
        "from idiolectd.daemon import run\n"
        "from idiolectd.log import log_sink\n"
        "from idiolectd.systemd import Notifier\n"
        "class Broken(Notifier):\n"
        "    signs = 0\n"
        "    def watchdog_interval(self):\n"
        "        return 1.0\n"
        "    def watchdog(self):\n"
        "        self.signs += 1\n"
        "        if self.signs == 2:\n"
        "            raise ZeroDivisionError\n"
        "config = load_config(None, os.environ)\n"
        "sys.exit(run(config, reload=lambda: config, log=log_sink('json', 'info', sys.stderr),"
        " notifier=Broken({})))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program],
        env={**os.environ, **host.env},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    events = [json.loads(line) for line in done.stderr.splitlines()]
    assert done.returncode == 1
    assert [event["error"] for event in events if event["event"] == "daemon.failed"]
    assert json.loads(path.read_text())["refreshJwt"] != record["refreshJwt"]
