"""The commands against a simulated PDS and a store of files."""

import json
import os
import re
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import anyio
import pytest

from idiolectd import SqliteOAuthTokenStore, __version__, open_store
from idiolectd.daemon.single_instance import hold_single_instance, own_presence
from idiolectd.ports import Spilled
from tests.cli.conftest import Pds, Result, Run, put_record
from tests.cli.test_rows import FIELDS
from tests.store.support import Child


def only(result: Result) -> Any:
    """The one element of a JSON list, or the one session of a status."""
    (found,) = result.json["sessions"] if isinstance(result.json, dict) else result.json
    return found


def stored(store: Path, did: str) -> dict[str, Any]:
    (path,) = (path for path in store.glob("*.json") if json.loads(path.read_text())["did"] == did)
    found: dict[str, Any] = json.loads(path.read_text())
    return found


# login -------------------------------------------------------------------------------------------


def test_login(run: Run, pds: Pds, store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A login stores a legacy session of the account's own PDS, readable by its owner only."""
    account = pds.account("login.test")
    monkeypatch.setenv("ATPROTO_APP_PASSWORD", "pass-word")
    done = run("login", "login.test", "--json")
    assert done.code == 0, done.err
    assert done.json["did"] == account["did"]
    record = stored(store, account["did"])
    assert (record["tokenType"], record["pdsUrl"], record["handle"]) == ("Bearer", pds.url, "login.test")
    assert {path.stat().st_mode & 0o777 for path in store.glob("*.json")} == {0o600}
    assert "pass-word" not in json.dumps(record) + done.out + done.err
    assert pds.living(account["did"]) == 1


@pytest.mark.parametrize("variable", ["ATPROTO_APP_PASSWORD", "ATPROTO_PASSWORD"])
def test_login_as_upstream_spells_it(
    run: Run, pds: Pds, monkeypatch: pytest.MonkeyPatch, variable: str
) -> None:
    """--handle and both of the upstream CLI's variables work."""
    handle = variable.lower().replace("_", "-") + ".test"
    pds.account(handle)
    monkeypatch.setenv(variable, "pass-word")
    done = run("login", "--handle", handle, "--pds-url", pds.url)
    assert (done.code, f"logged in: {handle}" in done.out) == (0, True), done.err


def test_login_of_a_paused_session(run: Run, pds: Pds, monkeypatch: pytest.MonkeyPatch) -> None:
    """A pause outlives a login, which says so; without one it says nothing of the kind."""
    did = pds.account("paused.test")["did"]
    monkeypatch.setenv("ATPROTO_APP_PASSWORD", "pass-word")
    assert "resume" not in run("login", did).err
    assert run("pause", did).code == 0
    assert f"idiolectd resume {did}" in run("login", did).err
    assert only(run("status", did, "--json"))["cause"] == "paused"


def test_login_password_option(run: Run, pds: Pds, store: Path) -> None:
    """--app-password and a DID work, beside the PDS's name."""
    account = pds.account("option.test")
    done = run("login", account["did"], "--pds-url", pds.url, "--app-password", "pass-word")
    assert done.code == 0, done.err
    assert stored(store, account["did"])


def test_login_password_from_standard_input(run_process: Run, pds: Pds) -> None:
    """Without a terminal the password is the first line of standard input."""
    pds.account("stdin.test")
    done = run_process("login", "stdin.test", stdin="pass-word\n")
    assert done.code == 0, done.err
    assert run_process("login", "stdin.test").code == 2


def test_login_refused(run: Run, pds: Pds, store: Path) -> None:
    """A wrong password is one line, exit 1, and stores nothing."""
    pds.account("refused.test")
    done = run("login", "refused.test", "--app-password", "wr0ng-secret")
    assert done.code == 1
    assert len(done.err.splitlines()) == 1
    assert done.err.startswith("idiolectd: ")
    assert "wr0ng" not in done.err
    assert not list(store.glob("*.json"))


def test_login_rate_limited(run: Run, pds: Pds) -> None:
    """A server that asks to wait makes exit 75."""
    pds.account("limited.test")
    pds.call(
        "faults",
        {
            "kind": "respond",
            "match": "createSession",
            "status": 429,
            "headers": [["retry-after", "300"], ["content-type", "application/json"]],
            "body": '{"error":"RateLimitExceeded","message":"slow down"}',
        },
    )
    assert run("login", "limited.test", "--app-password", "pass-word").code == 75


def test_login_unknown_account(run: Run, pds: Pds) -> None:
    """An account that does not exist is exit 1, two accounts or none exit 2."""
    assert run("login", "nobody.test", "--app-password", "x").code == 1
    assert run("login", "a.test", "--handle", "b.test", "--app-password", "x").code == 2
    assert run("login").code == 2


def test_login_somebody_else(run: Run, pds: Pds, store: Path) -> None:
    """A PDS that logs in another account than was asked for leaves nothing behind."""
    one, other = pds.account("one.test"), pds.account("other.test", legacy=1)
    session = {
        "did": other["did"],
        "handle": "other.test",
        "accessJwt": other["legacy"][0]["accessJwt"],
        "refreshJwt": other["legacy"][0]["refreshJwt"],
    }
    pds.call(
        "faults",
        {
            "kind": "respond",
            "match": "createSession",
            "status": 200,
            "headers": [["content-type", "application/json"]],
            "body": json.dumps(session),
        },
    )
    done = run("login", one["did"], "--app-password", "pass-word")
    assert (done.code, "instead of" in done.err) == (1, True)
    assert not list(store.glob("*.json"))


# list and status ---------------------------------------------------------------------------------


def test_list(run: Run, pds: Pds, store: Path) -> None:
    """`list` shows DID, handle and PDS; as JSON also the kind."""
    assert run("list") == Result(0, "", "")
    account = pds.account("listed.test", oauth=1)
    put_record(store, account["oauth"][0])
    done = run("list")
    assert done.code == 0
    assert re.split(r"\s+", done.out.splitlines()[-1].strip()) == [
        account["did"],
        "listed.test",
        "(unconfirmed)",
        pds.url,
    ]
    assert only(run("list", "--json")) == {
        "did": account["did"],
        "handle": "listed.test",
        "handle_confirmed": False,
        "pds_url": pds.url,
        "kind": "dpop",
    }


def test_status_json(run: Run, pds: Pds, store: Path) -> None:
    """`status --json` is an object, and each of its sessions has the documented fields."""
    account = pds.account("status.test", oauth=1)
    put_record(store, account["oauth"][0])
    done = run("status", "--json")
    row = only(done)
    assert list(row) == [*FIELDS, "needs_person"]
    assert (row["did"], row["handle"], row["kind"], row["state"]) == (
        account["did"],
        "status.test",
        "dpop",
        "fresh",
    )
    assert done.err == ""
    assert list(done.json) == ["daemon", "store", "sessions", "totals"]
    assert done.json["daemon"]["running"] is False
    assert done.json["store"] == {
        "url": f"file://{store}",
        "named_by": "$IDIOLECTD_STORE__URL",
        "config": None,
        "exists": True,
    }
    assert done.json["totals"] == {"sessions": 1, "listed": 1, "need_person": 0, "states": {"fresh": 1}}
    assert only(run("--json", "status", "status.test")) == row
    assert only(run("status", "--did", account["did"], "--json")) == row
    assert run("status", "--json", "--state", "retrying").json["sessions"] == []


def test_status_for_people(run: Run, pds: Pds, store: Path) -> None:
    """For people: which store and configuration, totals, a table, and no colours in a pipe."""
    put_record(store, pds.account("people.test", oauth=1)["oauth"][0])
    done = run("status")
    lines = done.out.splitlines()
    assert lines[:6] == [
        f"store: file://{store} ($IDIOLECTD_STORE__URL)",
        "configuration: none",
        "daemon: not running",
        "1 session: 1 fresh",
        "",
        "HANDLE        STATE  EXPIRES  NEXT    LAST  WHY",
    ]
    assert lines[6].split()[:4] == ["people.test?", "fresh", "in", "59m"]
    assert lines[8:] == [
        "no daemon runs: nobody refreshes these sessions",
        f"    idiolectd run --store file://{store}",
        "",
    ]
    assert "\x1b" not in done.out


def test_status_names_who_holds_a_session(run: Run, pds: Pds, store: Path) -> None:
    """A session that is due and held by a process that hangs is shown with that process."""
    record = pds.account("held.test", oauth=1)["oauth"][0]
    put_record(store, record | {"issuedAt": "2026-01-01T00:00:00Z", "expiresAt": "2026-01-01T01:00:00Z"})
    assert only(run("status", "--json"))["held_by"] is None
    with Child("trio", "claim", f"file://{store}", record["did"]) as child:
        assert child.line() == "ready"
        held_by = only(run("status", "--json"))["held_by"]
        assert held_by.startswith(f"process {child.process.pid} (python")
        assert f"held by process {child.process.pid}" in " ".join(run("status").out.split())


def test_status_sends_and_writes_nothing(run: Run, pds: Pds, store: Path) -> None:
    """`status` and `list` leave the store and the network as they were."""
    path = put_record(store, pds.account("quiet.test", oauth=1)["oauth"][0])
    pds.call("faults", {"kind": "drop_before", "times": 1})
    before = (path.read_bytes(), path.stat().st_mtime_ns)
    assert run("status").code == run("list").code == 0
    assert (path.read_bytes(), path.stat().st_mtime_ns) == before
    assert pds.call("stats", method="GET")


def test_status_of_nobody(run: Run, pds: Pds) -> None:
    """An account that is not stored is an empty list and a word, and still exit 0."""
    for account in ("nobody.test", "did:plc:ewvi7nxzyoun6zhxrhs64oiz"):
        done = run("status", account, "--json")
        assert (done.code, done.json["sessions"]) == (0, [])
        assert f"idiolectd login {account}" in done.err
    assert run("status", "did:nonsense").code == 2
    assert run("status", "--state", "nonsense").code == 2


def test_server_text_can_not_move_the_cursor(run: Run, pds: Pds, store: Path) -> None:
    """Control characters in a stored handle are shown as such."""
    record = pds.account("cursor.test", oauth=1)["oauth"][0]
    put_record(store, record | {"handle": "x\x1b[2Jy"})
    for command in ("list", "status"):
        assert "\x1b" not in run(command).out


# refresh -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["oauth", "legacy"])
def test_refresh(run: Run, pds: Pds, store: Path, kind: str) -> None:
    """A session that is not due is left alone, a forced one gets new tokens."""
    account = pds.account(f"refresh-{kind}.test", **{kind: 1})
    put_record(store, account[kind][0])
    before = stored(store, account["did"])
    first = run("refresh", account["did"], "--json")
    assert (first.code, only(first)["result"]) == (0, "current"), first.err
    assert stored(store, account["did"])["refreshJwt"] == before["refreshJwt"]
    second = run("refresh", "--force", f"refresh-{kind}.test")
    assert (second.code, f"{account['did']}: refreshed" in second.out) == (0, True), second.err
    assert stored(store, account["did"])["refreshJwt"] != before["refreshJwt"]
    row = only(run("status", account["did"], "--json"))
    assert row["last_success_at"] is not None


def test_refresh_of_a_dead_session(run: Run, pds: Pds, store: Path) -> None:
    """A session that the server has ended is exit 3 with the command to type, forced or not."""
    account = pds.account("dead.test", oauth=1)
    put_record(store, account["oauth"][0])
    pds.call("revoke_sessions", {"did": account["did"]})
    for arguments in (("--force",), ("--force",), ()):
        done = run("refresh", account["did"], "--json", *arguments)
        assert done.code == 3, done.err
        assert only(done)["result"] == "relogin_required"
        assert only(done)["action"] == f"idiolectd login {account['did']} --store file://{store}"
    row = only(run("status", "--json", "--state", "relogin_required"))
    assert row["action"] == f"idiolectd login {account['did']} --store file://{store}"
    assert row["last_error"]["code"] == "invalid_grant"
    checked = run("check")
    assert (checked.code, "dead.test" in checked.out) == (3, True)


def test_a_refused_session_is_shown_before_it_is_dead(
    run: Run, pds: Pds, store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One refusal is no verdict: exit 75, and status tells what the server says and since when."""
    monkeypatch.setenv("IDIOLECTD_REFRESH__CONFIRM", "2m")
    account = pds.account("refused.test", oauth=1)
    put_record(store, account["oauth"][0])
    pds.call("revoke_sessions", {"did": account["did"]})
    assert run("refresh", account["did"], "--force").code == 75
    row = only(run("status", "--json"))
    assert (row["state"], row["cause"]) == ("retrying", "refresh_token_unknown")
    assert row["refused_since"] is not None
    assert row["last_error"]["message"].endswith("Invalid refresh token")
    assert "refused since" in run("status").out
    done = run("headers", account["did"], "--url", f"{pds.url}/xrpc/com.atproto.server.getSession")
    assert (done.code, "Invalid refresh token" in done.err) == (75, True)


def test_a_dead_session_is_revived_on_purpose(run: Run, pds: Pds, store: Path) -> None:
    """--revive tries it once: it lives if its server takes it, else it stays dead. Never everybody."""
    account = pds.account("revived.test", oauth=1)
    put_record(store, account["oauth"][0])
    body = '{"error":"invalid_grant","error_description":"Invalid refresh token"}'
    pds.call("faults", {"kind": "respond", "match": "/oauth/token", "status": 400, "times": 2, "body": body})
    assert run("refresh", "--force", "revived.test").code == 3
    done = run("refresh", "--revive", "revived.test", "--json")
    assert (done.code, only(done)["result"]) == (3, "relogin_required")
    assert run("refresh", "--force", "revived.test").code == 3
    done = run("refresh", "--revive", "revived.test", "--json")
    assert (done.code, only(done)["result"]) == (0, "refreshed"), done.err
    assert only(run("status", "--json"))["state"] == "fresh"
    assert run("refresh", "--revive", "--all").code == 2


def test_refresh_later(run: Run, pds: Pds, store: Path) -> None:
    """A server in trouble is exit 75, and the session lives."""
    account = pds.account("later.test", oauth=1)
    put_record(store, account["oauth"][0])
    pds.call("faults", {"kind": "respond", "match": "/oauth/token", "status": 503, "times": 1})
    done = run("refresh", "--force", account["did"], "--json")
    assert (done.code, only(done)["result"]) == (75, "retrying")
    assert run("refresh", "--force", account["did"]).code == 0


def test_refresh_all(run: Run, pds: Pds, store: Path) -> None:
    """--all takes every session; the exit code is that of the one that needs a person most."""
    accounts = [pds.account(f"all{number}.test", legacy=1) for number in range(3)]
    for account in accounts:
        put_record(store, account["legacy"][0])
    assert [line["result"] for line in run("refresh", "--all", "--json").json] == ["current"] * 3
    pds.call("revoke_sessions", {"did": accounts[1]["did"]})
    done = run("refresh", "--all", "--force", "--json")
    results = {line["did"]: line["result"] for line in done.json}
    assert results[accounts[0]["did"]] == results[accounts[2]["did"]] == "refreshed"
    assert results[accounts[1]["did"]] == "relogin_required"
    assert done.code == 3


def test_refresh_of_nobody(run: Run) -> None:
    """What is not stored needs a login; nobody, or everybody and somebody, is wrong usage."""
    for account in ("nobody.test", "did:plc:ewvi7nxzyoun6zhxrhs64oiz"):
        assert run("refresh", account).code == 3
    assert run("refresh").code == 2
    assert run("refresh", "--all", "a.test").code == 2


# logout ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["oauth", "legacy"])
def test_logout(run: Run, pds: Pds, store: Path, kind: str) -> None:
    """A logout ends the session at its server and removes all that is stored of it."""
    account = pds.account(f"logout-{kind}.test", **{kind: 1})
    put_record(store, account[kind][0])
    run("refresh", account["did"], "--force")  # now there is a state, and a predecessor in its grace
    done = run("logout", f"logout-{kind}.test", "--json")
    assert done.code == 0, done.err
    assert done.json == {"did": account["did"], "revoked": True, "deleted": True}
    assert pds.living(account["did"]) == 0
    assert run("status", "--json").json["sessions"] == []
    left = [path for path in store.rglob("*") if path.is_file() and b"Jwt" in path.read_bytes()]
    assert left == []


def test_logout_without_the_server(run: Run, pds: Pds, store: Path) -> None:
    """Nothing is deleted while the server does not answer, unless one insists."""
    account = pds.account("offline.test", oauth=1)
    path = put_record(store, account["oauth"][0])
    pds.call("faults", {"kind": "connect_error", "times": None})
    done = run("logout", account["did"])
    assert done.code == 75
    assert "nothing was deleted" in done.err
    assert path.exists()
    local = run("logout", account["did"], "--local", "--json")
    assert (local.code, local.json["revoked"]) == (0, False)
    assert "may live on" in local.err
    assert not path.exists()


def test_logout_that_did_not_take(run: Run, pds: Pds, store: Path) -> None:
    """A server that says 200 and does not revoke is not believed."""
    account = pds.account("liar.test", oauth=1)
    put_record(store, account["oauth"][0])
    pds.call(
        "faults",
        {
            "kind": "respond",
            "match": "/oauth/revoke",
            "times": None,
            "status": 200,
            "headers": [["content-type", "application/json"]],
            "body": "{}",
        },
    )
    done = run("logout", account["did"])
    assert done.code == 1
    assert stored(store, account["did"])


def test_logout_of_nobody(run: Run) -> None:
    """What is not stored can't be logged out."""
    assert run("logout", "did:plc:ewvi7nxzyoun6zhxrhs64oiz").code == 1
    assert run("logout").code == 2


# check and everything else -----------------------------------------------------------------------


def test_check(run: Run, pds: Pds, store: Path) -> None:
    """`check` tells what it looked at and exits 0 when all is well."""
    put_record(store, pds.account("checked.test", oauth=1)["oauth"][0])
    done = run("check", "--json")
    assert done.code == 0, done.out
    found = {finding["check"]: finding["verdict"] for finding in done.json}
    assert found["configuration"] == found["store"] == found["permissions"] == "ok"


def test_check_permissions(run: Run, store: Path) -> None:
    """A store that every user can open is a failure, with the command that mends it."""
    store.chmod(0o755)
    done = run("check")
    assert done.code == 1
    assert f"chmod o-rwx {store}" in done.out


def test_check_client_keys(run: Run, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A client key that is missing or no key is a fault of the configuration."""
    key = tmp_path / "key.json"
    key.touch(0o600)
    clients = f'[{{ client_id = "https://a.example/c.json", keys = [{{ kid = "1", file = "{key}" }}] }}]'
    monkeypatch.setenv("IDIOLECTD_OAUTH__CLIENTS", clients)
    for text in ("", "{}", '{"kty": "EC", "d": "s3cret"}'):
        key.write_text(text)
        done = run("check")
        assert done.code == 2
        assert "failed   client key 1" in done.out
        assert "s3cret" not in done.out


def test_unreadable_record(run: Run, pds: Pds, store: Path) -> None:
    """A broken record is told of by `status` and `check`, and disturbs no other."""
    put_record(store, pds.account("whole.test", oauth=1)["oauth"][0])
    path = store / "did_plc_broken.json"
    path.touch(0o600)
    path.write_text('{"did": "did:plc:broken"')
    broken, whole = run("status", "--json").json["sessions"]
    assert (broken["did"], broken["state"]) == ("did:plc:broken", "quarantined")
    assert (whole["handle"], whole["state"]) == ("whole.test", "fresh")
    assert run("status", "whole.test").err == ""
    row = only(run("status", "did:plc:broken", "--json"))
    assert (row["did"], row["state"]) == ("did:plc:broken", "quarantined")
    assert row["action"] == f"idiolectd logout did:plc:broken --local --store file://{store}"
    assert str(path) in row["last_error"]["message"]
    check = run("check")
    assert check.code == 1
    assert str(path) in check.out
    assert run("refresh", "did:plc:broken").code == 1
    assert run("refresh", "whole.test").code == 0
    assert run("logout", "did:plc:broken").code == 1
    assert path.exists()
    assert run("logout", "did:plc:broken", "--local").code == 0
    assert not path.exists()


def test_wrong_configuration(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every problem of the configuration is one line, exit 2, with any command."""
    monkeypatch.setenv("IDIOLECTD_REFRESH__CONCURRENCY", "0")
    monkeypatch.setenv("IDIOLECTD_LOG__LEVEL", "loud")
    for command in ("list", "run", "check", "status"):
        done = run(command)
        assert done.code == 2
        lines = done.err.splitlines()
        assert len(lines) == 2
        assert all(line.startswith("idiolectd: $IDIOLECTD_") for line in lines)


def test_store_that_can_not_be_opened(run: Run, tmp_path: Path) -> None:
    """A store in a place that can't be is one line and exit 1."""
    (tmp_path / "file").touch()
    done = run("list", "--store", f"file://{tmp_path}/file/sessions")
    assert (done.code, done.out) == (1, "")
    assert len(done.err.splitlines()) == 1


@pytest.mark.parametrize("url", ["file://{}/typo", "sqlite://{}/typo.sqlite"])
def test_no_store_yet(run: Run, tmp_path: Path, url: str) -> None:
    """Looking at a store that is not there says so and makes none; `check` calls it a failure."""
    url = url.format(tmp_path)
    for command, code in (("status", 0), ("list", 0), ("check", 1)):
        done = run(command, "--store", url)
        assert done.code == code
        assert f"no store at {url}" in done.err or f"none at {url}" in done.out
    assert not list(tmp_path.glob("typo*"))


def test_sqlite_store(run: Run, tmp_path: Path, pds: Pds) -> None:
    """All commands work on a SQLite store too."""
    account = pds.account("sqlite.test")
    url = f"sqlite://{tmp_path}/sessions.sqlite"
    assert run("login", "sqlite.test", "--app-password", "pass-word", "--store", url).code == 0
    assert only(run("list", "--json", "--store", url))["did"] == account["did"]
    assert run("refresh", "--force", "sqlite.test", "--store", url).code == 0
    row = only(run("status", "--json", "--store", url))
    assert (row["state"], row["last_success_at"] is not None) == ("fresh", True)
    assert run("check", "--store", url).code == 0
    assert run("logout", "sqlite.test", "--store", url).code == 0
    assert run("list", "--json", "--store", url).json == []
    assert pds.living(account["did"]) == 0


def test_a_large_store_is_not_read_whole(
    run: Run, tmp_path: Path, pds: Pds, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Totals, and the sessions that need a look; a handle is found by the index."""
    url = f"sqlite://{tmp_path}/sessions.sqlite"
    for handle in ("paused.test", "fine.test", "well.test"):
        account = pds.account(handle)
        assert run("login", handle, "--app-password", "pass-word", "--store", url).code == 0
    assert run("refresh", "--all", "--store", url).code == 0
    assert run("pause", "paused.test", "--store", url).code == 0
    assert "well.test" in run("status", "--store", url).out
    monkeypatch.setattr("idiolectd.cli.status_report.MOST_LISTED", 2)
    monkeypatch.setattr(SqliteOAuthTokenStore, "survey", None)
    done = run("status", "--store", url)
    assert "3 sessions: 1 suspended, 2 fresh" in done.out
    assert "2 more (--all lists all)" in done.out
    assert "paused.test" in done.out
    assert "well.test" not in done.out
    assert "well.test" in run("status", "well.test", "--store", url).out

    async def spill() -> None:
        async with open_store(url) as opened:
            session = await opened.load(account["did"])
            assert session is not None
            assert opened.spill is not None
            await opened.spill.put(Spilled(session.refresh_token_hash, session))

    anyio.run(spill)
    assert "well.test" in run("status", "--store", url).out  # the index can't know of it
    assert run("refresh", "fine.test", "--store", url).code == 0


def test_store_option(run: Run, tmp_path: Path, pds: Pds, monkeypatch: pytest.MonkeyPatch) -> None:
    """--store beats the configuration, before or after the command, and takes a relative path."""
    other = tmp_path / "other"
    other.mkdir(0o700)
    account = pds.account("elsewhere.test", oauth=1)
    put_record(other, account["oauth"][0])
    monkeypatch.chdir(tmp_path)
    for arguments in (
        ("--store", f"file://{other}", "list", "--json"),
        ("list", "--json", "--store", "other/"),
        ("list", "--json", "--store", "other"),
    ):
        assert only(run(*arguments))["did"] == account["did"]
    assert run("list", "--json").json == []


def test_configuration_file(run: Run, tmp_path: Path) -> None:
    """`status` names the configuration that was found."""
    path = tmp_path / "x.toml"
    path.write_text("[refresh]\nconcurrency = 2\n")
    assert f"configuration: {path}" in run("status", "--config", str(path)).out.splitlines()


@pytest.mark.parametrize(
    "command",
    [
        "run",
        "login",
        "list",
        "logout",
        "refresh",
        "pause",
        "resume",
        "status",
        "check",
        "import",
        "export",
        "migrate",
        "headers",
        "unit",
    ],
)
def test_help_teaches(run: Run, command: str) -> None:
    """Every command explains itself with examples."""
    done = run(command, "--help")
    assert done.code == 0
    assert "Examples:" in done.out
    assert f"idiolectd {command}" in done.out
    assert "--json" in done.out


def test_help_and_version(run: Run) -> None:
    """The program's own help lists the commands in order, and the exit codes."""
    text = run("--help").out
    commands = re.findall(r"^  (\w+)  +\S", text.partition("Commands:")[2].partition("\n\n")[0], re.MULTILINE)
    assert commands == [
        "run",
        "login",
        "list",
        "logout",
        "refresh",
        "pause",
        "resume",
        "status",
        "check",
        "import",
        "export",
        "migrate",
        "backup",
        "restore",
        "headers",
        "rekey",
        "client",
        "unit",
        "oauth",
    ]
    assert "75" in text
    assert re.fullmatch(r"idiolectd \d+\.\d+\S*\n", run("--version").out)


def test_wrong_usage(run: Run) -> None:
    """A mistyped command or option is exit 2 and a hint, on standard error."""
    for arguments in (("lsit",), ("list", "--jsno"), ("status", "a", "b")):
        done = run(*arguments)
        assert (done.code, done.out) == (2, "")
        assert "--help" in done.err


def test_memory_store(run: Run) -> None:
    """The URL memory: works, and is empty."""
    assert run("list", "--json", "--store", "memory:").json == []


def test_a_misspelt_store_is_not_made(run: Run, tmp_path: Path) -> None:
    """`refresh` and `logout` say that there is no store, and make none."""
    place = tmp_path / "no" / "such.sqlite"
    for command in ("refresh", "logout"):
        done = run(command, "did:plc:ewvi7nxzyoun6zhxrhs64oiz", "--store", str(place))
        assert done.code == 1
        assert f"there is no store at {place}" in done.err
    assert not place.parent.exists()


# the daemon --------------------------------------------------------------------------------------


@contextmanager
def a_daemon(store: Path, *, version: str = __version__) -> Iterator[None]:
    """The lock and the note of a daemon that runs."""
    folder = store / ".idiolectd"
    with hold_single_instance(folder) as instance:
        instance.keep(replace(own_presence(time.time(), None), version=version))
        yield


def test_exit_code_by_need(run: Run, pds: Pds, store: Path) -> None:
    """--exit-code: 3 without a daemon, 1 if a session needs a person, else 0; plain status exits 0."""
    account = pds.account("need.test", oauth=1)
    put_record(store, account["oauth"][0])
    assert run("refresh", "need.test").code == 0
    assert run("status", "--exit-code").code == 3
    with a_daemon(store):
        assert run("status", "--exit-code").code == 0
        assert run("status", "--json").json["daemon"]["running"] is True
        assert run("status", "nobody.test", "--exit-code").code == 1
        pds.call("revoke_sessions", {"did": account["did"]})
        assert run("refresh", "need.test", "--force").code == 3
        assert run("status", "--exit-code").code == 1
        assert run("status").code == 0
    assert run("status", "--exit-code").code == 3


def test_check_knows_the_daemon(run: Run, pds: Pds, store: Path) -> None:
    """That none runs is a warning with the command that starts it, and so is one of another version."""
    put_record(store, pds.account("checked.test", oauth=1)["oauth"][0])
    done = run("check")
    assert (done.code, f"run: idiolectd run --store file://{store}" in done.out) == (0, True)
    assert re.search(r"^warning +daemon: none runs", done.out, re.MULTILINE)
    with a_daemon(store):
        assert re.search(rf"^ok +daemon: runs, pid {os.getpid()}", run("check").out, re.MULTILINE)
    with a_daemon(store, version="0.1"):
        assert re.search(r"^warning +daemon: pid \d+ is version 0.1", run("check").out, re.MULTILINE)
