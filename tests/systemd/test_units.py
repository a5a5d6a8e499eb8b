"""The units are valid, hardened, and fit the program."""

import configparser
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from idiolectd.daemon.daemon import STOP_PATIENCE

UNITS = Path(__file__).parents[2] / "idiolectd" / "units"
SERVICE = UNITS / "idiolectd.service"

analyze = pytest.mark.skipif(
    shutil.which("systemd-analyze") is None, reason="systemd-analyze is not installed"
)


def directives(path: Path) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for line in path.read_text().splitlines():
        name, separator, value = line.partition("=")
        if separator and not line.startswith("#"):
            found.setdefault(name, []).append(value)
    return found


@pytest.fixture
def unit(tmp_path: Path) -> Path:
    """The unit with a program that exists on this machine."""
    path = tmp_path / "idiolectd.service"
    program = directives(SERVICE)["ExecStart"][0].split()[0]
    path.write_text(SERVICE.read_text().replace(program, sys.executable))
    return path


@analyze
def test_verify(unit: Path) -> None:
    """systemd accepts every line of the unit."""
    done = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", str(unit)],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "idiolectd.service" not in done.stderr


@analyze
def test_exposure(unit: Path) -> None:
    """The unit's exposure is rated 1.1 or better, of 10."""
    done = subprocess.run(
        ["systemd-analyze", "security", "--offline=true", "--no-pager", str(unit)],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    if "--offline" in done.stderr:
        pytest.skip("this systemd-analyze can't rate a unit that is not loaded")
    rating = re.search(r"Overall exposure level for \S+: ([\d.]+)", done.stdout)
    assert rating is not None, done.stderr
    assert float(rating[1]) <= 1.1


def test_stop_timeout() -> None:
    """systemd waits longer than the daemon may take to save what was sent."""
    (timeout,) = directives(SERVICE)["TimeoutStopSec"]
    assert int(timeout.removesuffix("s")) > 30 + STOP_PATIENCE


def test_no_variables() -> None:
    """The unit sets nothing that would beat the configuration, which the commands read too."""
    assert not {"Environment", "EnvironmentFile", "PassEnvironment"} & directives(SERVICE).keys()
    assert directives(SERVICE)["ExecStart"] == ["/usr/bin/idiolectd run"]


def test_wrong_configuration_is_not_restarted() -> None:
    """The exit code of a wrong configuration ends the restarts."""
    assert directives(SERVICE)["RestartPreventExitStatus"] == ["2"]


def test_one_user() -> None:
    """Unit, configuration, sysusers and tmpfiles agree on user and folder."""
    service = directives(SERVICE)
    (user,) = service["User"]
    assert service["Group"] == [user]
    sysusers = (UNITS / "idiolectd.sysusers.conf").read_text().splitlines()
    assert sysusers[-1].startswith(f"u {user} ")
    tmpfiles = (UNITS / "idiolectd.tmpfiles.conf").read_text().splitlines()
    assert f"d /etc/idiolectd 0750 root {user} -" in tmpfiles
    config = tomllib.loads((UNITS / "config.toml").read_text())
    url = f"sqlite:///var/lib/{service['StateDirectory'][0]}/sessions.sqlite"
    clients = config.pop("clients")
    assert config == {"store": {"url": url, "group": user}, "service": {"user": user}}
    folder = clients["url"].removeprefix("file://")
    assert f"d {folder} 2750 {user} {clients['group']} -" in tmpfiles
    assert folder.startswith(f"/run/{service['RuntimeDirectory'][0]}/")
    (mode,) = service["RuntimeDirectoryMode"]
    assert f"d /run/{service['RuntimeDirectory'][0]} {mode} {user} {user} -" in tmpfiles
    assert f"g {clients['group']} -" in sysusers


def test_reload_drop_in() -> None:
    """The drop-in replaces the type and takes the signal command away."""
    parser = configparser.ConfigParser()
    parser.read(UNITS / "notify-reload.conf")
    assert dict(parser["Service"]) == {"type": "notify-reload", "execreload": ""}
