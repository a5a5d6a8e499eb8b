"""A stop does not wait until very many new sessions are planned."""

import json
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from tests.daemon_process import DaemonProcess, environment
from tests.store.support import session

_CROWD = 30_000


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_a_stop_ends_the_first_start_on_a_crowd(tmp_path: Path) -> None:
    """What is planned by then stays planned; the rest is for the next start."""
    path = tmp_path / "sessions.sqlite"
    with closing(sqlite3.connect(path)) as foreign, foreign:
        foreign.execute("CREATE TABLE sessions (did TEXT PRIMARY KEY NOT NULL, body_json TEXT NOT NULL)")
        record = json.loads(session(expires_at="2999-01-01T00:00:00Z").to_json())
        foreign.executemany(
            "INSERT INTO sessions VALUES (?, ?)",
            (
                (did, json.dumps({**record, "did": did, "refreshJwt": f"refresh-{number}"}))
                for number in range(_CROWD)
                if (did := f"did:plc:{number:024d}")
            ),
        )
    path.chmod(0o600)
    with DaemonProcess(environment(f"sqlite://{path}"), tmp_path / "log") as daemon:
        daemon.wait_event("daemon.started")
        with closing(sqlite3.connect(path, timeout=60)) as looking:
            planned = 0
            while not planned:
                found = looking.execute(
                    "SELECT name FROM sqlite_master WHERE name = 'idiolectd_state'"
                ).fetchone()
                if found:
                    (planned,) = looking.execute("SELECT count(*) FROM idiolectd_state").fetchone()
        assert daemon.stop() == 0
    with closing(sqlite3.connect(path)) as looking:
        (planned,) = looking.execute("SELECT count(*) FROM idiolectd_state").fetchone()
    assert 0 < planned < _CROWD
