"""A host with the service installed, and everybody who types a command on it: all reach the service's store."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cli.conftest import Pds
from tests.host import Host, own_host
from tests.jose import new_jwk
from tests.store.support import session

pytestmark = pytest.mark.slow  # some ten commands, each by another user

PACKAGED = Path(__file__).parents[2] / "idiolectd" / "units" / "config.toml"
STORE = "sqlite:///var/lib/idiolectd/sessions.sqlite"
CONFIG = "/etc/idiolectd/config.toml"

# As sysusers.d and tmpfiles.d of the package do it; `member` may read the store, `client` is a client program,
# `stranger` anybody.
_INSTALL = """
useradd --system --user-group --home-dir /var/lib/idiolectd idiolectd
groupadd backup-disk && usermod -aG backup-disk idiolectd
for user in member client stranger; do useradd --system --user-group --create-home --home-dir /var/lib/$user $user; done
groupadd --system idiolectd-clients
usermod -aG idiolectd member && usermod -aG idiolectd-clients client
mkdir -m 750 /etc/idiolectd && chgrp idiolectd /etc/idiolectd
install -d -m 711 -o idiolectd -g idiolectd /run/idiolectd
install -d -m 2750 -o idiolectd -g idiolectd-clients /run/idiolectd/clients
"""

# Writes the view as the service does: as its user, in a namespace that has no other group.
_PUBLISH = """
import json, sys
from idiolectd.session import OAuthSession
from idiolectd.store import Standing, encode_entry, make_view
session = OAuthSession.from_json(sys.stdin.read())
view = make_view("file:///run/idiolectd/clients", group="idiolectd-clients")
for _ in range(2):  # the second time all of it is there
    view.open()
    view.refusals.open()
    view.write({session.did: encode_entry(session, Standing("fresh", None))})
"""

# Reads what client programs read if they name no store, and says that a token is refused.
_READ = """
import sys
from idiolectd import load_session
from idiolectd.store import tell_refusal
from pathlib import Path
session = load_session(None, sys.argv[1])
tell_refusal(Path("/run/idiolectd/clients/refused"), session.did, "hash")
print(session.access_jwt, repr(session.refresh_jwt))
"""


@pytest.fixture
def host(pds: Pds) -> Iterator[Host]:
    """A host on which the package is installed and the daemon has not run yet; its PDS is the simulated one."""
    with own_host() as found:
        found.sh(_INSTALL)
        configure(found, pds)
        found.environ |= {"ATPROTO_APP_PASSWORD": "pass-word"}
        yield found


def configure(host: Host, pds: Pds, packaged: str = PACKAGED.read_text()) -> None:
    """Writes /etc/idiolectd/config.toml: the packaged one, and where the simulated directory is."""
    text = f"""{packaged}
[identity]
plc_directory_url = "{pds.url}"
handle_resolver_url = "{pds.url}"
[network]
allow_loopback_http = true
"""
    host.sh(f"cat > {CONFIG} <<'END'\n{text}\nEND\nchgrp idiolectd {CONFIG}\nchmod 640 {CONFIG}")


def test_the_first_login_by_root_is_the_services(host: Host, pds: Pds) -> None:
    """Before the daemon ever ran: folder, store and all that lies in it belong to the service, and root sees it."""
    pds.account("first.test")
    root = {
        "XDG_STATE_HOME": "/root/state",
        "XDG_CONFIG_HOME": "/root/config",
        "RUNTIME_DIRECTORY": "/run/root",
        "USER": "root",
    }
    done = host.idiolectd("login", "first.test", env=root)
    assert done.returncode == 0, done.stderr
    assert host.sh("stat -c '%U %a' /var/lib/idiolectd") == "idiolectd 750\n"
    assert host.sh("find /var/lib/idiolectd /run/idiolectd -printf '%u\n' | sort -u") == "idiolectd\n"
    assert host.sh("ls -d /root/state /root/config /root/.config/idiolect /run/root 2>&- || true") == ""
    assert host.idiolectd("refresh", "--force", "first.test", env=root).returncode == 0
    places = host.sh("cat /var/lib/idiolectd/sessions.sqlite.idiolectd/spill/places/*")
    folder = json.loads(places)["folder"]
    assert folder.startswith(("/run/idiolectd/spill/", "/var/lib/idiolectd/.local/"))
    for user in (None, "idiolectd"):
        status = host.idiolectd("status", user=user)
        assert STORE in status.stdout
        assert CONFIG in status.stdout
        assert "first.test" in status.stdout


def test_a_login_says_what_to_start(host: Host, pds: Pds) -> None:
    """The system's service where the store is its, the user's service for a user's own, else the program."""
    for name in ("unit", "mine", "alone"):
        pds.account(f"{name}.test")
    host.sh("mkdir -p /run/systemd/system /etc/systemd/system && touch /etc/systemd/system/idiolectd.service")
    assert "run: systemctl enable --now idiolectd\n" in host.idiolectd("login", "unit.test").stderr
    host.sh(f"""cd /var/lib/stranger && mkdir -p .config/idiolectd .config/systemd/user
        sed '/^url\\|^user\\|^group/d' {CONFIG} > .config/idiolectd/config.toml
        touch .config/systemd/user/idiolectd.service
        chown -R stranger: .""")
    mine = host.idiolectd("login", "mine.test", user="stranger")
    assert "run: systemctl --user enable --now idiolectd\n" in mine.stderr
    alone = host.idiolectd("login", "alone.test", "--store", "/var/lib/stranger/s/", user="stranger")
    assert "run: idiolectd run --store /var/lib/stranger/s/\n" in alone.stderr
    assert "service of your own" not in mine.stderr
    assert alone.stderr.endswith(": idiolectd unit --write --store /var/lib/stranger/s/\n")


def test_a_refused_login_makes_no_store(host: Host, pds: Pds) -> None:
    """Root's failed first login leaves nothing but the folder that the unit makes too."""
    pds.account("wrong.test")
    done = host.idiolectd("login", "wrong.test", env={"ATPROTO_APP_PASSWORD": "another"})
    assert done.returncode == 1
    assert host.sh("find /var/lib/idiolectd") == "/var/lib/idiolectd\n"


def test_root_becomes_the_whole_user(host: Host) -> None:
    """All groups, no way back, and that user's environment instead of root's."""
    python, more = host.python
    code = (
        "import os, grp; from idiolectd.cli.options import Options\n"
        "Options().load_as_owner(making=True)\n"
        "print(*os.getresuid(), *os.getresgid(), *sorted(grp.getgrgid(g).gr_name for g in os.getgroups()))\n"
        "print(*(os.environ.get(n) for n in ('HOME', 'USER', 'LOGNAME', 'XDG_RUNTIME_DIR', 'SSH_AUTH_SOCK')))\n"
    )
    variables = " ".join(f"{name}={value}" for name, value in more.items())
    found = host.sh(
        f'XDG_RUNTIME_DIR=/run/user/0 SSH_AUTH_SOCK=/tmp/agent USER=root {variables} {python} -c "{code}"'
    )
    ids = host.sh("id -u idiolectd; id -g idiolectd").split()
    assert found.splitlines() == [
        " ".join([*[ids[0]] * 3, *[ids[1]] * 3, "backup-disk", "idiolectd"]),
        "/var/lib/idiolectd idiolectd idiolectd None None",
    ]


def test_a_store_of_roots_where_the_service_has_its_own(host: Host) -> None:
    """A restored database that root owns is not used as root, which would close the service's files to it."""
    host.sh("mkdir /var/lib/idiolectd && touch /var/lib/idiolectd/sessions.sqlite")
    done = host.idiolectd("status")
    assert (done.returncode, "chown -R idiolectd: /var/lib/idiolectd/" in done.stderr) == (1, True), (
        done.stderr
    )


def test_a_service_user_who_does_not_exist(host: Host, pds: Pds) -> None:
    """The message names the key."""
    configure(host, pds, PACKAGED.read_text().replace('user = "idiolectd"', 'user = "nosuch"'))
    done = host.idiolectd("status")
    assert (done.returncode, "service.user" in done.stderr) == (2, True), done.stderr


def test_a_strangers_configuration_names_no_user(host: Host) -> None:
    """Where sudo keeps a stranger's home, root makes no folder for him out of his own configuration."""
    host.sh("""cd /var/lib/stranger && mkdir -p .config/idiolectd
        printf '[store]\\nurl = "file:///etc/deep/store"\\n[service]\\nuser = "stranger"\\n' > .config/idiolectd/config.toml
        chown -R stranger: .""")
    done = host.idiolectd("login", "x.test", env={"HOME": "/var/lib/stranger"})
    assert (done.returncode, "belongs to stranger, and root would use it" in done.stderr) == (2, True), (
        done.stderr
    )
    assert host.sh("ls -d /etc/deep 2>&- || true") == ""


def test_a_stranger_is_told_what_to_ask_for(host: Host) -> None:
    """Who may not read the configuration works on no other store in silence; a file of his own comes first."""
    for command in (["status"], ["login", "x.test"], ["check"]):
        done = host.idiolectd(*command, user="stranger")
        assert done.returncode == 2, done.stderr
        for told in (
            "sudo",
            "usermod -aG idiolectd stranger",
            "/var/lib/stranger/.config/idiolectd/config.toml",
        ):
            assert told in done.stderr
    host.sh("cd /var/lib/stranger && mkdir -p .config/idiolectd && touch .config/idiolectd/config.toml")
    done = host.idiolectd("status", user="stranger")
    assert done.returncode == 0, done.stderr
    assert "file:///var/lib/stranger/.config/idiolect/sessions" in done.stdout
    assert f"{CONFIG} is not used" in done.stderr


def test_a_client_reads_the_view_without_naming_it(host: Host, pds: Pds) -> None:
    """It may read neither store nor configuration; the view's files have its group without a right of the daemon's."""
    record = session().to_json()
    python, more = host.python
    variables = " ".join(f"{name}={value}" for name, value in more.items())
    as_service = "setpriv --reuid idiolectd --regid idiolectd --init-groups unshare --user --map-current-user"
    host.sh(f"{as_service} env {variables} {python} -c '{_PUBLISH}' <<'END'\n{record}\nEND")
    found = host.sh("cd /run/idiolectd && stat -c '%U:%G %a' clients clients/refused clients/did*")
    assert found.split("\n")[:-1] == [
        f"idiolectd:idiolectd-clients {mode}" for mode in ("2750", "1730", "640")
    ]
    as_client = "setpriv --reuid client --regid client --init-groups env HOME=/var/lib/client"
    reading = f"{variables} {python} -c '{_READ}' {session().did}"
    assert host.sh(f"{as_client} {reading}") == f"{session().access_jwt} ''\n"
    assert host.sh(f"{as_client} cat {CONFIG} 2>&1 || echo closed").endswith("closed\n")
    assert host.sh("ls /run/idiolectd/clients/refused") == f"{session().did}~hash\n"
    as_stranger = as_client.replace("client", "stranger")
    assert host.sh(f"{as_stranger} {reading} 2>&1 || true").endswith("which may be empty: it comes first\n")


def test_a_member_of_the_group_reads_what_it_may(host: Host, pds: Pds) -> None:
    """The group reads the configuration; the store too, if store.group says so; it logs nobody in."""
    pds.account("shared.test")
    configure(host, pds, PACKAGED.read_text().replace("group =", "#group ="))
    assert host.idiolectd("login", "shared.test").returncode == 0
    closed = host.idiolectd("status", user="member")
    assert (closed.returncode, closed.stdout) == (1, "")
    assert f"member may not read the store {STORE} ({CONFIG}): type sudo" in closed.stderr
    configure(host, pds)
    assert host.idiolectd("refresh", "--force", "shared.test").returncode == 0
    status = host.idiolectd("status", user="member")
    assert (status.returncode, status.stderr, "shared.test" in status.stdout) == (0, "", True), status.stderr
    check = host.idiolectd("check", user="member")
    assert (check.returncode, "not allowed to know which tokens" in check.stdout) == (0, True), check.stdout
    did = pds.account("another.test")["did"]
    before = pds.living(did)
    login = host.idiolectd("login", "another.test", user="member")
    assert (login.returncode, pds.living(did)) == (1, before), login.stderr
    assert "it belongs to idiolectd: type sudo before the command" in login.stderr


def test_both_stores_are_named(host: Host, pds: Pds) -> None:
    """Sessions that root stored at home before there was a configuration are not forgotten in silence."""
    pds.account("at-home.test")
    home = "/var/lib/root-home"
    host.sh(f"mkdir {home}")
    login = host.idiolectd("login", "at-home.test", "--store", f"{home}/.config/idiolect/sessions/")
    assert login.returncode == 0, login.stderr
    for command in ("status", "list", "check"):
        done = host.idiolectd(command, env={"HOME": home})
        assert f"--store file://{home}/.config/idiolect/sessions" in done.stdout + done.stderr


def test_the_services_link_is_not_followed(host: Host) -> None:
    """Where the service's user put a link in the place of its store, root opens it as that user only."""
    host.sh(
        "mkdir -m 700 /var/lib/roots && touch /var/lib/roots/sessions.sqlite\n"
        "mkdir /var/lib/idiolectd && ln -s /var/lib/roots/sessions.sqlite /var/lib/idiolectd/\n"
        "chown -hR idiolectd: /var/lib/idiolectd"
    )
    for command in (["status"], ["refresh", "--all"], ["login", "x.test"]):
        done = host.idiolectd(*command)
        assert done.returncode == 1, done.stderr
    assert host.sh("stat -c '%U %s' /var/lib/roots/*; ls /var/lib/roots") == "root 0\nsessions.sqlite\n"


def test_client_keys_are_the_running_services(host: Host, pds: Pds) -> None:
    """A key in a credential of the unit is found as long as the service runs; else the message says to start it."""
    clients = (
        '[oauth]\nclients = [{ client_id = "https://app.example/client.json",'
        ' keys = [{ kid = "2026", credential = "client-key" }] }]\n'
    )
    configure(host, pds, PACKAGED.read_text() + clients)
    stopped = host.idiolectd("check")
    assert "systemctl start idiolectd" in stopped.stdout
    host.sh(  # as systemd.exec(5) describes it
        f"cd /run && mkdir -p credentials/idiolectd.service && cd credentials/idiolectd.service\n"
        f"echo '{new_jwk()}' > client-key\n"
        f"chown -R idiolectd: . && chmod 400 client-key && chmod 500 ."
    )
    for command in (["check"], ["check", "--store", STORE]):
        running = host.idiolectd(*command)
        assert "client key 2026: readable" in running.stdout, running.stderr
