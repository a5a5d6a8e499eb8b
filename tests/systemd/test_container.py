"""The container image, made of Debian's packages as the Containerfile says, and run without its engine.

Nothing is pulled: a debootstrap'ed Debian stands for the base. What the engine would do is done by `unshare`: a
file system that can only be read, one volume, no rights, the daemon as the first process.
"""

import json
import os
import re
import shlex
import signal
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from deploy.environment import build_environment
from tests.daemon_process import wait_until

ROOT = Path(__file__).parents[2]
VOLUME = "/var/lib/idiolectd"
CLIENTS = "/run/idiolectd/clients"

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]


def last_stage() -> list[tuple[str, str]]:
    """The instructions of the Containerfile's last stage."""
    text = (ROOT / "Containerfile").read_text().replace("\\\n", " ")
    lines = [line for line in text.splitlines() if line and not line.startswith("#")]
    instructions = [(line.split(None, 1)[0], line.split(None, 1)[1]) for line in lines]
    first = max(number for number, (name, _) in enumerate(instructions) if name == "FROM")
    return instructions[first + 1 :]


class Image:
    """The image: its file system, laid over a Debian, and what it says of running it."""

    def __init__(self, debian: Path, folder: Path) -> None:
        self.root, self.volume, self.clients = folder / "root", folder / "volume", folder / "clients"
        built = folder / "build"
        for each in (self.root, self.volume, self.clients, built / "work"):
            each.mkdir(parents=True)
        upper = built / "upper"
        upper.mkdir()
        layers = f"lowerdir={debian},upperdir={upper},workdir={built / 'work'}"
        subprocess.run(["mount", "-t", "overlay", "overlay", "-o", layers, self.root], check=True)
        self.said: dict[str, str] = {}
        for name, value in last_stage():
            match name, value.split():
                case "RUN", ["apt-get", *_]:
                    (packages,) = re.findall(r"--no-install-recommends ([^&]*)", value)
                    self.chroot("dpkg", "--status", *packages.split())
                case "RUN", _:
                    self.chroot("sh", "-ec", value)
                case "COPY", ["--from=build", _, prefix]:
                    build_environment(self.root, Path(prefix))
                case "COPY", [source, target]:
                    (self.root / target[1:]).parent.mkdir(parents=True, exist_ok=True)
                    (self.root / target[1:]).write_bytes((ROOT / source).read_bytes())
                case _:
                    self.said[name] = value
        # A new volume begins as what the image has there.
        for inside, volume in ((VOLUME, self.volume), (CLIENTS, self.clients)):
            subprocess.run(["cp", "-a", f"{self.root}{inside}/.", volume], check=True)

    def chroot(self, *command: str) -> None:
        subprocess.run(["chroot", self.root, *command], check=True, stdout=subprocess.DEVNULL)

    def running(self, *command: str, client: str = "") -> list[str]:
        """A command line that runs a command in a new container; of a client, it has the volume of the view only."""
        uid, gid = (client or self.said["USER"]).split(":")
        volumes = {CLIENTS: self.clients} if client else {VOLUME: self.volume, CLIENTS: self.clients}
        mounts = "\n".join(f"mount --bind {volume} {self.root}{inside}" for inside, volume in volumes.items())
        script = f"""
            {mounts}
            mount -t proc proc {self.root}/proc
            mount -o remount,bind,ro {self.root}
            exec chroot {self.root} setpriv --reuid={uid} --regid={gid} --clear-groups --no-new-privs \\
                --bounding-set=-all --inh-caps=-all \\
                env -i HOME={VOLUME} {self.said["ENV"]} "$@"
        """
        unshared = ("unshare", "--mount", "--pid", "--ipc", "--fork", "--kill-child", "--propagation=private")
        return [*unshared, "sh", "-ec", script, "sh", *command]

    @property
    def health(self) -> list[str]:
        """The command of the health check."""
        command: list[str] = json.loads(self.said["HEALTHCHECK"].partition(" CMD ")[2])
        return command

    def entry(self, *arguments: str) -> list[str]:
        """The command that the image starts, with these arguments instead of its own."""
        return [*json.loads(self.said["ENTRYPOINT"]), *(arguments or json.loads(self.said["CMD"]))]


class Container:
    """A running container."""

    def __init__(self, image: Image, process: "subprocess.Popen[bytes]", log: Path) -> None:
        self.image, self.process, self.log = image, process, log

    @property
    def first(self) -> str:
        """The number that this host gives the container's first process."""
        pid = self.process.pid
        return Path(f"/proc/{pid}/task/{pid}/children").read_text().split()[0]

    def run(self, *command: str, **variables: str) -> "subprocess.CompletedProcess[str]":
        """Runs a command beside the daemon, as ``podman exec`` does."""
        uid, gid = self.image.said["USER"].split(":")
        given = [f"{name}={value}" for name, value in variables.items()]
        return subprocess.run(
            [
                *("nsenter", "--target", self.first, "--mount", "--pid", "--ipc", "--root", "--wdns=/"),
                *("setpriv", f"--reuid={uid}", f"--regid={gid}", "--clear-groups", "--no-new-privs"),
                *("env", "-i", f"HOME={VOLUME}", *shlex.split(self.image.said["ENV"]), *given, *command),
            ],
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )

    def healthy(self) -> bool:
        """What the image's health check says."""
        return self.run(*self.image.health).returncode == 0

    def events(self, name: str, **fields: object) -> list[dict[str, Any]]:
        """The events of that name that were logged, with these fields."""
        lines = [json.loads(line) for line in self.log.read_text().splitlines() if line.startswith("{")]
        return [
            line
            for line in lines
            if line["event"] == name and all(line.get(field) == value for field, value in fields.items())
        ]


@pytest.fixture(scope="module")
def pds() -> Iterator[str]:
    """The URL of a simulated PDS, whose tokens are due soon."""
    lives = ("--access-life=10", "--legacy-access-life=10")
    command = [sys.executable, "-m", "tests.simulator", "--accounts=0", *lives]
    with subprocess.Popen(
        command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        yield json.loads(process.stdout.readline())["url"]
        assert process.stdin is not None
        process.stdin.close()  # it ends with its standard input


@pytest.fixture
def did(pds: str) -> str:
    """The DID of a new account, with the handle ``container.test``."""
    body = json.dumps({"handle": "container.test", "password": "pass-word"}).encode()
    with urllib.request.urlopen(f"{pds}/_sim/accounts", body, timeout=30) as answer:
        return str(json.load(answer)["did"])


@pytest.fixture
def image(debian: Path, tmp_path: Path, pds: str) -> Iterator[Image]:
    """The image; its configuration knows the simulated PDS."""
    subprocess.run(["mount", "-t", "tmpfs", "tmpfs", tmp_path], check=True)
    try:
        made = Image(debian, tmp_path)
        with (made.root / "etc/idiolectd/config.toml").open("a") as file:
            file.write(
                f'[identity]\nplc_directory_url = "{pds}"\nhandle_resolver_url = "{pds}"\n'
                "[network]\nallow_loopback_http = true\n"
            )
        yield made
    finally:
        subprocess.run(["umount", "--recursive", "--lazy", tmp_path], check=True)


@contextmanager
def started(image: Image, log: Path) -> Iterator[Container]:
    """Runs the image's own command."""
    with log.open("wb") as stderr:
        process = subprocess.Popen(image.running(*image.entry()), stdin=subprocess.DEVNULL, stderr=stderr)
    container = Container(image, process, log)
    try:
        wait_until(lambda: container.events("daemon.ready") != [] or process.poll() is not None)
        assert process.poll() is None, log.read_text()
        yield container
    finally:
        process.kill()
        process.wait(60)


def test_container(image: Image, did: str, pds: str, tmp_path_factory: pytest.TempPathFactory) -> None:
    """The daemon lives as the first process, with two volumes to write to; a client uses the session with one."""
    with started(image, tmp_path_factory.mktemp("log") / "log") as container:
        login = container.run("idiolectd", "login", "container.test", ATPROTO_APP_PASSWORD="pass-word")
        assert login.returncode == 0, login.stderr
        wait_until(lambda: container.events("session.refreshed", did=did) != [])
        assert container.healthy()
        assert container.run("touch", "/etc/new").stderr.endswith("Read-only file system\n")
        ours = [path for path in image.volume.rglob("*") if path.lstat().st_uid != 65532]
        assert ours == []

        # An orphan becomes a child of the first process, and does not stay after its end.
        container.run("sh", "-c", "sleep 0.1 &")
        children = Path(f"/proc/{container.first}/task/{container.first}/children")
        wait_until(lambda: children.read_text() == "")

        program = (
            "import httpx, sys; from idiolectd import SessionAuth, load_session; view, did, url = sys.argv[1:];"
            "print(httpx.get(url, auth=SessionAuth(view, did)).json()['did'], repr(load_session(view, did).refresh_jwt))"
        )
        arguments = (f"file://{CLIENTS}", did, f"{pds}/xrpc/com.atproto.server.getSession")
        client = subprocess.run(
            image.running("/opt/idiolectd/bin/python3", "-c", program, *arguments, client="1234:65532"),
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        assert client.stdout == f"{did} ''\n", client.stderr

        os.kill(int(container.first), signal.SIGTERM)
        assert container.process.wait(120) == 0
        assert container.events("daemon.stopped", exit_code=0)


def test_no_daemon_is_not_healthy(image: Image) -> None:
    """The health check finds out that nobody refreshes."""
    assert subprocess.run(image.running(*image.health), capture_output=True, check=False).returncode != 0
