"""Backups that come back against the real PDS: however old a copy is, no session that lives is ended."""

import json
from functools import partial
from pathlib import Path

import anyio
import anyio.to_thread
import pytest

from idiolectd import OAuthSession
from idiolectd.config import load_config
from idiolectd.events import ignore_event
from idiolectd.outcome import Refreshed
from idiolectd.parts import open_parts
from tests.daemon_process import environment, idiolectd
from tests.real_pds.harness import RealPds
from tests.real_pds.login import legacy_login, oauth_login
from tests.real_pds.marks import needs_pds

pytestmark = needs_pds(seconds=300)

# How many rotations old a copy is when it comes back.
AGES = (100, 17, 15, 1)


@pytest.mark.parametrize("kind", ["sqlite", "file"])
def test_copies_of_every_age_end_no_session(kind: str, tmp_path: Path) -> None:
    """The OAuth session is named, and not sent; the app password's may be tried, and ends nobody's."""
    urls = {name: f"{kind}://{tmp_path / name}" for name in ("here", *map(str, AGES))}
    with RealPds(tmp_path / "pds", accounts=2) as pds:
        env = environment(
            urls["here"],
            IDIOLECTD_IDENTITY__PLC_DIRECTORY_URL=pds.plc_url,
            IDIOLECTD_IDENTITY__HANDLE_RESOLVER_URL=pds.url,
        )
        browser, password = pds.accounts
        records = (
            oauth_login(pds.url, browser.handle, browser.password),
            legacy_login(pds.url, password.handle, password.password),
        )
        sessions = [OAuthSession.from_json(json.dumps(record)) for record in records]
        anyio.run(_age, env, sessions, AGES, tmp_path)
        for age in AGES:
            there = {**env, "IDIOLECTD_STORE__URL": urls[str(age)]}
            restored = idiolectd("restore", str(tmp_path / f"{age}.backup"), "--json", env=there)
            assert json.loads(restored.stdout)["restored"] == 2, restored.stderr
            idiolectd("refresh", "--force", "--all", env=there)
            rows = {
                row["did"]: row
                for row in json.loads(idiolectd("status", "--json", env=there).stdout)["sessions"]
            }
            assert rows[browser.did]["cause"] == "restored_copy", (age, rows[browser.did])
        done = idiolectd("refresh", "--force", "--all", env=env)
        assert done.returncode == 0, (done.stdout, done.stderr)


async def _age(
    env: dict[str, str], sessions: list[OAuthSession], ages: tuple[int, ...], folder: Path
) -> None:
    """Stores the sessions, refreshes them again and again, and backs them up so many rotations before the last."""
    async with open_parts(load_config(None, env), ignore_event) as parts:
        for session in sessions:
            await parts.store.save(session)
    for left in range(max(ages), 0, -1):
        if left in ages:
            backup = partial(idiolectd, "backup", str(folder / f"{left}.backup"), env=env)
            made = await anyio.to_thread.run_sync(backup)
            assert made.returncode == 0, made.stderr
        async with open_parts(load_config(None, env), ignore_event) as parts:
            for session in sessions:
                attempt = await parts.engine.refresh(session.did, force=True)
                assert isinstance(attempt.outcome, Refreshed), attempt.outcome
