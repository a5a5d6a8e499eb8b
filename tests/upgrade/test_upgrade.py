"""Stores that earlier releases wrote, opened by this one: nothing is lost, nothing is sent twice."""

import json
import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from idiolectd import open_store
from idiolectd.outcome import Refreshed, ReloginRequired, Suspended
from idiolectd.ports import AccessTokenStatus, Probe, SharedStore
from idiolectd.refresh import RefreshEngine
from idiolectd.session import OAuthSession
from idiolectd.state import State
from tests.clock import VirtualClock
from tests.support import FakeServer, Recorder, planner
from tests.upgrade.write import NAMES, did_of

pytestmark = pytest.mark.anyio

RELEASES = sorted((Path(__file__).parent / "releases").iterdir())


@dataclass
class Opened:
    """A store of an earlier release in the hands of this one, the day after."""

    store: SharedStore
    engine: RefreshEngine
    server: FakeServer
    clock: VirtualClock
    release: str

    async def load(self, name: str) -> OAuthSession:
        session = await self.store.load(did_of(name))
        assert session is not None
        return session

    async def state(self, name: str) -> State:
        return (await self.store.read(did_of(name))).state.state


@asynccontextmanager
async def opened(release: Path, kind: str, folder: Path) -> AsyncIterator[Opened]:
    shutil.copytree(release, folder / "was")
    place = folder / "was" / ("files" if kind == "files" else "sessions.sqlite")
    url = f"file://{place}" if kind == "files" else f"sqlite://{place}"
    runtime = place / ".idiolectd" if kind == "files" else place.with_name("sessions.sqlite.idiolectd")
    for known in runtime.glob("spill/places/*.json"):  # as whoever moves a store has to write it
        known.write_text(known.read_text().replace('"/was/', f'"{folder}/was/'))
    clock = VirtualClock(1_788_180_000.0)
    server = FakeServer(clock.now)
    async with open_store(url, spill_dir=str(folder / "was" / f"{kind}.spill")) as store:
        engine = RefreshEngine(
            store,
            {"dpop": server, "bearer": server},
            planner=planner(),
            clock=clock,
            events=Recorder(),
        )
        yield Opened(
            store, engine, server, clock, json.loads((release / "release.json").read_text())["version"]
        )


@pytest.mark.parametrize("kind", ["files", "sqlite"])
@pytest.mark.parametrize("release", RELEASES, ids=lambda path: str(path.name))
async def test_nothing_is_lost(release: Path, kind: str, tmp_path: Path) -> None:
    """Every session is there, in the state in which it was left, and planned."""
    async with opened(release, kind, tmp_path) as house:
        assert await house.store.list_dids() == sorted(map(did_of, NAMES))
        planned = {name for name in NAMES if (await house.engine.reconcile(did_of(name))).due is not None}
        states = {name: await house.state(name) for name in NAMES}
        fresh = dict.fromkeys(NAMES, State.FRESH)
        assert states == fresh | {
            "noted": State.AMBIGUOUS,
            "dead": State.RELOGIN_REQUIRED,
            "suspended": State.SUSPENDED,
            "waiting": State.RETRYING,
        }
        is_paused = (await house.store.read(did_of("paused"))).state.paused
        assert is_paused is (house.release != "0.1.0")
        assert set(NAMES) - planned == {"dead"} | ({"paused"} if is_paused else set())
        assert (house.server.sent, house.server.probes) == ([], 0)


@pytest.mark.parametrize("kind", ["files", "sqlite"])
@pytest.mark.parametrize("release", RELEASES, ids=lambda path: str(path.name))
async def test_nobody_is_sent_twice(release: Path, kind: str, tmp_path: Path) -> None:
    """A spill is adopted, an open note is asked about, a dead session stays dead, the others rotate once."""
    async with opened(release, kind, tmp_path) as house:
        server = house.server
        server.probe_answer = Probe(AccessTokenStatus.REFUSED, house.clock.now())
        before = {name: await house.load(name) for name in NAMES}
        # What the server holds: the newest tokens, of the spilled session those in the spill.
        server._current = {did_of(name): before[name].refresh_jwt for name in NAMES}
        await house.engine.reconcile(did_of("spilled"))
        spilled = await house.load("spilled")
        assert spilled.refresh_jwt != before["spilled"].refresh_jwt
        server._current[spilled.did] = spilled.refresh_jwt
        outcomes = {name: (await house.engine.refresh(did_of(name), force=True)).outcome for name in NAMES}
        paused = {"paused"} if house.release != "0.1.0" else set()
        assert isinstance(outcomes.pop("dead"), ReloginRequired)
        for name in paused:
            assert isinstance(outcomes.pop(name), Suspended)
        assert {name for name, outcome in outcomes.items() if not isinstance(outcome, Refreshed)} == set()
        assert server.replays == []
        assert len(server.sent) == len(outcomes)
        assert server.probes == 1  # the open note's; its token is over by now, so that tells nothing


@pytest.mark.parametrize("kind", ["files", "sqlite"])
async def test_an_old_copy_of_before_the_upgrade(kind: str, tmp_path: Path) -> None:
    """A record of twenty rotations before, which the release had forgotten, does not win now."""
    release = RELEASES[-1]
    async with opened(release, kind, tmp_path) as house:
        newest = await house.load("rotated")
        old = json.loads(newest.to_json()) | {
            "accessJwt": "access-0",
            "refreshJwt": "refresh-0",
            "issuedAt": "2026-08-29T10:00:00Z",
            "expiresAt": "2026-08-29T11:00:00Z",
        }
        await house.store.save(OAuthSession.from_json(json.dumps(old)))
        assert await house.load("rotated") == newest
