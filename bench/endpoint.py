"""The server that is measured against: `endpoint.c`, compiled when it is first needed."""

import http.client
import json
import subprocess
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

from bench.compiling import compiled
from bench.errors import BenchError
from bench.processes import other_cpus, pinned


def program() -> Path:
    """The compiled server.

    Raises:
        NotMeasured: it can't be compiled here.
    """
    return compiled("endpoint.c", "-lssl", "-lcrypto")


@dataclass(frozen=True)
class Statistics:
    """What the server has counted since its start.

    Attributes:
        requests: all of them, but those for these statistics.
        tokens: refresh tokens that were exchanged for new ones.
        replays: refresh tokens that came again, or after a newer one.
        connections: that were accepted.
        nonces_asked: proofs that held no nonce.
        discoveries: requests for metadata.
        documents: DIDs and handles that were resolved.
        calls: of the PDS.
        bad: requests that nobody should send.
        cpu: seconds of CPU time that the server used.
    """

    requests: int
    tokens: int
    replays: int
    connections: int
    nonces_asked: int
    discoveries: int
    documents: int
    calls: int
    bad: int
    cpu: float


class Endpoint:
    """A running server. A context manager: leaving it ends the process.

    Args:
        issuers: how many authorization servers it is.
        lifetime: seconds that an access token lives.
        sessions: the number of sessions that it may know.
        host: what its URLs call this host.
        certificate: PEM files of the certificate and of its key; None: plain HTTP.

    Attributes:
        issuers: the URLs of the issuers; session i belongs to number i modulo their number.
        directory: the URL of the PLC directory.
    """

    def __init__(
        self,
        issuers: int = 1,
        *,
        lifetime: int = 3600,
        sessions: int = 2_000_000,
        host: str = "127.0.0.1",
        certificate: tuple[Path, Path] | None = None,
    ) -> None:
        command = [str(program()), "-issuers", str(issuers), "-lifetime", str(lifetime), "-host", host]
        command += ["-sessions", str(sessions)]
        if certificate is not None:
            command += ["-tls", *map(str, certificate)]
        with pinned(other_cpus()):
            self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise BenchError(f"the benchmark's server ended with {self._process.wait()}")
        ports = json.loads(line)
        scheme = "http" if certificate is None else "https"
        self.issuers = [f"{scheme}://{host}:{port}" for port in ports["issuers"]]
        self.directory = f"http://{host}:{ports['admin']}"
        self._admin = http.client.HTTPConnection("127.0.0.1", ports["admin"], timeout=20)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._admin.close()
        self._process.kill()
        self._process.wait()
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe is not None:
                pipe.close()

    def statistics(self) -> Statistics:
        """What it has counted."""
        self._admin.request("GET", "/statistics")
        return Statistics(**json.loads(self._admin.getresponse().read()))
