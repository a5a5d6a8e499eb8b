"""A hostile member of the clients' group: he sees no refresh token, delays nobody, and can't make the view lie."""

import json
import os
import sqlite3
import subprocess
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest

from idiolectd.did import file_name
from tests.daemon_process import DaemonProcess, environment, wait_until
from tests.torture.common import server
from tests.users import NOBODY, OTHER, shared_python

pytestmark = pytest.mark.slow

HOSTILE = Path(__file__).with_name("hostile_reader.py")
GROUP = "nogroup"  # a group that every Debian has


@pytest.fixture
def place() -> Iterator[Path]:
    """A folder that every user may enter; those above pytest's own are closed again by every other run."""
    with TemporaryDirectory(prefix="idiolectd-hostile-") as name:
        Path(name).chmod(0o755)
        yield Path(name)


@pytest.mark.parametrize("kind", ["file", "sqlite"])
def test_a_hostile_reader(kind: str, place: Path) -> None:
    """While he holds on to all that he could open, the session is rotated in the store and in the view."""
    python = shared_python()
    if os.geteuid() != 0 or python is None:
        pytest.skip("needs root, and an interpreter that every user can run")
    store, view = place / "store" / "sessions.sqlite", place / "run" / "clients"
    for folder in (store.parent, view.parent):
        folder.mkdir()
        folder.chmod(0o755)  # only what the daemon closes is closed
    with server("--access-life=4") as pds:
        record = pds.login("dpop")
        did = record["did"]
        with closing(sqlite3.connect(store)) as database:
            database.execute("CREATE TABLE sessions (did TEXT PRIMARY KEY NOT NULL, body_json TEXT NOT NULL)")
            database.execute("INSERT INTO sessions VALUES (?, ?)", (did, json.dumps(record)))
            database.commit()
        env = environment(
            f"sqlite://{store}",
            IDIOLECTD_CLIENTS__URL=f"{kind}://{view}",
            IDIOLECTD_CLIENTS__GROUP=GROUP,
            IDIOLECTD_IDENTITY__PLC_DIRECTORY_URL=pds.url,
        )

        def entry() -> dict[str, Any]:
            if kind == "file":
                return dict(json.loads((view / file_name(did)).read_text()))
            with closing(sqlite3.connect(f"file:{view}?mode=ro", uri=True)) as database:
                (text,) = database.execute("SELECT body_json FROM sessions WHERE did = ?", (did,)).fetchone()
            return dict(json.loads(text))

        def stored() -> dict[str, Any]:
            with closing(sqlite3.connect(store)) as database:
                (text,) = database.execute("SELECT body_json FROM sessions").fetchone()
            return dict(json.loads(text))

        with DaemonProcess(env, place / "log") as daemon:
            daemon.wait_event("session.refreshed", did=did)
            tokens = f"{record['refreshJwt']},{stored()['refreshJwt']}"  # a spent one, and the newest
            command = [python[0], str(HOSTILE), str(daemon.process.pid), str(place), str(view), tokens]
            with subprocess.Popen(
                command,
                env={},
                user=OTHER,
                group=NOBODY,
                extra_groups=[],
                cwd="/",
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
            ) as hostile:
                try:
                    assert hostile.stdout is not None
                    said = json.loads(hostile.stdout.readline())
                    before = pds.session(did).generation
                    wait_until(lambda: pds.session(did).generation >= before + 2)
                    wait_until(lambda: entry()["accessJwt"] == stored()["accessJwt"])
                finally:
                    hostile.kill()
            assert (said["seen"], said["lied"]) == ([], [])
            assert said["read"] >= 1  # what he may read he has searched
            assert (entry()["did"], entry()["refreshJwt"]) == (did, "")
            assert pds.session(did).alive
            refused = view / "refused" if kind == "file" else view.with_name("clients.refused")
            wait_until(lambda: not [path for path in refused.iterdir() if not path.is_dir()])
            assert daemon.events("view.unavailable") == []
            assert daemon.stop() == 0
