"""The package on a booted Debian: installed, used, disturbed, upgraded and removed, under the whole unit."""

import json
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from tests.jose import new_key, private_jwk
from tests.systemd.machine import Machine
from tests.systemd.served import Served

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

STORE = "/var/lib/idiolectd/sessions.sqlite"
CONFIGURATION = "/etc/idiolectd/config.toml"
DROP_IN = "/etc/systemd/system/idiolectd.service.d/test.conf"
PYTHON = "/usr/lib/idiolectd/bin/python3"


class Host(Served):
    """A machine with the package installed."""

    def __init__(self, machine: Machine) -> None:
        super().__init__(machine)
        self.install(1)
        self.configuration = machine.run("cat", CONFIGURATION).stdout + self.places
        self.configure()

    def configure(self, more: str = "") -> None:
        """Writes the configuration, with more at its end, and starts the service with it."""
        self.machine.write(CONFIGURATION, self.configuration + more)
        self.machine.run("systemctl", "restart", "idiolectd")

    def install(self, revision: int) -> str:
        """Installs a revision of the package; returns what dpkg said."""
        return self.machine.run("dpkg", "--install", "--force-confold", f"/srv/{revision}.deb").stdout

    @property
    def pid(self) -> str:
        return self.machine.property("MainPID")

    def store_foreign(self, **client: str) -> str:
        """Stores a new session as another program does: a row in the table that both know."""
        (record,) = self.account(oauth=1, **client)["oauth"]
        program = (
            "import json, sqlite3, sys; record = json.load(sys.stdin); database = sqlite3.connect(sys.argv[1]);"
            "database.execute('INSERT INTO sessions VALUES (?, ?)', (record['did'], json.dumps(record)));"
            "database.commit()"
        )
        self.machine.run(PYTHON, "-c", program, STORE, user="idiolectd", stdin=json.dumps(record))
        return str(record["did"])

    @contextmanager
    def drop_in(self, text: str) -> Iterator[None]:
        """Changes the unit for a while, and starts the service again."""
        self.machine.write(DROP_IN, text)
        self.machine.run("systemctl", "daemon-reload")
        self.machine.run("systemctl", "restart", "idiolectd")
        try:
            yield
        finally:
            self.machine.run("rm", DROP_IN)
            self.machine.run("systemctl", "daemon-reload")
            self.machine.run("systemctl", "restart", "idiolectd")


@pytest.fixture(scope="module")
def host(machine: Machine) -> Host:
    return Host(machine)


def test_installed(host: Host) -> None:
    """It runs, enabled, as its own user, under the whole hardening."""
    assert host.machine.run("systemctl", "is-enabled", "idiolectd").stdout == "enabled\n"
    status = host.machine.run("cat", f"/proc/{host.pid}/status").stdout
    lines = dict(line.split(":\t", 1) for line in status.splitlines())
    assert (lines["NoNewPrivs"], lines["Seccomp"], lines["CapBnd"]) == ("1", "2", "0" * 16)
    assert host.machine.run("stat", "-c", "%U:%G %a", STORE).stdout == "idiolectd:idiolectd 640\n"
    rating = host.machine.run("systemd-analyze", "security", "idiolectd", check=False).stdout.splitlines()[-1]
    assert float(rating.split(": ")[1].split()[0]) <= 1.1


def test_login_by_root(host: Host) -> None:
    """A login that root types goes to the service's store, belongs to its user, and is kept alive."""
    did = host.login()
    host.wait_refreshed(did)
    status = host.machine.run("idiolectd", "status", did)
    assert "fresh" in status.stdout
    owners = host.machine.run(
        "find", "/var/lib/idiolectd", "/run/idiolectd", "!", "-user", "idiolectd"
    ).stdout
    assert owners == ""
    assert host.machine.run("find", "/root", "-name", "*idiolect*").stdout == ""


def test_foreign_row(host: Host) -> None:
    """A session that another program stored is noticed and kept alive."""
    host.wait_refreshed(host.store_foreign())


def test_group(host: Host) -> None:
    """Who is in the group reads sessions and writes none; who is not reads nothing."""
    host.machine.call(f"{host.pds}/_sim/options", {"legacy_access_life": 3600})
    did = host.login()
    host.machine.call(f"{host.pds}/_sim/options", {"legacy_access_life": 5})
    for user, groups in (("reader", ["--groups=idiolectd"]), ("stranger", [])):
        host.machine.run("useradd", "--create-home", *groups, user)
    request = ("idiolectd", "headers", did, "--url", f"{host.pds}/xrpc/com.atproto.server.getSession")
    assert "uthorization: " in host.machine.run(*request, user="reader").stdout
    assert host.machine.run(*request, user="stranger", check=False).returncode != 0
    assert host.machine.run("touch", STORE, user="reader", check=False).returncode != 0


def test_clients(host: Host) -> None:
    """Who is in the clients' group uses a session without naming a store, sees no refresh token, and reads no more."""
    did = host.login()
    host.wait_refreshed(did)
    host.machine.run("useradd", "--create-home", "--groups=idiolectd-clients", "client")
    program = (
        "import httpx, sys; from idiolectd import SessionAuth, load_session; session = load_session(None, sys.argv[1]);"
        "url = session.pds_url + '/xrpc/com.atproto.server.getSession'; auth = SessionAuth(None, session.did);"
        "print(httpx.get(url, auth=auth).json()['did'], repr(session.refresh_jwt))"
    )
    said = host.machine.run(PYTHON, "-c", program, did, user="client").stdout
    assert said == f"{did} ''\n"
    for closed in (CONFIGURATION, STORE, "/run/idiolectd/spill"):
        assert host.machine.run("ls", closed, user="client", check=False).returncode != 0
        assert host.machine.run("cat", closed, user="client", check=False).returncode != 0
    assert host.machine.run(PYTHON, "-c", program, did, user="stranger", check=False).returncode != 0


def test_reload(host: Host) -> None:
    """`systemctl reload` applies a change to the process that runs."""
    pid, reloads = host.pid, len(host.machine.events("daemon.reloaded"))
    host.machine.write(CONFIGURATION, host.configuration + '[refresh]\nsettle = "40s"\n')
    host.machine.run("systemctl", "reload", "idiolectd")
    event = host.machine.wait_event("daemon.reloaded", more_than=reloads)
    assert event["changed"] == ["refresh.settle"]
    assert host.pid == pid


def test_watchdog(host: Host) -> None:
    """A daemon that shows no sign of life is killed and started again, and goes on with its sessions."""
    did = host.login()
    with host.drop_in("[Service]\nWatchdogSec=10s\nRestartSec=100ms\n"):
        pid = host.pid
        host.machine.run("systemctl", "kill", "--kill-who=main", "--signal=STOP", "idiolectd")
        host.machine.wait(lambda: host.pid not in {pid, "0"})
        assert host.machine.property("NRestarts") == "1"
        host.wait_refreshed(did)
    assert host.alive(did)


def test_full_disk(host: Host) -> None:
    """While the disk is full nothing is lost, over a crash too; when it has room again, all goes on."""
    host.machine.run("systemctl", "stop", "idiolectd")
    host.machine.run(
        *("mount", "-t", "tmpfs", "-o", "size=4M,mode=0750,uid=idiolectd,gid=idiolectd"),
        *("tmpfs", "/var/lib/idiolectd"),
    )
    try:
        host.configure()
        did = host.login()
        host.wait_refreshed(did)
        host.machine.run("dd", "if=/dev/zero", "of=/var/lib/idiolectd/filler", "bs=4k", check=False)
        host.machine.wait_event("session.overdue", did=did)
        host.machine.run("systemctl", "kill", "--signal=KILL", "idiolectd")
        host.machine.run("rm", "/var/lib/idiolectd/filler")
        host.wait_refreshed(did)
    finally:
        host.machine.run("systemctl", "stop", "idiolectd")
        host.machine.run("umount", "/var/lib/idiolectd")
        host.machine.run("rm", "-rf", "/run/idiolectd")
        host.configure()


def test_wrong_configuration(host: Host) -> None:
    """With a wrong configuration it ends with 2 and is not started again."""
    host.machine.write(CONFIGURATION, host.configuration + "\n[refrehs]\n")
    try:
        assert host.machine.run("systemctl", "restart", "idiolectd", check=False).returncode != 0
        assert host.machine.property("ExecMainStatus") == "2"
        assert host.machine.property("ActiveState") == "failed"
        assert host.machine.property("NRestarts") == "0"
    finally:
        host.machine.run("systemctl", "reset-failed", "idiolectd")
        host.configure()


def test_client_key(host: Host) -> None:
    """A session of a confidential client is kept alive with a key that only systemd can read; `check` finds it."""
    client_id, kid = "https://app.example/client-metadata.json", "2026-01"
    jwk = private_jwk(new_key("ES256")) | {"kid": kid, "alg": "ES256"}
    host.machine.call(f"{host.pds}/_sim/clients", {"client_id": client_id, "jwks": [jwk]})
    path = f"/etc/idiolectd/client-key-{kid}.jwk"
    host.machine.write(path, json.dumps(jwk))
    host.machine.run("chmod", "600", path)
    client = f'{{ client_id = "{client_id}", keys = [{{ kid = "{kid}", credential = "client-key" }}] }}'
    with host.drop_in(f"[Service]\nLoadCredential=client-key:{path}\n"):
        host.configure(f"[oauth]\nclients = [{client}]\n")
        host.wait_refreshed(host.store_foreign(client_id=client_id))
        assert f"client key {kid}: readable" in host.machine.run("idiolectd", "check").stdout
        host.configure()


def test_upgrade(host: Host) -> None:
    """An upgrade stops the daemon that runs and starts the new version; one that was stopped stays stopped."""
    did, pid = host.login(), host.pid
    host.install(2)
    assert host.pid not in {pid, "0"}
    assert host.machine.run("cat", CONFIGURATION).stdout == host.configuration
    host.wait_refreshed(did)
    host.machine.run("systemctl", "stop", "idiolectd")
    host.install(1)
    assert host.pid == "0"
    host.machine.run("systemctl", "start", "idiolectd")
    host.wait_refreshed(did)


@pytest.mark.parametrize("how", ["--remove", "--purge"])
def test_removal(host: Host, how: str) -> None:
    """The store outlives the package, and a later installation goes on with it."""
    did = host.login()
    host.machine.run("dpkg", how, "idiolectd")
    assert host.machine.run("systemctl", "is-active", "idiolectd", check=False).stdout == "inactive\n"
    assert host.machine.run("test", "-e", "/usr/lib/idiolectd", check=False).returncode == 1
    # Before the service starts: it would find the sessions' server to be one that is not allowed.
    host.machine.write(CONFIGURATION, host.configuration)
    host.install(1)
    host.wait_refreshed(did)
