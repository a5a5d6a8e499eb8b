"""What starting costs: a client program's imports, and the commands that people type most."""

import resource
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

from bench.endpoint import Endpoint
from bench.measuring import Figure, Goal, Measure, Workshop
from bench.processes import own_cpus, pinned
from bench.seeding import Seeding, did, write_sqlite

START = "CPU to start"


def _cpu(command: Sequence[str]) -> float:
    """Milliseconds of CPU time, user and system, of a process."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return 1e3 * (after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)


def imports(workshop: Workshop) -> Iterator[Figure]:
    """Processes that do nothing but start, beside one that imports httpx."""
    program = str(Path(sys.executable).with_name("idiolectd"))
    with workshop.scratch() as folder, Endpoint(1) as endpoint, pinned(own_cpus()):
        records = Seeding(endpoint.issuers, 1, due=time.time() + 1800).records()
        store = write_sqlite(folder / "sessions.sqlite", records)
        url = f"{endpoint.issuers[0]}/xrpc/com.atproto.server.getSession"
        signed = [program, "headers", did(0), "--store", store, "--url", url, "--nonce", "n"]
        alone = _cpu([sys.executable, "-c", "import httpx"])
        client = _cpu([sys.executable, "-c", "from idiolectd import SessionAuth"])
        yield Figure("import httpx", START, alone, "ms")
        yield Figure("from idiolectd import SessionAuth", START, client, "ms")
        yield Figure("SessionAuth beside httpx", "more CPU to start", client - alone, "ms")
        yield Figure("idiolectd --version", START, _cpu([program, "--version"]), "ms")
        yield Figure("idiolectd headers", START, _cpu(signed), "ms")


MEASURES = (
    Measure(
        "imports",
        "Starting",
        "CPU time of a process that imports what a client program needs, beside one that imports httpx, and of"
        " two commands from start to end (`headers` with a known nonce, on an SQLite store).",
        imports,
        goals=(
            Goal("SessionAuth beside httpx", "more CPU to start", most=60),
            Goal("idiolectd --version", START, most=150),
            Goal("idiolectd headers", START, most=200),
        ),
        plot=START,
    ),
)
