"""`import` and `export` against a simulated PDS: what is taken over is checked, and no session lives twice."""

import json
import os
import re
import shlex
import signal
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from idiolectd.cli import group
from idiolectd.daemon.single_instance import hold_single_instance
from tests import node
from tests.cli.conftest import Pds, Result, Run, put_record
from tests.cli.test_commands import stored

MOVING = Path(__file__).parents[2] / "docs" / "moving.md"


def node_map(*records: dict[str, Any]) -> dict[str, Any]:
    """The sessions of records as a Node program keeps them."""
    return {
        record["did"]: {
            "dpopJwk": {**json.loads(record["dpopPrivateKeyJwk"]), "alg": "ES256"},
            "authMethod": {"method": "none"},
            "tokenSet": {
                "iss": record["issuer"],
                "sub": record["did"],
                "aud": record["pdsUrl"],
                "scope": record["scope"],
                "refresh_token": record["refreshJwt"],
                "access_token": record["accessJwt"],
                "token_type": "DPoP",
                "expires_at": record["expiresAt"],
            },
        }
        for record in records
    }


def written(path: Path, value: Any) -> str:
    path.write_text(value if isinstance(value, str) else json.dumps(value))
    return str(path)


def results(done: Result) -> list[str]:
    return [line["result"] for line in done.json]


def test_a_dry_run_stores_nothing(run: Run, pds: Pds, store: Path, tmp_path: Path) -> None:
    """Without --yes it is told what would be imported and which program has to stop; no tokens are shown."""
    record = pds.account("dry.test", oauth=1)["oauth"][0]
    source = written(tmp_path / "sessions.json", node_map(record))
    done = run("import", source)
    assert done.code == 0, done.err
    assert "would_import" in done.out
    assert "to be stopped before: the Node program" in done.err
    assert "nothing was imported; add --yes" in done.err
    assert "1 of these sessions began: each ends in 14 days at the latest" in done.err
    assert list(store.glob("*.json")) == []
    assert record["refreshJwt"] not in done.out + done.err


def test_an_imported_session_is_refreshed(run: Run, pds: Pds, store: Path, tmp_path: Path) -> None:
    """It is stored with its account's handle, and the server takes its refresh token from us; twice is no more."""
    account = pds.account("moved.test", oauth=1)
    source = written(tmp_path / "sessions.json", node_map(account["oauth"][0]))
    done = run("import", source, "--yes", "--json")
    assert (done.code, results(done)) == (0, ["imported"]), done.err
    kept = stored(store, account["did"])
    assert (kept["confirmedHandle"], kept["pdsUrl"], kept["pds_url"]) == ("moved.test", pds.url, pds.url)
    assert results(run("import", source, "--yes", "--json")) == ["stored_already"]
    assert run("refresh", "moved.test", "--force").code == 0
    rotated = stored(store, account["did"])["refreshJwt"]
    again = run("import", source, "--yes", "--json")
    assert (again.code, results(again)) == (0, ["kept"])
    assert "was used up here" in again.json[0]["message"]
    assert stored(store, account["did"])["refreshJwt"] == rotated
    assert run("refresh", "moved.test", "--force").code == 0


def test_another_accounts_server_is_refused(run: Run, pds: Pds, store: Path, tmp_path: Path) -> None:
    """A session that names another issuer or PDS than the account's own is not stored; the others are."""
    good, bad = (pds.account(f"{name}.test", oauth=1)["oauth"][0] for name in ("good", "bad"))
    sessions = node_map(good, bad)
    sessions[bad["did"]]["tokenSet"]["iss"] = "https://evil.example"
    done = run("import", written(tmp_path / "two.json", sessions), "--yes", "--json")
    assert (done.code, results(done)) == (1, ["imported", "failed"])
    assert "names" in done.json[1]["message"]
    assert [path.name for path in store.glob("*.json")] == [good["did"].replace(":", "_") + ".json"]


def test_a_living_session_is_not_replaced(run: Run, pds: Pds, store: Path, tmp_path: Path) -> None:
    """An account has one session in a store: another one that is not known to be newer changes nothing."""
    first, second = pds.account("two.test", oauth=2)["oauth"]
    path = put_record(store, first)
    before = path.read_bytes()
    second = {**second, "issuedAt": first["issuedAt"], "accessJwt": first["accessJwt"]}
    done = run("import", written(tmp_path / "s.jsonl", json.dumps(second) + "\n"), "--yes", "--json")
    assert results(done) == ["kept"]
    assert path.read_bytes() == before


def test_a_client_that_nobody_names_is_asked_for(run: Run, pds: Pds, store: Path, tmp_path: Path) -> None:
    """Nothing is sent under a guessed client."""
    record = {**pds.account("nameless.test", oauth=1)["oauth"][0], "accessJwt": "opaque"}
    record.pop("clientId", None)
    source = written(tmp_path / "s.json", record)
    done = run("import", source, "--yes", "--json")
    assert (done.code, results(done)) == (1, ["failed"])
    assert "--client-id" in done.json[0]["message"]
    done = run("import", source, "--yes", "--json", "--client-id", "http://localhost")
    assert results(done) == ["imported"]
    assert stored(store, record["did"])["clientId"] == "http://localhost"


@pytest.mark.parametrize("form", ["node", "indigo", "record"])
def test_an_export_comes_back(run: Run, pds: Pds, store: Path, tmp_path: Path, form: str) -> None:
    """What is exported is paused here, and another store takes it over."""
    record = pds.account(f"out-{form}.test", oauth=1)["oauth"][0]
    put_record(store, record)
    target = tmp_path / "out.json"
    done = run("export", record["did"], "--form", form, "--to", str(target), "--json")
    assert (done.code, done.json["paused"]) == (0, True), done.err
    assert target.stat().st_mode & 0o777 == 0o600
    assert "paused" in run("refresh", record["did"], "--force").out
    assert run("export", "--all", "--form", form, "--to", str(target)).code == 2
    other = tmp_path / "other"
    back = run("import", str(target), "--yes", "--json", "--store", f"file://{other}")
    assert results(back) == ["imported"], back.err
    assert run("refresh", record["did"], "--force", "--store", f"file://{other}").code == 0


def test_an_export_of_app_passwords(run: Run, pds: Pds, store: Path, tmp_path: Path) -> None:
    """The SDK's session strings, one a line; --keep leaves the session here; an OAuth session has no place there."""
    account = pds.account("sdk.test", legacy=1, oauth=1)
    put_record(store, account["legacy"][0])
    target = tmp_path / "strings.txt"
    assert run("export", "--all", "--form", "string", "--to", str(target), "--keep").code == 0
    assert account["legacy"][0]["refreshJwt"] in target.read_text()
    assert run("refresh", account["did"], "--force").code == 0
    put_record(store, pds.account("nosdk.test", oauth=1)["oauth"][0])
    done = run("export", "--all", "--form", "string", "--to", str(tmp_path / "more.txt"))
    assert done.code == 1
    assert "nothing was exported" in done.err
    assert not (tmp_path / "more.txt").exists()


def test_a_folder_for_upstreams_cli(run: Run, pds: Pds, store: Path, tmp_path: Path) -> None:
    """One file for each session, under upstream's name."""
    record = pds.account("folder.test", oauth=1)["oauth"][0]
    put_record(store, record)
    assert run("export", "--all", "--form", "record", "--to", str(tmp_path / "folder")).code == 0
    (file,) = (tmp_path / "folder").iterdir()
    assert file.name == record["did"].replace(":", "_") + ".json"
    assert json.loads(file.read_text())["refreshJwt"] == record["refreshJwt"]


@pytest.mark.slow
def test_an_import_that_is_killed_is_repeated(
    environ: dict[str, str], run: Run, pds: Pds, store: Path, tmp_path: Path
) -> None:
    """Killed after any number of sessions, an import leaves whole records, and the next one does the rest."""
    records = [pds.account(f"kill-{n}.test", oauth=1)["oauth"][0] for n in range(6)]
    path = tmp_path / "app.db"
    with closing(sqlite3.connect(path)) as database:
        database.execute("CREATE TABLE oauth_session (key TEXT, value TEXT)")
        pairs = [(did, json.dumps(value)) for did, value in node_map(*records).items()]
        database.executemany("INSERT INTO oauth_session VALUES (?, ?)", pairs)
        database.commit()
    command = [sys.executable, "-m", "idiolectd", "import", str(path), "--yes"]
    for lines in (1, 2, 3):
        with subprocess.Popen(
            command, env=environ, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
        ) as process:
            assert process.stdout is not None
            for _ in range(lines):
                assert process.stdout.readline()
            os.kill(process.pid, signal.SIGKILL)
        for file in store.glob("*.json"):
            assert json.loads(file.read_text())["did"]
    done = run("import", str(path), "--yes", "--json")
    assert done.code == 0, done.err
    assert set(results(done)) <= {"imported", "stored_already"}
    assert len(list(store.glob("*.json"))) == len(records)
    assert run("refresh", "--all", "--force").code == 0


@pytest.mark.parametrize("text", re.findall(r"^idiolectd (.*)$", MOVING.read_text(), re.MULTILINE))
def test_the_documents_commands_can_be_typed(text: str) -> None:
    """Each command of docs/moving.md has only options that there are."""
    name, *words = shlex.split(text)
    group.commands[name].make_context(name, words).close()


def test_a_store_is_moved(run: Run, pds: Pds, store: Path, tmp_path: Path) -> None:
    """Shown first, refused beside a daemon, then moved: refreshed in the new store, and never again in the old one."""
    record = pds.account("store.test", oauth=1)["oauth"][0]
    put_record(store, record)
    target = tmp_path / "new.sqlite"
    command = ("migrate", "--from", f"{store}/", "--to", f"sqlite://{target}")
    assert "1 would_migrate" in run(*command).out
    assert not target.exists()
    with hold_single_instance(store / ".idiolectd"):
        refused = run(*command, "--yes")
        assert (refused.code, "stop it first" in refused.err) == (75, True)
    done = run(*command, "--yes", "--json")
    assert (done.code, done.json["sessions"]) == (0, {record["did"]: "migrated"}), done.err
    assert run(*command, "--yes", "--json").json["sessions"] == {record["did"]: "migrated_already"}
    assert run("refresh", record["did"], "--force", "--store", str(target)).code == 0
    assert "was migrated to" in run("refresh", record["did"], "--force").out
    assert "was migrated to" in run("resume", record["did"]).err
    assert run("migrate", "--from", str(target), "--to", str(target)).code == 2


@pytest.mark.slow
def test_the_npm_client_loads_and_saves(run: Run, pds: Pds, store: Path, tmp_path: Path) -> None:
    """Exported, refreshed by @atproto/oauth-client-node, and imported as that client has saved it."""
    program = node.node()
    record = pds.account("npm.test", oauth=1)["oauth"][0]
    put_record(store, record)
    target = tmp_path / "sessions.json"
    assert run("export", record["did"], "--form", "node", "--to", str(target)).code == 0
    script = tmp_path / "node_client.mjs"
    script.write_bytes((Path(__file__).parents[1] / "moving" / "node_client.mjs").read_bytes())
    (tmp_path / "node_modules").symlink_to(node.MODULES)
    done = subprocess.run(
        [program, script, target, record["clientId"], pds.url], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout) == (0, "restored\n"), done.stderr
    saved = json.loads(target.read_text())[record["did"]]
    assert saved["tokenSet"]["refresh_token"] != record["refreshJwt"]
    other = f"file://{tmp_path / 'other'}"
    assert results(run("import", str(target), "--yes", "--json", "--store", other)) == ["imported"]
    assert run("refresh", record["did"], "--force", "--store", other).code == 0
