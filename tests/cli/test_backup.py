"""``idiolectd backup`` and ``restore`` on servers that end a session when a used token is sent."""

import json
from pathlib import Path
from typing import Any

import anyio
import pytest

from idiolectd.session import OAuthSession
from idiolectd.store import open_store
from tests.cli.conftest import Pds, Run

AGES = [1, 15, 17]


@pytest.mark.parametrize("kind", ["file", "sqlite"])
@pytest.mark.parametrize("age", AGES)
def test_a_restored_copy_ends_no_session(run: Run, pds: Pds, tmp_path: Path, kind: str, age: int) -> None:
    """The session that was rotated since lives on where it is; here it needs a login, and says why."""
    here, there = (f"{kind}://{tmp_path / name}" for name in ("here", "there"))
    backup = str(tmp_path / "sessions.backup")
    account = pds.account(f"restored-{kind}-{age}.test", oauth=1)
    put_account(account["oauth"][0], here)
    assert run("backup", backup, "--store", here, "--json").json["sessions"] == 1
    for _ in range(age):
        assert run("refresh", "--force", account["did"], "--store", here).code == 0
    assert run("restore", backup, "--store", there, "--json").json["restored"] == 1
    assert run("refresh", "--force", account["did"], "--store", there).code == 3
    (row,) = run("status", "--store", there, "--json").json["sessions"]
    assert (row["state"], row["cause"]) == ("relogin_required", "restored_copy")
    assert f"refresh --revive {account['did']}" in row["advice"]
    assert run("refresh", "--force", account["did"], "--store", here).code == 0
    assert pds.living(account["did"]) == 1


@pytest.mark.parametrize("kind", ["file", "sqlite"])
def test_a_store_comes_back(run: Run, pds: Pds, tmp_path: Path, kind: str) -> None:
    """What is gone is restored and goes on, repeatedly; a backup that is there is replaced only if that is said."""
    here, there = (f"{kind}://{tmp_path / name}" for name in ("here", "there"))
    backup = tmp_path / "sessions.backup"
    account = pds.account(f"comes-back-{kind}.test", oauth=1)
    put_account(account["oauth"][0], here)
    assert run("backup", str(backup), "--store", here).code == 0
    assert backup.stat().st_mode & 0o777 == 0o600
    assert run("backup", str(backup), "--store", here).code == 1
    assert run("backup", "--force", str(backup), "--store", here).code == 0
    for restored, kept in ((1, 0), (0, 1)):
        done = run("restore", str(backup), "--store", there, "--json").json
        assert (done["restored"], done["kept"], done["unreadable"]) == (restored, kept, 0)
    assert run("refresh", "--force", account["did"], "--store", there).code == 0
    assert pds.living(account["did"]) == 1


def put_account(record: dict[str, Any], url: str) -> None:
    async def put() -> None:
        async with open_store(url) as store:
            await store.save(OAuthSession.from_json(json.dumps(record)))

    anyio.run(put)
