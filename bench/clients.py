"""What client programs pay: `SessionAuth` for a request, `load_session` for a record."""

import json
import sqlite3
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing
from pathlib import Path

import anyio
import httpx

from bench.endpoint import Endpoint
from bench.measuring import RATIO, Figure, Goal, Measure, Workshop
from bench.processes import own_cpus, pinned
from bench.seeding import Seeding, did, write_files, write_sqlite
from idiolectd import SessionAuth, load_session

CPU = "CPU per request"
LOAD = "time per record"

_SESSIONS = 1000

# Calls that nobody counts: by then modules are imported, connections and readers are open.
_WARM = 20


def _seeded(endpoint: Endpoint) -> Iterable[tuple[str, str]]:
    return Seeding(endpoint.issuers, _SESSIONS, due=time.time() + 1800).records()


# SessionAuth ---------------------------------------------------------------------------------


def _sync_requests(url: str, auth: httpx.Auth | None, count: int) -> float:
    """Seconds of CPU time of each request, one after the other on a connection that is kept."""
    with httpx.Client(auth=auth, trust_env=False, timeout=60) as http:

        def requests(how_many: int) -> None:
            for _ in range(how_many):
                http.get(url).raise_for_status()

        requests(_WARM)
        began = time.process_time()
        requests(count)
        return (time.process_time() - began) / count


def _async_requests(url: str, auth: httpx.Auth | None, count: int) -> float:
    """The same on asyncio."""

    async def measured() -> float:
        async with httpx.AsyncClient(auth=auth, trust_env=False, timeout=60) as http:

            async def requests(how_many: int) -> None:
                for _ in range(how_many):
                    (await http.get(url)).raise_for_status()

            await requests(_WARM)
            began = time.process_time()
            await requests(count)
            return (time.process_time() - began) / count

    return anyio.run(measured)


def session_auth(workshop: Workshop) -> Iterator[Figure]:
    """Requests with and without `SessionAuth`, in turns."""
    with workshop.scratch() as folder, Endpoint(1) as endpoint, pinned(own_cpus()):
        store = write_sqlite(folder / "sessions.sqlite", _seeded(endpoint))
        url = f"{endpoint.issuers[0]}/xrpc/com.atproto.server.getSession"
        for client, requests in (("httpx.Client", _sync_requests), ("httpx.AsyncClient", _async_requests)):
            plain = requests(url, None, workshop.size.requests)
            signed = requests(url, SessionAuth(store, did(0)), workshop.size.requests)
            yield Figure(client, CPU, 1e6 * plain, "µs")
            yield Figure(f"{client} with SessionAuth", CPU, 1e6 * signed, "µs")
            yield Figure(f"SessionAuth with {client}", "more CPU per request", 1e6 * (signed - plain), "µs")


# load_session --------------------------------------------------------------------------------


def _per_call(call: Callable[[str], object], count: int) -> float:
    """Seconds of each call, for one session after the other."""
    for number in range(_WARM):
        call(did(number))
    began = time.perf_counter()
    for number in range(count):
        call(did(number % _SESSIONS))
    return (time.perf_counter() - began) / count


def _sqlite_reader(database: sqlite3.Connection) -> Callable[[str], object]:
    def read(name: str) -> object:
        row = database.execute("SELECT body_json FROM sessions WHERE did = ?", (name,)).fetchone()
        return json.loads(row[0])

    return read


def _file_reader(folder: Path) -> Callable[[str], object]:
    return lambda name: json.loads((folder / f"{name.replace(':', '_')}.json").read_bytes())


def loads(workshop: Workshop) -> Iterator[Figure]:
    """`load_session` beside the same in a few lines."""
    with workshop.scratch() as folder, Endpoint(1) as endpoint, pinned(own_cpus()):
        path = folder / "sessions.sqlite"
        url = write_sqlite(path, _seeded(endpoint))
        with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True, isolation_level=None)) as database:
            yield from _beside(workshop, "SQLite", _sqlite_reader(database), url)
        path = folder / "sessions"
        url = write_files(path, _seeded(endpoint))
        yield from _beside(workshop, "files", _file_reader(path), url)


def _beside(workshop: Workshop, kind: str, read: Callable[[str], object], url: str) -> Iterator[Figure]:
    alone = _per_call(read, workshop.size.requests)
    ours = _per_call(lambda name: load_session(url, name), workshop.size.requests)
    yield Figure(f"read and decode, {kind}", LOAD, 1e6 * alone, "µs")
    yield Figure(f"load_session, {kind}", LOAD, 1e6 * ours, "µs")
    yield Figure(f"load_session / read and decode, {kind}", LOAD, ours / alone, RATIO)


MEASURES = (
    Measure(
        "auth",
        "A request with SessionAuth",
        "Calls of a PDS over a connection that is kept, with and without `SessionAuth` on an SQLite store: the"
        " record is read and a DPoP proof is signed for each.",
        session_auth,
        goals=(
            Goal("SessionAuth with httpx.Client", "more CPU per request", most=150),
            Goal("SessionAuth with httpx.AsyncClient", "more CPU per request", most=150),
        ),
        plot=CPU,
    ),
    Measure(
        "load",
        "A record with load_session",
        "One record after the other, beside plain `sqlite3` (one connection that stays open) or a plain file, and"
        " `json`.",
        loads,
        goals=(Goal("load_session / read and decode, SQLite", LOAD, most=3),),
        plot=LOAD,
    ),
)
