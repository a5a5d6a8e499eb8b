"""A host of its own for one test: root's mount namespace in which /etc and /var/lib can be written.

What is changed there, users among it, is gone afterwards, and nobody else on the machine sees it.
"""

import os
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

import pytest

from tests.users import shared_python

_LAYERS = """
mount -t tmpfs tmpfs /mnt
for folder in etc var/lib; do
    mkdir -p "/mnt/$folder/upper" "/mnt/$folder/work"
    mount -t overlay overlay -o "lowerdir=/$folder,upperdir=/mnt/$folder/upper,workdir=/mnt/$folder/work" "/$folder"
done
mount -t tmpfs -o mode=755 tmpfs /run
echo ready
exec cat
"""


@dataclass
class Host:
    """A host: commands are run in its mount namespace.

    Attributes:
        pid: the process that keeps the namespace.
        python: the interpreter, and the variables with which any user can run idiolectd in it.
        environ: the environment of every command.
    """

    pid: int
    python: tuple[str, Mapping[str, str]]
    environ: dict[str, str] = field(default_factory=dict)

    def sh(self, script: str) -> str:
        """Runs a shell script as root; returns its output."""
        done = self._run(["sh", "-euc", script], None, {}, "")
        assert done.returncode == 0, done.stderr
        return done.stdout

    def idiolectd(
        self,
        *arguments: str,
        user: str | None = None,
        env: Mapping[str, str] | None = None,
        stdin: str = "",
    ) -> "subprocess.CompletedProcess[str]":
        """Runs a command of idiolectd, as root or as a user with that user's home."""
        python, more = self.python
        command = [python, "-m", "idiolectd", *arguments]
        return self._run(command, user, {**more, **(env or {})}, stdin)

    def _run(
        self, command: Sequence[str], user: str | None, env: Mapping[str, str], stdin: str
    ) -> "subprocess.CompletedProcess[str]":
        home = "/root" if user is None else f"/var/lib/{user}"
        become = [] if user is None else ["setpriv", "--reuid", user, "--regid", user, "--init-groups"]
        return subprocess.run(
            ["nsenter", "--mount", "--target", str(self.pid), "--", *become, *command],
            env={"PATH": os.environ["PATH"], "HOME": home, **self.environ, **env},
            cwd="/",
            input=stdin,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )


@contextmanager
def own_host() -> Iterator[Host]:
    """A host as it is after the installation of the service's users and folders; skips where none can be made."""
    found = shared_python()
    if os.geteuid() != 0 or found is None:
        pytest.skip("needs root, and a checkout and an interpreter that every user can read")
    with subprocess.Popen(
        ["unshare", "--mount", "sh", "-euc", _LAYERS],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as keeper:
        assert keeper.stdin is not None
        assert keeper.stdout is not None
        assert keeper.stderr is not None
        if keeper.stdout.readline() != "ready\n":
            pytest.skip(f"no mount namespace can be made here: {keeper.stderr.read()}")
        try:
            yield Host(keeper.pid, found)
        finally:
            keeper.stdin.close()  # ends `cat`
