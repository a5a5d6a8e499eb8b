"""Which places the commands use, and what they leave alone."""

import json
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
    (row,) = run("status", "--json").json
    assert row["state"] == "unpersisted"
    break_folder(folder)
    bad = run("check")
    assert (bad.code, str(folder) in bad.out) == (1, True)
    status = run("status", "--json")
    assert (status.code, len(status.json), str(folder) in status.err) == (0, 1, True)
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
