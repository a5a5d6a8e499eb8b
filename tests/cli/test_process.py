"""The program as a process: signals, pipes, users."""

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cli.conftest import Pds, Run, put_record


def wait_running(run_process: Run, process: "subprocess.Popen[str]") -> str:
    """Waits until `status` sees the daemon; returns its line."""
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        assert process.poll() is None, process.stderr and process.stderr.read()
        lines = run_process("status").out.splitlines()
        if len(lines) > 2 and lines[2].startswith("daemon: running"):
            return lines[2]
        time.sleep(0.1)
    raise AssertionError("the daemon did not start")


@pytest.fixture
def daemon(environ: dict[str, str]) -> Iterator["subprocess.Popen[str]"]:
    command = [sys.executable, "-m", "idiolectd", "run"]
    with subprocess.Popen(
        command, env=environ, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        try:
            yield process
        finally:
            process.kill()


def test_run(daemon: "subprocess.Popen[str]", run_process: Run) -> None:
    """The daemon is seen by `status`, refuses a second one, ends at SIGTERM, and is gone from `status`."""
    assert f"pid {daemon.pid}," in wait_running(run_process, daemon)
    second = run_process("run")
    assert second.code == 1
    assert str(daemon.pid) in second.err.splitlines()[-1]
    daemon.send_signal(signal.SIGTERM)
    out, err = daemon.communicate(timeout=20)
    assert (daemon.returncode, out) == (0, "")
    assert [json.loads(line)["event"] for line in err.splitlines()][-1] == "daemon.stopped"
    assert "daemon: not running" in run_process("status").out


def test_killed_daemon_is_not_believed(daemon: "subprocess.Popen[str]", run_process: Run) -> None:
    """The note of a daemon that was killed is not taken for a running one."""
    wait_running(run_process, daemon)
    daemon.kill()
    daemon.wait(20)
    assert "daemon: not running" in run_process("status").out


def test_login_is_noticed(daemon: "subprocess.Popen[str]", run_process: Run, pds: Pds) -> None:
    """A login while the daemon runs is taken over within seconds."""
    wait_running(run_process, daemon)
    account = pds.account("noticed.test")
    assert run_process("login", "noticed.test", stdin="pass-word").code == 0
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline:
        (row,) = run_process("status", account["did"], "--json").json["sessions"]
        if row["next_attempt_at"] is not None:
            break
    daemon.send_signal(signal.SIGTERM)
    _, err = daemon.communicate(timeout=20)
    found = [json.loads(line) for line in err.splitlines()]
    assert [line["did"] for line in found if line["event"] == "session.found"] == [account["did"]]


def test_closed_pipe(environ: dict[str, str], pds: Pds, store: Path) -> None:
    """Whoever stops reading the output gets no traceback for it."""
    put_record(store, pds.account("pipe.test", oauth=1)["oauth"][0])
    command = f"{sys.executable} -m idiolectd list | true"
    done = subprocess.run(
        ["sh", "-c", command], env=environ, capture_output=True, text=True, timeout=30, check=False
    )
    assert done.stderr == ""


def test_nobody_looks_into_the_memory(environ: dict[str, str]) -> None:
    """A crash leaves no core file, and other programs of the same user can't attach: tokens are in there."""
    code = (
        "import ctypes, resource; from idiolectd import cli; cli.main(['--version']);"
        "print(resource.getrlimit(resource.RLIMIT_CORE)[0], ctypes.CDLL(None).prctl(3, 0, 0, 0, 0))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], env=environ, capture_output=True, text=True, timeout=30, check=True
    )
    assert done.stdout.splitlines()[-1] == "0 0"


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become somebody else")
def test_root_becomes_the_owner(run_shared: Run, pds: Pds) -> None:
    """Root on somebody else's store leaves only files of that somebody behind."""
    nobody = 65534
    folder = Path(tempfile.mkdtemp())
    try:
        folder.chmod(0o755)
        store = folder / "sessions"
        store.mkdir(0o700)
        os.chown(store, nobody, nobody)
        pds.account("owner.test")
        ours = {"IDIOLECTD_STORE__URL": f"file://{store}", "ATPROTO_APP_PASSWORD": "pass-word"}
        for command in (["login", "owner.test"], ["refresh", "--force", "owner.test"]):
            done = run_shared(*command, env=ours)
            assert done.code == 0, done.err
        owners = {path.stat().st_uid for path in [store, *store.rglob("*")]}
        assert owners == {nobody}
        assert len(list(store.glob("*.json"))) == 1
    finally:
        shutil.rmtree(folder)
