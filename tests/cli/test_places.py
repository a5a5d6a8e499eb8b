"""Which places the commands use, and what they leave alone."""

import json
import sqlite3
from contextlib import closing
from pathlib import Path

import anyio
import pytest

from idiolectd.ports import Spilled
from idiolectd.session import OAuthSession
from idiolectd.store import open_store
from tests.cli.conftest import Pds, Run, put_record
from tests.store.support import ALICE
from tests.store.test_looking import MADE, shape
from tests.store.test_spill_places import break_folder

# spills ------------------------------------------------------------------------------------------


def test_a_spill_that_can_not_be_read(
    run: Run, pds: Pds, store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`check` fails and names the folder, `status` says it and goes on, and a login works."""
    record = pds.account("spilled.test", oauth=1)["oauth"][0]
    put_record(store, record)
    session = OAuthSession.from_json(json.dumps(record))

    async def spill() -> Path:
        async with open_store(str(store)) as opened:
            assert opened.spill is not None
            return Path(await opened.spill.put(Spilled(session.refresh_token_hash, session)))

    folder = anyio.run(spill).parent
    good = run("check", "--json")
    assert {"check": "spill", "verdict": "ok"}.items() <= next(
        f for f in good.json if f["check"] == "spill"
    ).items()
    (row,) = run("status", "--json").json["sessions"]
    assert row["state"] == "unpersisted"
    break_folder(folder)
    bad = run("check")
    assert (bad.code, str(folder) in bad.out) == (1, True)
    status = run("status", "--json")
    assert (status.code, len(status.json["sessions"]), str(folder) in status.err) == (0, 1, True)
    pds.account("new.test")
    monkeypatch.setenv("ATPROTO_APP_PASSWORD", "pass-word")
    assert run("login", "new.test").code == 0
    assert run("refresh", "--force", "new.test").code == 0


# looking -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", MADE)
def test_commands_that_only_look(
    run: Run, kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`status`, `list`, `check` and `headers` leave a store of upstream's exactly as it was."""
    (tmp_path / "upstream").mkdir(0o700)
    monkeypatch.setenv("IDIOLECTD_STORE__URL", MADE[kind](tmp_path / "upstream"))
    before = shape(tmp_path / "upstream")
    for command in (
        ("status",),
        ("status", ALICE),
        ("list",),
        ("check",),
        ("headers", ALICE, "--url", "https://pds.example/xrpc/x", "--nonce", "n"),
    ):
        run(*command)
        assert shape(tmp_path / "upstream") == before, command
    assert run("list").out.count(ALICE) == 1


# permissions and writing -------------------------------------------------------------------------


def test_check_names_what_a_former_group_can_read(run: Run, pds: Pds, store: Path) -> None:
    """Without store.group, a record that a group can open is a failure."""
    path = put_record(store, pds.account("open.test", oauth=1)["oauth"][0])
    path.chmod(0o600)
    assert run("check").code == 0
    path.chmod(0o640)
    done = run("check")
    assert (done.code, str(path) in done.out, "store.group" in done.out) == (1, True, True)


@pytest.mark.slow  # SQLite waits 5 s for a program that has it locked
def test_logout_writes_before_it_revokes(
    run: Run, pds: Pds, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where nothing can be written the session is not ended at its server: it could not be deleted here."""
    monkeypatch.setenv("IDIOLECTD_STORE__URL", f"sqlite://{tmp_path}/s.db")
    monkeypatch.setenv("ATPROTO_APP_PASSWORD", "pass-word")
    did = pds.account("locked.test")["did"]
    assert run("login", "locked.test").code == 0
    with closing(sqlite3.connect(tmp_path / "s.db")) as reader:  # as one who may only read can do, too
        reader.execute("BEGIN IMMEDIATE")
        assert run("logout", did).code == 75
    assert pds.living(did) == 1
    assert run("logout", did).code == 0
    assert pds.living(did) == 0
