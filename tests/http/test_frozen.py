"""A process that is stopped for longer than its deadline while its answers lie in its sockets."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from contextlib import ExitStack
from dataclasses import dataclass

import pytest

DEADLINE = 2.0
PADDING = b" " * 200_000  # more than one look brings, and perhaps more than the socket holds


@dataclass(frozen=True)
class Case:
    """What the server sends while the process stands still, and what the process has to make of it."""

    answer: bytes
    found: str
    scheme: str = "http"


CASES = {
    "a whole answer": Case(
        b'HTTP/1.1 200 OK\r\nContent-Length: 200026\r\n\r\n{"refresh_token": "NEW-r"}' + PADDING, "200 NEW-r"
    ),
    "a whole refusal": Case(
        b'HTTP/1.1 400 Bad\r\nTransfer-Encoding: chunked\r\n\r\n9\r\n{"a": "b"\r\n1\r\n}\r\n0\r\n\r\n',
        "400 None",
    ),
    "a part that holds the token": Case(
        b'HTTP/1.1 200 OK\r\nContent-Length: 99\r\n\r\n{"refresh_token": "NEW-r", "sc',
        "CutOff deadline NEW-r",
    ),
    "nothing": Case(b"", "Unclear deadline"),
    "nothing, and nothing was sent": Case(b"", "NotSent deadline", "https"),
}


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_an_answer_waits_for_a_frozen_process(backend: str) -> None:
    """What arrived meanwhile counts as if the process had been awake; what did not is still told apart."""
    with ExitStack() as opened:
        servers = [opened.enter_context(socket.create_server(("127.0.0.1", 0))) for _ in CASES]
        urls = [
            f"{case.scheme}://127.0.0.1:{server.getsockname()[1]}/"
            for case, server in zip(CASES.values(), servers, strict=True)
        ]
        command = [sys.executable, "-m", "tests.http.frozen", backend, str(DEADLINE), *urls]
        program = opened.enter_context(subprocess.Popen(command, stdout=subprocess.PIPE, text=True))
        opened.callback(program.kill)
        connections = []
        for server, case in zip(servers, CASES.values(), strict=True):
            server.settimeout(30)
            connection = opened.enter_context(server.accept()[0])
            connection.settimeout(30)
            came = b""
            while not came.endswith(b"a=b") and not (case.scheme == "https" and came):
                came += connection.recv(65536)
            connections.append(connection)
        os.kill(program.pid, signal.SIGSTOP)
        unsent = []
        for connection, case in zip(connections, CASES.values(), strict=True):
            connection.setblocking(False)
            unsent.append(case.answer[connection.send(case.answer) if case.answer else 0 :])
        time.sleep(DEADLINE)
        os.kill(program.pid, signal.SIGCONT)
        for connection, rest in zip(connections, unsent, strict=True):
            connection.settimeout(30)
            connection.sendall(rest)
        found = json.loads(program.communicate(timeout=60)[0])
    assert dict(zip(CASES, found, strict=True)) == {name: case.found for name, case in CASES.items()}
