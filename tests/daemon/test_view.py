"""The daemon shows clients what they need, and hears what they say."""

import json
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from idiolectd.jose import token_hash
from tests.daemon.test_daemon import Host
from tests.daemon.test_daemon import host as host
from tests.daemon_process import wait_until

pytestmark = pytest.mark.timeout(300)


def entry(view: Path, did: str) -> dict[str, Any] | None:
    """What a client finds."""
    if view.suffix == ".sqlite":
        if not view.exists():
            return None
        with closing(sqlite3.connect(f"file:{view}?mode=ro", uri=True)) as database:
            rows = database.execute("SELECT body_json FROM sessions WHERE did = ?", (did,)).fetchall()
        return json.loads(rows[0][0]) if rows else None
    path = view / (did.replace(":", "_") + ".json")
    return json.loads(path.read_text()) if path.exists() else None


def shows(view: Path, did: str, **fields: object) -> bool:
    found = entry(view, did)
    return found is not None and fields.items() <= found.items()


@pytest.fixture(params=["clients", "clients.sqlite"])
def view(request: pytest.FixtureRequest, host: Host, tmp_path: Path) -> Path:
    place = tmp_path / "run" / str(request.param)
    scheme = "sqlite" if place.suffix else "file"
    host.env["IDIOLECTD_CLIENTS__URL"] = f"{scheme}://{place}"
    return place


def test_clients_find_new_tokens_and_no_refresh_token(host: Host, view: Path) -> None:
    """From login to logout; no byte of a refresh token is anywhere in the view."""
    record, gone = (host.account(f"{name}.test", oauth=1)["oauth"][0] for name in ("viewed", "gone"))
    did = record["did"]
    with host.daemon() as daemon:
        daemon.wait_event("daemon.ready")
        path = host.put(gone)
        found = {"accessJwt": gone["accessJwt"], "refreshJwt": "", "state": "fresh"}
        wait_until(lambda: shows(view, gone["did"], **found))
        path.unlink()
        wait_until(lambda: entry(view, gone["did"]) is None)
        path = host.put(record, age=3590)
        daemon.wait_event("session.refreshed", did=did)
        newest = json.loads(path.read_text())
        wait_until(lambda: shows(view, did, accessJwt=newest["accessJwt"]))
        files = [view] if view.is_file() else list(view.rglob("*"))
        shown = b"".join(path.read_bytes() for path in files if path.is_file())
        for secret in (record["refreshJwt"], newest["refreshJwt"]):
            assert secret.encode() not in shown
        assert daemon.stop() == 0
    # Clients go on while the daemon restarts.
    assert shows(view, did, accessJwt=newest["accessJwt"])


def test_a_session_ended_elsewhere_is_named_when_a_client_says_so(host: Host, view: Path) -> None:
    """It is not due for an hour; its client's word has it looked at now."""
    host.env["IDIOLECTD_REFRESH__CONFIRM"] = "0s"
    record, bystander = (host.account(f"{name}.test", oauth=1)["oauth"][0] for name in ("ended", "by"))
    did = record["did"]
    refused = view / "refused" if view.suffix == "" else view.with_name(f"{view.name}.refused")
    with host.daemon() as daemon:
        host.put(record)
        host.put(bystander)
        wait_until(lambda: shows(view, did, state="fresh") and shows(view, bystander["did"], state="fresh"))
        host.call("revoke_sessions", {"did": did})
        wait_until(refused.exists)
        for each in (bystander, record):  # the first is no word of the server's
            (refused / f"{each['did']}~{token_hash(each['accessJwt'])}").touch()
        daemon.wait_event("session.relogin_required", did=did)
        wait_until(lambda: shows(view, did, state="relogin_required"))
        found = entry(view, did)
        assert found is not None
        assert found["cause"]
        assert daemon.events("session.refreshed") == []
        assert list(refused.iterdir()) == []
        assert daemon.stop() == 0


def test_a_view_that_cant_be_written_delays_nobody(host: Host, view: Path, tmp_path: Path) -> None:
    """It is told, and sessions are refreshed; when it can be written, everything is there."""
    view.parent.write_text("in the way")
    record = host.account("delayed.test", oauth=1)["oauth"][0]
    with host.daemon() as daemon:
        daemon.wait_event("view.unavailable")
        path = host.put(record, age=3590)
        daemon.wait_event("session.refreshed", did=record["did"])
        view.parent.unlink()
        daemon.wait_event("view.available")
        newest = json.loads(path.read_text())["accessJwt"]
        assert shows(view, record["did"], accessJwt=newest)
        assert daemon.stop() == 0


def test_a_view_of_a_group_that_is_not_there(host: Host, view: Path) -> None:
    """Refused at the start, before anything is sent: a typing error must not open or close anything."""
    host.env["IDIOLECTD_CLIENTS__GROUP"] = "no-such-group"
    with host.daemon() as daemon:
        assert daemon.process.wait(60) == 1
        assert "clients.group" in daemon.log.read_text()
