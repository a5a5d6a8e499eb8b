"""A Debian machine that is really booted: `systemd-nspawn` on a file system that debootstrap has built.

The file system is built once, below ``build``, and stays as it is: what a booted machine writes goes to memory
and ends with it. The machine has a loopback of its own and no other network.
"""

import fcntl
import hashlib
import json
import os
import platform
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from tests.daemon_process import wait_until

ROOT = Path(__file__).parents[2]
BUILD = ROOT / "build"
PROGRAMS = ("systemd-nspawn", "debootstrap", "dpkg-deb", "nsenter", "unshare")
PACKAGES = (
    "systemd",
    "systemd-sysv",
    "dbus",
    "libpam-systemd",
    "python3",
    "ca-certificates",
    "init-system-helpers",
)


def why_not() -> str | None:
    """Says why no machine can be booted here."""
    if os.geteuid() != 0:
        return "needs root"
    if missing := [name for name in PROGRAMS if shutil.which(name) is None]:
        return f"not installed: {', '.join(missing)} (Debian: apt install systemd-container debootstrap)"
    if platform.freedesktop_os_release().get("ID") != "debian":
        return "the package is for the release of Debian that it is built on"
    return None if _cgroups() else "no cgroup2 is mounted"


@contextmanager
def alone(name: str) -> Iterator[None]:
    """Lets one process at a time build something below ``build``."""
    BUILD.mkdir(exist_ok=True)
    with (BUILD / f".{name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def file_system() -> Path:
    """Returns the root folder of a small Debian of this machine's release; debootstrap builds it once.

    Raises:
        subprocess.CalledProcessError: debootstrap failed, for want of a network for instance.
    """
    release = platform.freedesktop_os_release()["VERSION_CODENAME"]
    key = hashlib.sha256(" ".join((release, *PACKAGES)).encode()).hexdigest()[:12]
    root = BUILD / f"debian-{release}-{key}"
    with alone("debian"):
        if not root.exists():
            new = root.with_suffix(".new")
            shutil.rmtree(new, ignore_errors=True)
            _done(["debootstrap", "--variant=minbase", f"--include={','.join(PACKAGES)}", release, str(new)])
            _done(["chroot", str(new), "apt-get", "clean"])
            new.rename(root)
    return root


def _cgroups() -> Path | None:
    for line in Path("/proc/self/mounts").read_text().splitlines():
        _, folder, kind, *_ = line.split()
        if kind == "cgroup2":
            return Path(folder)
    return None


def _done(command: list[str], **how: Any) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(command, check=True, capture_output=True, text=True, **how)


class Machine:
    """A booted machine. A context manager: leaving it switches it off.

    Args:
        root: its file system; not changed.
        files: files of this host that it sees, by their paths there.
        journal: which lines of the journal are the daemon's.
    """

    def __init__(
        self, root: Path, files: dict[str, Path], journal: str = "_SYSTEMD_UNIT=idiolectd.service"
    ) -> None:
        self._journal = journal
        cgroups = _cgroups()
        assert cgroups is not None
        self._cgroup = cgroups / f"idiolectd-test-{os.getpid()}-{os.urandom(4).hex()}"
        self._cgroup.mkdir()
        # A cgroup of its own, in a view of nothing but cgroup2: so it is the same
        # on hosts with the old hierarchies, and without a systemd.
        script = f"""
            echo $$ > {self._cgroup}/cgroup.procs
            exec unshare --mount --propagation private sh -ec '
                umount -R /sys/fs/cgroup
                mount -t cgroup2 cgroup2 /sys/fs/cgroup
                exec "$@"' sh "$@"
        """
        nspawn = [
            *("systemd-nspawn", "--quiet", "--register=no", "--keep-unit", "--private-network"),
            *(
                "--volatile=overlay",
                "--console=pipe",
                f"--directory={root}",
                f"--machine={self._cgroup.name}",
            ),
            *(f"--bind-ro={file}:{path}" for path, file in files.items()),
            "--boot",
        ]
        self._nspawn = subprocess.Popen(
            ["sh", "-ec", script, "sh", *nspawn],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        self._pid_1: str | None = None
        self._servers: list[subprocess.Popen[str]] = []

    def __enter__(self) -> Self:
        try:
            wait_until(self._is_up, every=0.2)
        except BaseException:
            self._switch_off()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._switch_off()

    def run(
        self,
        *command: str,
        check: bool = True,
        user: str | None = None,
        stdin: str | None = None,
        **variables: str,
    ) -> "subprocess.CompletedProcess[str]":
        """Runs a command inside, as root or as another user, with a login's few variables and these."""
        home = f"/home/{user}" if user else "/root"
        as_user = ["runuser", "-u", user, "--"] if user else []
        given = [f"{name}={value}" for name, value in variables.items()]
        path = f"{home}/.local/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
        done = subprocess.run(
            [
                *("nsenter", "--target", str(self._pid_1), "--all", "--wdns=/", *as_user),
                *("env", "-i", f"PATH={path}", f"HOME={home}", "LANG=C.UTF-8", *given, *command),
            ],
            input=stdin or "",
            capture_output=True,
            text=True,
            timeout=180,
            check=False,
        )
        assert not check or done.returncode == 0, (
            f"{command}: {done.returncode}\n{done.stdout}\n{done.stderr}"
        )
        return done

    def write(self, path: str, text: str) -> None:
        """Writes a file inside, and the folders above it."""
        self.run("install", "-D", "-m", "0644", "/dev/stdin", path, stdin=text)

    def property(self, name: str, unit: str = "idiolectd") -> str:
        """A property of a unit, as `systemctl show` says it."""
        return self.run("systemctl", "show", "--value", "--property", name, unit).stdout.strip()

    def events(self, name: str, **fields: object) -> list[dict[str, Any]]:
        """The events of that name in the daemon's journal, with these fields."""
        lines = self.run("journalctl", self._journal, "--output=cat", "--no-pager").stdout.splitlines()
        events = [json.loads(line) for line in lines if line.startswith("{")]
        return [
            event
            for event in events
            if event["event"] == name and all(event.get(field) == value for field, value in fields.items())
        ]

    def wait(self, condition: Callable[[], bool]) -> None:
        """Waits for what happens inside; each look costs some processes, so they are few."""
        try:
            wait_until(condition, timeout=120, every=0.5)
        except TimeoutError:
            end = self.run("journalctl", "--no-pager", "--lines=40").stdout
            raise AssertionError(f"it did not come; the journal ends:\n{end}") from None

    def wait_event(self, name: str, more_than: int = 0, **fields: object) -> dict[str, Any]:
        """The newest such event; waits until there are more than so many."""
        self.wait(lambda: len(self.events(name, **fields)) > more_than)
        return self.events(name, **fields)[-1]

    def start_simulator(self, *arguments: str) -> dict[str, Any]:
        """Starts a simulator of this host on the machine's loopback; returns the line it writes."""
        command = [*self._in_network(), "-m", "tests.simulator", "--accounts=0", *arguments]
        server = subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self._servers.append(server)
        assert server.stdout is not None
        found: dict[str, Any] = json.loads(server.stdout.readline())
        return found

    def call(self, url: str, body: dict[str, Any] | None = None) -> Any:
        """Posts JSON to a server on the machine's loopback, or gets it."""
        program = (
            "import sys, urllib.request; _, url, *data = sys.argv;"
            "print(urllib.request.urlopen(url, *[d.encode() for d in data], timeout=30).read().decode())"
        )
        data = [] if body is None else [json.dumps(body)]
        return json.loads(_done([*self._in_network(), "-c", program, url, *data]).stdout)

    def _in_network(self) -> list[str]:
        return ["nsenter", "--target", str(self._pid_1), "--net", sys.executable]

    def _is_up(self) -> bool:
        if self._nspawn.poll() is not None:
            assert self._nspawn.stdout is not None
            raise AssertionError(f"systemd-nspawn has ended: {self._nspawn.stdout.read()}")
        pid = self._nspawn.pid
        self._pid_1 = Path(f"/proc/{pid}/task/{pid}/children").read_text().split(" ")[0]
        if not self._pid_1:
            return False
        return self.run("systemctl", "is-system-running", check=False).stdout.strip() in {
            "running",
            "degraded",
        }

    def _switch_off(self) -> None:
        for server in self._servers:
            with server:
                assert server.stdin is not None
                server.stdin.close()  # it ends with its standard input
        if self._nspawn.poll() is None:
            # The end of its first process is the end of all.
            subprocess.run(["kill", "-KILL", self._pid_1 or str(self._nspawn.pid)], check=False)
        with self._nspawn:
            self._nspawn.wait(60)
        for folder in (*(Path(top) for top, _, _ in os.walk(self._cgroup, topdown=False)),):
            folder.rmdir()
