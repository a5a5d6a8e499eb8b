"""A simulated PDS on loopback in a process of its own, and the command line against it."""

import json
import os
import subprocess
import sys
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from idiolectd import cli
from idiolectd.did import upstream_file_name
from tests.users import shared_python

ROOT = Path(__file__).parents[2]


@dataclass(frozen=True)
class Pds:
    """The simulated PDS, authorization server and PLC directory."""

    url: str

    def call(self, name: str, body: Mapping[str, Any] | None = None, method: str = "POST") -> Any:
        """An administrator's call."""
        data = json.dumps(body or {}).encode() if method != "GET" else None
        request = urllib.request.Request(f"{self.url}/_sim/{name}", data=data, method=method)
        with urllib.request.urlopen(request, timeout=10) as answer:
            return json.load(answer)

    def account(self, handle: str, **sessions: int) -> dict[str, Any]:
        """A new account with so many `oauth` and `legacy` sessions."""
        found: dict[str, Any] = self.call("accounts", {"handle": handle, "password": "pass-word", **sessions})
        return found

    def living(self, did: str) -> int:
        """How many sessions of an account the server knows as alive."""
        with urllib.request.urlopen(f"{self.url}/_sim/sessions?did={did}", timeout=10) as answer:
            return sum(session["alive"] for session in json.load(answer))


@pytest.fixture(scope="session")
def pds_process() -> Iterator[str]:
    command = [sys.executable, "-m", "tests.simulator", "--accounts", "0"]
    with subprocess.Popen(
        command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        yield json.loads(process.stdout.readline())["url"]
        assert process.stdin is not None
        process.stdin.close()  # it ends with its standard input


@pytest.fixture
def pds(pds_process: str) -> Iterator[Pds]:
    found = Pds(pds_process)
    yield found
    found.call("faults", method="DELETE")


@pytest.fixture
def store(tmp_path: Path) -> Path:
    folder = tmp_path / "sessions"
    folder.mkdir(0o700)
    return folder


@pytest.fixture
def environ(tmp_path: Path, store: Path, pds_process: str, monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """The environment of every command: this PDS, this store, and nothing of the person's own."""
    for name in list(os.environ):
        if name.startswith(("IDIOLECT", "ATPROTO_", "XDG_CONFIG")):
            monkeypatch.delenv(name)
    ours = {
        "HOME": str(tmp_path),
        "IDIOLECTD_STORE__URL": f"file://{store}",
        "IDIOLECTD_IDENTITY__PLC_DIRECTORY_URL": pds_process,
        "IDIOLECTD_IDENTITY__HANDLE_RESOLVER_URL": pds_process,
        "IDIOLECTD_NETWORK__ALLOW_LOOPBACK_HTTP": "true",
        "IDIOLECTD_REFRESH__SETTLE": "0.1",
        "IDIOLECTD_REFRESH__CONFIRM": "0",
    }
    for name, value in ours.items():
        monkeypatch.setenv(name, value)
    return {**os.environ}


@dataclass(frozen=True)
class Result:
    """How a command ended, and what it wrote."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)


Run = Callable[..., Result]


@pytest.fixture
def run(environ: dict[str, str], capsys: pytest.CaptureFixture[str]) -> Run:
    """Runs a command in this process, as the entry point does."""

    def call(*arguments: str) -> Result:
        capsys.readouterr()
        code = cli.main(arguments)
        out, err = capsys.readouterr()
        return Result(code, out, err)

    return call


@pytest.fixture
def run_process(environ: dict[str, str]) -> Run:
    """Runs a command in a process of its own."""

    def call(*arguments: str, stdin: str = "", env: Mapping[str, str] | None = None) -> Result:
        done = subprocess.run(
            [sys.executable, "-m", "idiolectd", *arguments],
            input=stdin,
            capture_output=True,
            text=True,
            timeout=60,
            env=environ | dict(env or {}),
            check=False,
        )
        return Result(done.returncode, done.stdout, done.stderr)

    return call


@pytest.fixture
def run_shared(environ: dict[str, str]) -> Run:
    """Runs a command in a process that can become any user: see `tests.users`."""
    found = shared_python()
    if found is None:
        pytest.skip("another user can't read this checkout and its interpreter")
    python, more = found

    def call(*arguments: str, stdin: str = "", env: Mapping[str, str] | None = None) -> Result:
        done = subprocess.run(
            [python, "-m", "idiolectd", *arguments],
            input=stdin,
            capture_output=True,
            text=True,
            timeout=60,
            env=environ | dict(more) | dict(env or {}),
            check=False,
        )
        return Result(done.returncode, done.stdout, done.stderr)

    return call


def put_record(store: Path, record: Mapping[str, Any]) -> Path:
    """Stores a record as the upstream programs do."""
    path = store / upstream_file_name(record["did"])
    path.touch(0o600)
    path.write_text(json.dumps(record))
    return path
