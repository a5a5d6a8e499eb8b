"""One account's trouble is one account's, in every command that works on many."""

import dataclasses
from pathlib import Path
from typing import Any

import pytest
import trio
from trio.testing import MockClock

from idiolectd.cli.batch import login_all
from idiolectd.cli.credentials import Credentials
from idiolectd.cli.exits import ExitCode
from idiolectd.cli.refresh import refresh_one
from idiolectd.cli.status_rows import read_rows
from idiolectd.config import load_config
from idiolectd.outcome import Cause
from idiolectd.store import InMemoryOAuthTokenStore
from tests.cli.conftest import Pds, Run, put_record
from tests.cli.test_batch import parts_of, simulator
from tests.store.support import ALICE, BOB, session

ODD_URLS = (
    "https://xn--a:65536",
    "https://pds.test:0",
    "https://[x",
    "https://0x7f.1/",
    "nonsense",
    "https://\x9b/",
)


def test_odd_records_stop_nobody(run: Run, pds: Pds, store: Path) -> None:
    """Whatever a record names as its PDS or its end: the others are shown, checked and refreshed."""
    good = pds.account("fine.test", legacy=1)
    put_record(store, good["legacy"][0])
    odd = [*({"pdsUrl": url, "issuer": url} for url in ODD_URLS), {"expiresAt": "9999-12-31T23:59:59-01:00"}]
    for number, fields in enumerate(odd):
        for kind in ("oauth", "legacy"):
            account = pds.account(f"odd{number}-{kind}.test", **{kind: 1})
            put_record(store, account[kind][0] | fields)
    refreshed = run("refresh", "--all", "--force", "--json")
    by_did = {line["did"]: line for line in refreshed.json}
    assert by_did[good["did"]]["result"] == "refreshed"
    assert len(by_did) == 1 + 2 * len(odd)
    for command in ("status", "list", "check"):
        done = run(command)
        assert "fine.test" in done.out or command == "check"
        assert "bug" not in done.out + done.err
    assert "bug" not in refreshed.out + refreshed.err
    assert len(run("status", "--json").json["sessions"]) == len(by_did)


def test_odd_places_end_no_batch(run: Run, pds: Pds, tmp_path: Path) -> None:
    """A bad URL in a line of the batch is that line's."""
    pds.account("batched.test")
    path = tmp_path / "accounts"
    path.touch(0o600)
    lines = [f"a{number}.test pass-word {url}" for number, url in enumerate(ODD_URLS) if url.isprintable()]
    path.write_text(
        "\n".join(
            [*lines, '{"account": "b.test", "password": "\\ud800"}', f"batched.test pass-word {pds.url}"]
        )
    )
    done = run("login", "--batch", str(path), "--json")
    assert [line["result"] for line in done.json] == ["failed"] * (len(lines) + 1) + ["logged_in"]
    assert done.code == 1
    assert "bug" not in done.out + done.err


class Unforeseen(Exception):
    """What some library raises one day, with a token in it."""

    def __init__(self) -> None:
        super().__init__("eyJhbGciOiJub25lIn0.eyJzZWNyZXQiOjF9.c2ln")


class Trapped:
    """A part of the house that fails on one account, in a way that nobody has thought of."""

    def __init__(self, part: Any, account: str) -> None:
        self._part = part
        self._account = account

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._part, name)

        async def trap(account: Any, *args: Any, **kwargs: Any) -> Any:
            if account == self._account:
                raise Unforeseen
            return await found(account, *args, **kwargs)

        return trap if name in ("read", "refresh", "locate") else found


def test_a_bug_in_one_login_ends_no_batch(capsys: pytest.CaptureFixture[str]) -> None:
    """Its line says so, standard error has the way to it, masked."""
    sim, clock = simulator()
    for name in "ab":
        sim.add_account(f"{name}.test", "pass-word")

    async def run() -> list[Any]:
        async with parts_of(sim, clock) as parts:
            hosting: Any = Trapped(parts.hosting, "a.test")
            trapped = dataclasses.replace(parts, hosting=hosting)
            wanted = [Credentials("a.test", "pass-word"), Credentials("b.test", "pass-word")]
            return await login_all(trapped, wanted, show=False)

    lines = trio.run(run, clock=MockClock(autojump_threshold=0))
    assert [line.result for line in lines] == ["failed", "logged_in"]
    assert "bug in idiolectd (Unforeseen)" in lines[0].message
    err = capsys.readouterr().err
    assert "test_apart.py" in err
    assert "please report" in err
    assert "eyJ" not in err


@pytest.mark.anyio
async def test_a_bug_in_one_refresh_is_its_line(capsys: pytest.CaptureFixture[str]) -> None:
    """`refresh --all` goes on, and exits 1."""
    sim, clock = simulator()
    async with parts_of(sim, clock) as parts:
        engine: Any = Trapped(parts.engine, ALICE)
        trapped = dataclasses.replace(parts, engine=engine)
        line, code = await refresh_one(trapped, ALICE, force=False)
        assert (line.result, line.code, code) == ("failed", Cause.BUG, ExitCode.FAILED)
        line, code = await refresh_one(trapped, BOB, force=False)
        assert (line.result, code) == ("gone", ExitCode.LOGIN_REQUIRED)
    assert "Unforeseen" in capsys.readouterr().err


@pytest.mark.anyio
async def test_a_bug_in_one_row_is_that_row(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """`status` and `check` show the others."""
    config = load_config(None, {"HOME": str(tmp_path)})
    async with InMemoryOAuthTokenStore.open() as store:
        for did in (ALICE, BOB):
            await store.save(session(did))
        rows = await read_rows(Trapped(store, ALICE), config, [ALICE, BOB], 1e9)
        assert {row.did: row.cause for row in rows} == {ALICE: Cause.BUG, BOB: None}
        assert "Unforeseen" in capsys.readouterr().err
