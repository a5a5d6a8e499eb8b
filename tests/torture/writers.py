"""A crowd that only writes: who waits for how long for the write lock.

Many processes, half of them on trio and half on asyncio, save their own sessions in one store, one after
the other and as fast as they can, and each keeps count.

Shown, for either store: nobody is told that the lock is busy, each gets its share of it, and what each
saved last is stored. Not shown: how fast a store is; that is the disk's.
"""

import json
import os
import sys
import tempfile
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import anyio

from idiolectd.errors import LockBusy
from idiolectd.store import open_store
from tests.store.support import session
from tests.torture.common import Promises, options, print_table
from tests.torture.stores import STORE_KINDS, StoreKind, StorePlace

# Of the saves of the busiest: processes share two cores, and half of them run on the slower loop.
_SHARE = 0.25


@dataclass(frozen=True)
class Size:
    """How many, for how long."""

    processes: int
    seconds: float


SHORT = Size(processes=60, seconds=20.0)
FULL = Size(processes=200, seconds=60.0)


def did_of(number: int) -> str:
    """Whose session a process saves."""
    return f"did:plc:writer{number}"


async def write(url: str, number: int, ready: int, start: int, seconds: float) -> dict[str, float]:
    """Saves until the time is over."""
    saved, busy, longest = 0, 0, 0.0
    async with open_store(url) as store:
        await _save(url, number)
        os.write(ready, b".")
        await anyio.wait_readable(start)
        end = time.monotonic() + seconds
        while (began := time.monotonic()) < end:
            try:
                await store.save(session(did_of(number), saved + 2))
                saved += 1
            except LockBusy:
                busy += 1
            longest = max(longest, time.monotonic() - began)
    return {"saved": saved, "busy": busy, "longest": longest}


async def _save(url: str, number: int) -> None:
    """The first of all: while a crowd starts, nothing is counted."""
    while True:
        with suppress(LockBusy):
            async with open_store(url) as store:
                await store.save(session(did_of(number), 1))
            return


def _child(url: str, number: int, ready: int, start: int, report: int, seconds: float) -> None:
    """Never returns."""
    code = 1
    try:
        backend = ("trio", "asyncio")[number % 2]
        found = anyio.run(write, url, number, ready, start, seconds, backend=backend)
        os.write(report, json.dumps(found).encode() + b"\n")
        code = 0
    finally:
        os._exit(code)


def run(size: Size, kind: StoreKind, folder: Path, promises: Promises) -> list[object]:
    """Adds to the promises; returns the row of the table."""
    place = StorePlace(kind, folder)
    folder.mkdir()
    ready, start, report = os.pipe(), os.pipe(), os.pipe()
    children = []
    for number in range(size.processes):  # forked, so that they share the memory of what is imported
        child = os.fork()
        if child == 0:
            for end in (ready[0], start[1], report[0]):
                os.close(end)
            _child(place.url, number, ready[1], start[0], report[1], size.seconds)
        children.append(child)
    for end in (ready[1], start[0], report[1]):
        os.close(end)
    told = 0
    while told < size.processes:
        some = os.read(ready[0], size.processes)
        if not some:
            break
        told += len(some)
    os.close(start[1])  # for all at once
    with os.fdopen(report[0]) as lines:
        found = [json.loads(line) for line in lines]
    codes = [os.waitpid(child, 0)[1] for child in children]
    os.close(ready[0])
    saved = [int(one["saved"]) for one in found]
    promises.expect(f"{kind}: processes that ended well", codes.count(0), size.processes)
    promises.expect(f"{kind}: told that the lock is busy", sum(one["busy"] for one in found), 0)
    share = min(saved) / max(saved)
    promises.expect(f"{kind}: the least share above {_SHARE:.0%} of the largest", share > _SHARE, True)
    stored = {f"refresh-{count + 1}" for count in saved}
    kept = {place.upstream_record(did_of(number))["refreshJwt"] for number in range(size.processes)}
    promises.expect(f"{kind}: what was saved last is stored", kept, stored)
    longest = max(one["longest"] for one in found)
    return [kind, size.processes, sum(saved), min(saved), max(saved), f"{longest:.2f} s"]


def main() -> int:
    """The command line; returns the exit code."""
    given = options(f"a crowd of writers: {SHORT}, with --full {FULL}").parse_args()
    size, promises = (FULL if given.full else SHORT), Promises()
    with tempfile.TemporaryDirectory(prefix="idiolectd-writers-") as folder:
        rows = [run(size, kind, Path(folder) / kind, promises) for kind in STORE_KINDS]
    print_table(["store", "processes", "saves", "each at least", "at most", "longest wait"], rows)
    return promises.conclude()


if __name__ == "__main__":
    sys.exit(main())
