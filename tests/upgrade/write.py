"""Writes what a release leaves on disk, with that release's own code: the fixture that later ones open.

Run it in a checkout of the release, not of this one::

    PYTHONPATH=. python .../tests/upgrade/write.py .../tests/upgrade/releases/VERSION

Both stores, each with its spill folder: a session after twenty rotations, one whose note is open, one
whose tokens were spilled, a dead, a suspended, a waiting, a legacy and (from 0.2.0 on) a paused one, one
that was saved and never planned, one that upstream's program wrote.
"""

import json
import shutil
import sqlite3
import sys
from contextlib import suppress
from pathlib import Path
from typing import Any

import anyio

from idiolectd import __version__, open_store
from idiolectd.outcome import Retry, Suspended
from idiolectd.ports import SharedStore, Spilled
from idiolectd.refresh import RefreshEngine
from idiolectd.session import Kind
from idiolectd.store import SpillFolder
from tests.clock import VirtualClock
from tests.support import FakeServer, Recorder, planner, without_ours

# In the past of whoever opens the fixture.
_BEGAN = 1_788_000_000.0

NAMES = (
    "rotated",
    "noted",
    "spilled",
    "dead",
    "suspended",
    "waiting",
    "legacy",
    "paused",
    "saved",
    "upstream",
)


def did_of(name: str) -> str:
    """Of the session of that name."""
    return f"did:plc:{name:a<24}"


class Writer:
    """One store, as it is after an eventful life."""

    def __init__(self, store: Any, spill: Path) -> None:
        self.store = store
        self.clock = VirtualClock(_BEGAN)
        self.servers: dict[Kind, FakeServer] = {
            "dpop": FakeServer(self.clock.now),
            "bearer": FakeServer(self.clock.now, kind="bearer"),
        }
        make: Any = RefreshEngine
        parts: dict[str, Any] = {"planner": planner(), "clock": self.clock, "events": Recorder()}
        if hasattr(store, "spill"):  # since 0.3.0 the spill belongs to the store
            self.spill = store.spill
        else:
            self.spill = parts["spill"] = SpillFolder(spill)
        self.engine = make(store, self.servers, **parts)

    async def write(self) -> None:
        for name in NAMES:
            kind: Kind = "bearer" if name == "legacy" else "dpop"
            await self.store.save(self.servers[kind].login(did_of(name)))
            if name not in ("saved", "upstream"):
                await self.engine.reconcile(did_of(name))
        for _ in range(20):
            await self._refresh("rotated")
        server = self.servers["dpop"]

        async def crash(_session: Any) -> None:
            raise RuntimeError("as if the process had died here")

        server.before = crash
        for name in ("noted", "spilled"):
            with suppress(RuntimeError):
                await self._refresh(name)
        server.before = None
        spilled = await self.store.load(did_of("spilled"))
        after = spilled.with_tokens(server._tokens(spilled.did))
        await self.spill.put(Spilled(spilled.refresh_token_hash, after))
        server._current[did_of("dead")] = "another"
        for _ in range(4):  # since 0.3.0 one refusal is no verdict
            await self._refresh("dead")
        for name, answer in (
            ("suspended", Suspended("client_refused", "invalid_client", "no such client")),
            ("waiting", Retry("http_503", "busy")),
        ):

            async def refuse(_session: Any, answer: Any = answer) -> Any:
                return answer

            server.before = refuse
            await self._refresh(name)
        server.before = None
        await self._refresh("legacy")
        if hasattr(self.engine, "pause"):
            await self.engine.pause(did_of("paused"), paused=True)

    async def _refresh(self, name: str) -> None:
        self.clock.advance(3600)
        await self.engine.refresh(did_of(name), force=True)


async def _write(url: str, spill: Path) -> None:
    opening: Any = open_store
    # Until 0.2.0 a spill folder belonged to the process.
    named = {"spill_dir": str(spill)} if hasattr(SharedStore, "spill") else {}
    async with opening(url, **named) as store:
        await Writer(store, spill).write()


def main() -> None:
    target = Path(sys.argv[1]).absolute()
    shutil.rmtree(target, ignore_errors=True)
    (target / "files").mkdir(parents=True)
    database = target / "sessions.sqlite"
    anyio.run(_write, f"file://{target}/files", target / "files.spill", backend="trio")
    anyio.run(_write, f"sqlite://{database}", target / "sqlite.spill", backend="trio")
    # As upstream's program leaves a record, and one that is half written.
    upstream = target / "files" / f"{did_of('upstream').replace(':', '_')}.json"
    from idiolectd import OAuthSession

    text = without_ours(OAuthSession.from_json(upstream.read_text())).to_json()
    upstream.write_text(text)
    with sqlite3.connect(database) as db:
        db.execute("UPDATE sessions SET body_json = ? WHERE did = ?", (text, did_of("upstream")))
    db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    db.close()
    for left in target.glob("sessions.sqlite-*"):
        left.unlink()
    for registry in (database.with_name("sessions.sqlite.idiolectd"), target / "files" / ".idiolectd"):
        for place in registry.glob("spill/places/*.json"):  # where it was written is nobody's business
            place.write_text(place.read_text().replace(str(target), "/was"))
    (target / "release.json").write_text(json.dumps({"version": __version__}) + "\n")


if __name__ == "__main__":
    main()
