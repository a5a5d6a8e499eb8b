"""A user's own service on a booted Debian: the program without package or root, as pipx installs it."""

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from idiolectd.cli.unit import _quoted
from tests.systemd.machine import Machine
from tests.systemd.served import Served

USER = "bot"
HOME = f"/home/{USER}"


class Host(Served):
    """A machine on which one user has the program."""

    def __init__(self, machine: Machine) -> None:
        super().__init__(machine)
        # The package's files, which are no package here: no service, no configuration, no user.
        machine.run("sh", "-ec", "dpkg-deb --extract /srv/1.deb / && rm -r /etc/idiolectd /usr/bin/idiolectd")
        machine.run("useradd", "--create-home", "--uid=1000", USER)
        machine.run("loginctl", "enable-linger", USER)
        machine.wait(lambda: machine.property("ActiveState", "user@1000.service") == "active")
        self.run("mkdir", "-p", f"{HOME}/.local/bin", f"{HOME}/.config/idiolectd", f"{HOME}/.ssh")
        self.run("ln", "-s", "/usr/lib/idiolectd/bin/idiolectd", f"{HOME}/.local/bin/idiolectd")
        self.run("tee", f"{HOME}/.config/idiolectd/config.toml", stdin=self.places)

    def run(self, *command: str, stdin: str | None = None) -> str:
        """Runs a command as the user; returns what it writes."""
        return self.machine.run(*command, user=USER, stdin=stdin, XDG_RUNTIME_DIR="/run/user/1000").stdout

    @property
    def pid(self) -> str:
        return self.run("systemctl", "--user", "show", "--value", "--property=MainPID", "idiolectd").strip()


@pytest.fixture(scope="module")
def host(debian: Path, packages: dict[str, Path]) -> Iterator[Host]:
    with Machine(debian, packages, "_SYSTEMD_USER_UNIT=idiolectd.service") as machine:
        yield Host(machine)


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_user_unit(host: Host) -> None:
    """What `idiolectd unit` says is enough: the user's sessions are kept alive, in the store of the commands."""
    told = host.run("idiolectd", "unit", "--write")
    commands = re.findall(r"^  (\S.*?) +#", told, re.MULTILINE)
    assert commands == ["systemctl --user enable --now idiolectd", "loginctl enable-linger"]
    host.run("sh", "-ec", commands[0])
    did = host.login(USER)
    host.wait_refreshed(did)
    assert host.machine.run("find", f"{HOME}/.config/idiolect/sessions", "-name", "*.json").stdout

    pid = host.pid
    host.run("systemctl", "--user", "reload", "idiolectd")
    host.machine.wait_event("daemon.reloaded")
    assert host.pid == pid

    # Of the file system it can write the home only, and it can't read the user's keys.
    mounts = host.machine.run("cat", f"/proc/{pid}/mountinfo").stdout
    assert re.search(r" / / ro,", mounts)
    assert re.search(rf" {HOME} rw,", mounts)
    assert re.search(rf"/inaccessible/dir {HOME}/\.ssh ro,", mounts)
    status = host.machine.run("cat", f"/proc/{pid}/status").stdout
    assert "NoNewPrivs:\t1\n" in status
    assert "Seccomp:\t2\n" in status


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_without_namespaces(host: Host) -> None:
    """Where a user has no namespaces of its own, the unit does without, and the service runs."""
    host.machine.write("/etc/systemd/system/user@.service.d/test.conf", "[Service]\nRestrictNamespaces=yes\n")
    host.machine.run("systemctl", "daemon-reload")
    host.machine.run("systemctl", "restart", "user@1000")
    host.run("idiolectd", "unit", "--write")
    assert "\n#PrivateUsers=yes\n" in host.run("cat", f"{HOME}/.config/systemd/user/idiolectd.service")
    host.run("systemctl", "--user", "daemon-reload")
    host.run("systemctl", "--user", "restart", "idiolectd")
    host.wait_refreshed(host.login(USER))


def test_quoted() -> None:
    """What systemd would take for its own is escaped."""
    assert _quoted("/a/b") == "/a/b"
    assert _quoted('/100%/a b$"\\') == '"/100%%/a b$$\\"\\\\"'
