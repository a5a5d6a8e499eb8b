"""A session is taken out of a running daemon's hands, and given back."""

import json
import time
from pathlib import Path

import pytest

from tests.daemon.test_daemon import Host
from tests.daemon.test_daemon import host as host
from tests.daemon_process import idiolectd, wait_until

pytestmark = pytest.mark.timeout(300)


@pytest.mark.parametrize("store", ["file", "sqlite"])
def test_pause_and_resume(host: Host, tmp_path: Path, store: str) -> None:
    """A paused session is sent by nobody, daemon or command, forced or not; resumed, it goes on at once."""
    did = host.account("paused.test")["did"]
    env = {
        **host.env,
        "IDIOLECTD_STORE__URL": f"{store}://{tmp_path / store}",
        "IDIOLECTD_IDENTITY__PLC_DIRECTORY_URL": host.url,
        "IDIOLECTD_IDENTITY__HANDLE_RESOLVER_URL": host.url,
        "IDIOLECTD_REFRESH__WINDOW": "[0.00005, 0.0001]",  # of two hours: twice a second
    }
    login = idiolectd(
        "login", did, "--pds-url", host.url, env={**env, "ATPROTO_APP_PASSWORD": "app-password"}
    )
    assert login.returncode == 0, login.stderr
    host.env.update(env)
    with host.daemon() as daemon:
        daemon.wait_event("session.refreshed", did=did)
        paused = idiolectd("pause", "paused.test", "--json", env=env)
        assert (paused.returncode, json.loads(paused.stdout)) == (0, {"did": did, "paused": True}), (
            paused.stderr
        )
        forced = idiolectd("refresh", did, "--force", env=env)
        assert forced.returncode == 1
        assert f"idiolectd resume {did}" in forced.stdout
        (row,) = json.loads(idiolectd("status", "--json", env=env).stdout)["sessions"]
        assert (row["state"], row["cause"]) == ("suspended", "paused")
        before = daemon.events("session.refreshed")
        time.sleep(2.0)
        assert daemon.events("session.refreshed") == before
        resumed = idiolectd("resume", "--did", did, env=env)
        assert resumed.stdout == f"resumed: {did}\n"
        wait_until(lambda: len(daemon.events("session.refreshed")) > len(before))
        assert daemon.stop() == 0
    told = daemon.events("session.command")
    named = {"did": did, "handle": "paused.test", "kind": "bearer", "pds_url": host.url}
    assert all(named.items() <= event.items() and event["user"] and event["pid"] for event in told)
    assert [(event["command"], event["result"]) for event in told if event["command"] != "login"] == [
        ("pause", "done"),
        ("refresh", "suspended"),
        ("resume", "done"),
    ]


def test_nobody_to_pause(host: Host) -> None:
    """Pausing what is not stored says so, with the code for a login."""
    done = idiolectd("pause", "did:plc:ewvi7nxzyoun6zhxrhs64oiz", env=host.env)
    assert done.returncode == 3
    assert "no session is stored" in done.stderr
