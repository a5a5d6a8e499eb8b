"""Durable commits a second, side by side with what the disk can do.

    python -m bench.store [--rounds 5] [--sessions 256] [--at-once 64]

Each round measures, in turn: the disk alone (one file, write and fdatasync of a record's size), the
upstream way (SQLite, WAL, synchronous=NORMAL: not durable at a power cut), and both stores of ours
(record and state, fsynced). Machines are noisy: read the ratios and medians.
"""

import argparse
import os
import sqlite3
import statistics
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import anyio

from idiolectd import OAuthSession, open_store
from idiolectd.clock import rfc3339
from idiolectd.ports import SharedStore
from idiolectd.state import RefreshState, reconcile, tokens_of


def a_session(number: int) -> OAuthSession:
    """A record of the usual size."""
    now = time.time()
    return OAuthSession(
        did=f"did:plc:{number:024d}",
        pds_url="https://pds.example",
        access_jwt="a" * 700,
        refresh_jwt=f"{number:068d}",
        dpop_private_key_jwk='{"kty":"EC","crv":"P-256","x":"%s","y":"%s","d":"%s"}' % (("x" * 43,) * 3),
        token_type="DPoP",
        issued_at=rfc3339(now),
        expires_at=rfc3339(now + 3600),
        issuer="https://issuer.example",
        client_id="https://client.example/client.json",
    )


def disk_alone(folder: Path, sessions: list[OAuthSession]) -> None:
    """The physical limit of one record after the other."""
    fd = os.open(folder / "plain", os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    for session in sessions:
        os.write(fd, session.to_json().encode())
        os.fdatasync(fd)
    os.close(fd)


def upstream_way(folder: Path, sessions: list[OAuthSession]) -> None:
    """What the Rust store does: an upsert, NORMAL, nothing else."""
    with sqlite3.connect(folder / "upstream.sqlite", isolation_level=None) as database:
        database.execute("PRAGMA journal_mode=WAL")
        database.execute("PRAGMA synchronous=NORMAL")
        database.execute(
            "CREATE TABLE IF NOT EXISTS sessions (did TEXT PRIMARY KEY NOT NULL, body_json TEXT NOT NULL)"
        )
        for session in sessions:
            database.execute(
                "INSERT INTO sessions (did, body_json) VALUES (?, ?)"
                " ON CONFLICT(did) DO UPDATE SET body_json = excluded.body_json",
                (session.did, session.to_json()),
            )
    database.close()


async def ours(url: str, sessions: list[OAuthSession], at_once: int) -> float:
    """Seconds for one rotation of each session, written as the daemon writes it."""
    async with open_store(url) as store:
        for session in sessions:
            await store.save(session)
        waiting = iter(sessions)

        async def work() -> None:
            for session in waiting:
                await rotate(store, session)

        began = time.perf_counter()
        async with anyio.create_task_group() as tg:
            for _ in range(at_once):
                tg.start_soon(work)
        return time.perf_counter() - began


async def rotate(store: SharedStore, session: OAuthSession) -> None:
    """The commit after a refresh."""
    after = replace(session, refresh_jwt=session.refresh_jwt[::-1] + "x")
    state = reconcile(session, RefreshState(), 0.0).state.rotated(session, after, time.time())
    await store.commit(session, state, tokens=tokens_of(after))


def timed(work: Callable[[Path, list[OAuthSession]], None], sessions: list[OAuthSession]) -> float:
    """Seconds of a piece of work in a folder of its own."""
    with tempfile.TemporaryDirectory() as folder:
        began = time.perf_counter()
        work(Path(folder), sessions)
        return time.perf_counter() - began


def timed_store(kind: str, sessions: list[OAuthSession], at_once: int) -> float:
    """Seconds of the same in a store of ours, on trio as the daemon runs."""
    with tempfile.TemporaryDirectory() as folder:
        url = f"sqlite://{folder}/sessions.sqlite" if kind == "sqlite" else f"file://{folder}"
        return anyio.run(ours, url, sessions, at_once, backend="trio")


def main() -> None:
    """Prints a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--sessions", type=int, default=256)
    parser.add_argument("--at-once", type=int, default=64)
    arguments = parser.parse_args()
    sessions = [a_session(number) for number in range(arguments.sessions)]
    rates: dict[str, list[float]] = {}
    for _ in range(arguments.rounds):
        for name, seconds in (
            ("the disk alone", timed(disk_alone, sessions)),
            ("upstream's way", timed(upstream_way, sessions)),
            ("SQLite store", timed_store("sqlite", sessions, arguments.at_once)),
            ("file store", timed_store("files", sessions, arguments.at_once)),
        ):
            rates.setdefault(name, []).append(len(sessions) / seconds)
    disk = statistics.median(rates["the disk alone"])
    print(f"{arguments.sessions} sessions, {arguments.at_once} at once, {arguments.rounds} rounds")
    for name, found in rates.items():
        middle = statistics.median(found)
        print(
            f"{name:16} {middle:8.0f}/s  ({min(found):.0f} to {max(found):.0f})  {middle / disk:5.2f} of the disk"
        )


if __name__ == "__main__":
    main()
