"""A whole store put back by hand, with everything beside it, is noticed, and nothing in it is sent unproven."""

import shutil
from pathlib import Path

import pytest

from tests.cli.conftest import Pds, Run
from tests.cli.test_backup import put_account

KINDS = ["file", "sqlite"]


def keep(folder: Path, kept: Path) -> None:
    shutil.rmtree(kept, ignore_errors=True)
    shutil.copytree(folder, kept)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("age", [1, 17])
def test_a_store_put_back_ends_no_session(run: Run, pds: Pds, tmp_path: Path, kind: str, age: int) -> None:
    """The session that was rotated since needs a login here; where its newest tokens are, it lives."""
    folder, old, new = tmp_path / "store", tmp_path / "old", tmp_path / "new"
    account = pds.account(f"put-back-{kind}-{age}.test", oauth=1)
    refresh = ("refresh", "--force", account["did"], "--store")
    url = f"{kind}://{folder}/s"
    put_account(account["oauth"][0], url)
    assert run(*refresh, url).code == 0
    keep(folder, old)
    for _ in range(age):
        assert run(*refresh, url).code == 0
    keep(folder, new)
    shutil.rmtree(folder)
    keep(old, folder)
    done = run(*refresh, url)
    assert (done.code, "store.put_back" in done.err) == (3, True)
    (row,) = run("status", "--store", url, "--json").json["sessions"]
    assert row["cause"] == "restored_copy"
    assert "put back by hand" in run("check", "--store", url).out
    assert run(*refresh, f"{kind}://{new}/s").code == 0
    assert pds.living(account["did"]) == 1


@pytest.mark.parametrize("kind", KINDS)
def test_a_store_that_was_not_rotated_since_goes_on(run: Run, pds: Pds, tmp_path: Path, kind: str) -> None:
    """Put back although nothing was missed by this session: its PDS takes its token, and it is refreshed."""
    folder, old = tmp_path / "store", tmp_path / "old"
    one, other = (pds.account(f"{name}-{kind}.test", oauth=1) for name in ("still", "moves"))
    url = f"{kind}://{folder}/s"
    for account in (one, other):
        put_account(account["oauth"][0], url)
        assert run("refresh", "--force", account["did"], "--store", url).code == 0
    keep(folder, old)
    assert run("refresh", "--force", other["did"], "--store", url).code == 0
    shutil.rmtree(folder)
    keep(old, folder)
    assert run("refresh", "--force", one["did"], "--store", url).code == 0
    assert run("refresh", "--force", one["did"], "--store", url).code == 0


@pytest.mark.parametrize("kind", KINDS)
def test_a_store_that_moves_is_no_copy(run: Run, pds: Pds, tmp_path: Path, kind: str) -> None:
    """Another place has no witness: nothing is doubted there."""
    folder, there = tmp_path / "store", tmp_path / "there"
    account = pds.account(f"moved-{kind}.test", oauth=1)
    put_account(account["oauth"][0], f"{kind}://{folder}/s")
    assert run("refresh", "--force", account["did"], "--store", f"{kind}://{folder}/s").code == 0
    shutil.move(folder, there)
    done = run("refresh", "--force", account["did"], "--store", f"{kind}://{there}/s")
    assert (done.code, done.err) == (0, "")
