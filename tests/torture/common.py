"""What the parts share: a simulator process, seeding, a client that judges, figures against promises.

Nothing here imports the package under test: whether a session works is asked of the server with code
of the simulator's own, and records are written and read as a foreign program would.
"""

import argparse
import http.client
import json
import secrets
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Literal
from urllib.parse import urlsplit

from tests.simulator import DpopClient, Request, Response

SessionKind = Literal["dpop", "bearer"]
SESSION_KINDS: tuple[SessionKind, ...] = ("dpop", "bearer")

Record = dict[str, Any]


def options(description: str, *, seed: int = 1) -> argparse.ArgumentParser:
    """The command line that every part understands."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--full", action="store_true", help="everything, not a sample")
    parser.add_argument("--seed", type=int, default=seed, help="what is drawn by lot is drawn from this")
    return parser


# Processes ---------------------------------------------------------------------------------------


@contextmanager
def child(*arguments: str, env: Mapping[str, str] | None = None) -> Iterator[subprocess.Popen[str]]:
    """A Python module as a process, killed if it does not end by itself when its input closes."""
    process = subprocess.Popen(
        [sys.executable, "-m", *arguments],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env=None if env is None else dict(env),
    )
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        yield process
    finally:
        process.stdin.close()
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait(10)
        process.stdout.close()


def line_of(process: subprocess.Popen[str]) -> str:
    """The next line that a process prints; empty: it has ended."""
    assert process.stdout is not None
    return process.stdout.readline().strip()


@dataclass(frozen=True)
class ServerSession:
    """What the server holds of a session; see `tests.simulator.SessionInfo`."""

    alive: bool
    generation: int
    refresh_hash: str


class Server:
    """A simulator in another process, by its URL."""

    def __init__(self, url: str) -> None:
        self.url = url

    def login(self, kind: SessionKind) -> Record:
        """A new account with one session; the record of it."""
        what = {"oauth": 1} if kind == "dpop" else {"legacy": 1}
        account = self._ask("POST", "accounts", {"handle": f"user-{secrets.token_hex(8)}.test", **what})
        record: Record = account["oauth" if kind == "dpop" else "legacy"][0]
        return record

    def session(self, did: str) -> ServerSession:
        """The one session of an account."""
        (found,) = self._ask("GET", f"sessions?did={did}")
        return ServerSession(found["alive"], found["generation"], found["refresh_hash"])

    def stats(self) -> dict[str, Any]:
        """The server's counters."""
        found: dict[str, Any] = self._ask("GET", "stats")
        return found

    def fault(self, **fault: Any) -> None:
        """Adds a `tests.simulator.Fault`."""
        self._ask("POST", "faults", fault)

    def clear_faults(self) -> None:
        """Forgets every fault."""
        self._ask("DELETE", "faults")

    def option(self, **values: Any) -> None:
        """Changes `tests.simulator.Options`."""
        self._ask("POST", "options", values)

    def _ask(self, method: str, call: str, body: Mapping[str, Any] | None = None) -> Any:
        text = b"" if body is None else json.dumps(body).encode()
        answer = send(Request(method, f"{self.url}/_sim/{call}", [], text))
        if answer.status != 200:
            raise RuntimeError(f"{method} {call}: {answer.status} {answer.body[:300]!r}")
        return answer.json()


@contextmanager
def server(*arguments: str) -> Iterator[Server]:
    """A simulator process without accounts; ends with the block."""
    with child("tests.simulator", "--accounts", "0", *arguments) as process:
        assert process.stdout is not None
        yield Server(json.loads(process.stdout.readline())["url"])


# A client -----------------------------------------------------------------------------------------


def send(request: Request, *, timeout: float = 10.0) -> Response:
    """Sends one request to a server on loopback, on a connection of its own."""
    parts = urlsplit(request.url)
    connection = http.client.HTTPConnection(parts.hostname or "", parts.port or 80, timeout=timeout)
    try:
        path = parts.path + (f"?{parts.query}" if parts.query else "")
        connection.request(request.method, path, body=request.body or None, headers=dict(request.headers))
        answer = connection.getresponse()
        return Response(answer.status, answer.getheaders(), answer.read())
    finally:
        connection.close()


def call_works(record: Record) -> bool:
    """Whether the PDS takes the record's access token."""
    client = DpopClient(record, time.time)
    for _ in range(2):  # the first may only learn the nonce
        request = client.api_request("com.atproto.server.getSession")
        answer = client.learn(request, send(request))
        if answer.status == 200:
            return bool(answer.json()["did"] == record["did"])
    return False


def refresh_works(record: Record) -> bool:
    """Whether the server takes the record's refresh token. That uses it up: a session's last test."""
    client = DpopClient(record, time.time)
    for _ in range(2):
        legacy = client.key is None
        request = client.legacy_request("refreshSession") if legacy else client.refresh_request()
        if client.learn(request, send(request)).status == 200:
            return True
    return False


# Figures ------------------------------------------------------------------------------------------


@dataclass
class Promises:
    """Figures beside what they were promised to be."""

    _lines: list[tuple[bool, str]] = field(default_factory=list)

    def expect(self, what: str, found: object, promised: object) -> None:
        """The figure is to be this very value."""
        self._add(found == promised, f"{what}: {found} (promised: {promised})")

    def expect_at_least(self, what: str, found: float, promised: float) -> None:
        """The figure is to be this, or more: without it the others prove little."""
        self._add(found >= promised, f"{what}: {found} (at least {promised})")

    def conclude(self) -> int:
        """Prints them; returns the exit code."""
        for kept, line in self._lines:
            print(f"{'  ok   ' if kept else '  BROKEN '}{line}")
        return 0 if all(kept for kept, _ in self._lines) else 1

    def _add(self, kept: bool, line: str) -> None:
        self._lines.append((kept, line))


def print_table(head: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
    """Prints columns: the first to the left, all others to the right."""
    lines = [[str(cell) for cell in row] for row in (head, *rows)]
    widths = [max(len(line[column]) for line in lines) for column in range(len(head))]
    for line in lines:
        cells = [line[0].ljust(widths[0])]
        cells += [cell.rjust(width) for cell, width in zip(line[1:], widths[1:], strict=True)]
        print("  " + "  ".join(cells).rstrip())
