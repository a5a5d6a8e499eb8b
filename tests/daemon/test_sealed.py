"""The daemon on a sealed store, and the commands for its keys."""

import json
from pathlib import Path
from typing import Any

import pytest

from idiolectd import load_session
from idiolectd.errors import SealedError
from tests.daemon.test_daemon import Host
from tests.daemon.test_daemon import host as host
from tests.daemon.test_view import shows
from tests.daemon_process import idiolectd, wait_until

pytestmark = pytest.mark.timeout(300)


def name_keys(host: Host, *files: Path) -> None:
    tables = ", ".join(f'{{ id = "{file.stem}", file = "{file}" }}' for file in files)
    host.env["IDIOLECTD_STORE__KEYS"] = f"[{tables}]"


def sealing(host: Host) -> tuple[str, str]:
    """What `check` says of it."""
    findings = json.loads(idiolectd("check", "--json", env=host.env).stdout)
    found: dict[str, Any] = next(each for each in findings if each["check"] == "sealing")
    return found["verdict"], found["message"]


@pytest.mark.slow
def test_a_life_with_keys(host: Host, tmp_path: Path) -> None:
    """A clear store is sealed while the daemon runs, gets another key, and lies there unreadable after a kill -9."""
    first, second, view = tmp_path / "2026-10.key", tmp_path / "2026-11.key", tmp_path / "view"
    for file in (first, second):
        assert idiolectd("rekey", "--new-key", str(file), env=host.env).returncode == 0
    assert first.stat().st_mode & 0o777 == 0o600
    again = idiolectd("rekey", "--new-key", str(first), env=host.env)
    assert (again.returncode, "exists" in again.stderr) == (1, True)
    assert idiolectd("rekey", env=host.env).returncode == 2  # no key is named
    host.env["IDIOLECTD_CLIENTS__URL"] = f"file://{view}"
    records = [host.account(f"{name}.test", oauth=1)["oauth"][0] for name in ("due", "later")]
    paths = [host.put(record, age=age) for record, age in zip(records, (3590, 0), strict=True)]
    due = records[0]["did"]
    name_keys(host, first)
    assert sealing(host)[0] == "warning"
    with host.daemon() as daemon:
        daemon.wait_event("session.refreshed", did=due)
        assert "mixed" in sealing(host)[1]
        assert idiolectd("rekey", env=host.env).stdout == "sealed with 2026-10: 2 sessions\n"
        assert sealing(host) == ("ok", "all sessions are sealed with 2026-10")
        assert daemon.stop() == 0
    name_keys(host, second, first)
    with host.daemon() as daemon:
        daemon.wait_event("daemon.ready")
        assert idiolectd("rekey", env=host.env).stdout == "sealed with 2026-11: 2 sessions\n"
        name_keys(host, second)
        assert sealing(host)[0] == "ok"
        assert idiolectd("refresh", "--force", due, env=host.env).returncode == 0
        token = idiolectd("headers", due, "--url", records[0]["pdsUrl"] + "/x", env=host.env).stdout
        wait_until(
            lambda: (
                shows(view, due, state="fresh") and load_session(f"file://{view}", due).access_jwt in token
            )
        )
        daemon.process.kill()
        daemon.process.wait()
    newest = load_session(f"file://{view}", due)
    places = [host.folder, Path(host.env["IDIOLECTD_STORE__SPILL_DIR"])]
    written = b"".join(path.read_bytes() for place in places for path in place.rglob("*") if path.is_file())
    for secret in (
        newest.access_jwt,
        *(record[name] for record in records for name in ("accessJwt", "refreshJwt")),
    ):
        assert secret.encode() not in written
    for record in records:
        assert json.loads(record["dpopPrivateKeyJwk"])["d"].encode() not in written
    # Without its key: everything that reads clear fields works, nothing else does, and nothing is changed.
    before = [path.read_bytes() for path in paths]
    second.rename(tmp_path / "elsewhere")
    with pytest.raises(SealedError, match="clients' view"):
        load_session(f"file://{host.folder}", due)
    status = json.loads(idiolectd("status", "--json", env=host.env).stdout)
    assert {row["state"] for row in status["sessions"]} <= {"fresh", "due"}
    assert due in idiolectd("list", env=host.env).stdout
    assert sealing(host)[0] == "failed"
    for command in (("run",), ("refresh", "--force", due), ("rekey",), ("logout", due)):
        done = idiolectd(*command, env=host.env)
        assert (done.returncode, str(second) in done.stderr) == (2, True), done.stderr
    name_keys(host, first)
    done = idiolectd("refresh", "--force", due, env=host.env)
    assert (done.returncode, "sealed with the key '2026-11'" in done.stdout + done.stderr) == (1, True)
    assert [path.read_bytes() for path in paths] == before
