"""A daemon that has no descriptor left loses nothing, says so once, and goes on when there are some."""

import resource
from pathlib import Path

import pytest

from tests.daemon.test_daemon import Host, host

__all__ = ["host"]

pytestmark = [pytest.mark.timeout(300), pytest.mark.slow]


def test_no_descriptor_left(host: Host) -> None:
    """Nothing is sent whose tokens could not be saved; with descriptors everything is refreshed."""
    records = [host.account(f"o{number}.test", oauth=1)["oauth"][0] for number in range(3)]
    with host.daemon() as daemon:
        daemon.wait_event("daemon.ready", timeout=60)
        pid = daemon.process.pid
        soft, hard = resource.prlimit(pid, resource.RLIMIT_NOFILE)
        assert soft == min(hard, 65536)  # as many as may be
        highest = max(int(entry.name) for entry in Path(f"/proc/{pid}/fd").iterdir())
        # Enough for a look at each record, for a claim and for a note; too few for what follows.
        resource.prlimit(pid, resource.RLIMIT_NOFILE, (highest + 1 + 13, hard))
        for record in records:
            host.put(record, age=3590)
        said = daemon.wait_event("store.unavailable", timeout=60)
        assert "fewer than 16 files can be opened" in said["error"]
        assert daemon.events("session.refreshed") == []
        resource.prlimit(pid, resource.RLIMIT_NOFILE, (soft, hard))
        for record in records:
            daemon.wait_event("session.refreshed", timeout=60, did=record["did"])
        assert len(daemon.events("store.unavailable")) == 1
        assert daemon.events("session.unpersisted") == []
        assert daemon.stop() == 0
