"""Durable commits a second, side by side with what the disk can do."""

import os
import sqlite3
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import anyio

from bench.measuring import RATIO, Figure, Measure, Workshop
from idiolectd import OAuthSession, open_store
from idiolectd.clock import rfc3339
from idiolectd.ports import SharedStore
from idiolectd.state import RefreshState, reconcile, tokens_of

RATE = "commits per second"

_SESSIONS = 256
_AT_ONCE = 64


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


def replacing_alone(folder: Path, sessions: list[OAuthSession]) -> None:
    """The physical limit of one file after the other that is replaced durably, as a rename does it."""
    directory = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    for session in sessions:
        fd = os.open(folder / "new", os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        os.write(fd, session.to_json().encode())
        os.fsync(fd)
        os.close(fd)
        (folder / "new").rename(folder / f"{session.did}.json")
        os.fsync(directory)
    os.close(directory)


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


def timed(
    workshop: Workshop, work: Callable[[Path, list[OAuthSession]], None], sessions: list[OAuthSession]
) -> float:
    """Seconds of a piece of work in a folder of its own."""
    with workshop.scratch() as folder:
        began = time.perf_counter()
        work(folder, sessions)
        return time.perf_counter() - began


def timed_store(workshop: Workshop, kind: str, sessions: list[OAuthSession]) -> float:
    """Seconds of the same in a store of ours, on trio as the daemon runs."""
    with workshop.scratch() as folder:
        url = f"sqlite://{folder}/sessions.sqlite" if kind == "sqlite" else f"file://{folder}"
        return anyio.run(ours, url, sessions, _AT_ONCE, backend="trio")


def commits(workshop: Workshop) -> Iterator[Figure]:
    """One round of all five."""
    sessions = [a_session(number) for number in range(_SESSIONS)]
    alone = timed(workshop, disk_alone, sessions)
    for subject, seconds in (
        ("the disk alone", alone),
        ("files replaced alone", timed(workshop, replacing_alone, sessions)),
        ("upstream's way", timed(workshop, upstream_way, sessions)),
        ("idiolectd, SQLite store", timed_store(workshop, "sqlite", sessions)),
        ("idiolectd, file store", timed_store(workshop, "files", sessions)),
    ):
        yield Figure(subject, RATE, len(sessions) / seconds, "/s")
        if seconds != alone:
            yield Figure(f"{subject} / the disk alone", RATE, alone / seconds, RATIO)


MEASURES = (
    Measure(
        "commits",
        "Durable commits of the stores",
        f"{_SESSIONS} records, {_AT_ONCE} at once: the disk alone (one file, write and fdatasync of a record's"
        " size); files replaced alone, one after the other (write, fsync, rename, fsync of the folder); the upstream way (SQLite, WAL, synchronous=NORMAL: not durable at a power cut); both stores of"
        " ours (record and state, durable).",
        commits,
        plot=RATE,
    ),
)
