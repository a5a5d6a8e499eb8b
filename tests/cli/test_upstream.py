"""The upstream CLI's way of typing, and its way of reading."""

import json
from pathlib import Path
from typing import Any

import pytest

from tests.cli.conftest import Pds, Run
from tests.cli.test_commands import only
from tests.store.support import GOLDEN


def read_as_the_upstream_cli(path: Path) -> dict[str, Any]:
    """Every field that its own file has must be there, as text; it knows no others."""
    record = json.loads(path.read_text())
    wanted = json.loads((GOLDEN / "cli_session.json").read_text())
    assert {name for name in wanted if not isinstance(record.get(name), str)} == set()
    return {name: record[name] for name in wanted}


def test_as_the_upstream_documents_type_it(
    run: Run, pds: Pds, store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """``oauth login``, ``list`` and ``logout`` in its default folder; what is stored it can read."""
    monkeypatch.delenv("IDIOLECTD_STORE__URL")
    account = pds.account("upstream.test")
    done = run(
        "oauth", "login", "--handle", "upstream.test", "--pds-url", pds.url, "--app-password", "pass-word"
    )
    assert done.code == 0, done.err
    (path,) = (tmp_path / ".config/idiolect/sessions").glob("*.json")
    assert read_as_the_upstream_cli(path)["pds_url"] == pds.url
    path.write_text(json.dumps(json.loads(path.read_text()) | {"botName": "herald"}))
    assert run("refresh", "--force", account["did"]).code == 0
    assert read_as_the_upstream_cli(path)["did"] == account["did"]
    assert run("oauth", "login", "--handle", "upstream.test", "--app-password", "pass-word").code == 0
    assert read_as_the_upstream_cli(path)
    assert json.loads(path.read_text())["botName"] == "herald"
    assert only(run("oauth", "list", "--json"))["did"] == account["did"]
    assert run("oauth", "--json", "logout", "--did", account["did"]).json["revoked"] is True
    assert not path.exists()
    assert "as the upstream CLI spells them" in run("oauth", "--help").out
