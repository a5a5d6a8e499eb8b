"""Commands that are given a handle: whose session it means."""

from pathlib import Path

import pytest

from tests.cli.conftest import Pds, Run, put_record
from tests.cli.test_commands import only, stored


def test_a_login_confirms(run: Run, pds: Pds, store: Path) -> None:
    """Both directions were asked for then; from then on the store alone is enough."""
    account = pds.account("fresh.test")
    assert run("login", "fresh.test", "--app-password", "pass-word").code == 0
    assert stored(store, account["did"])["confirmedHandle"] == "fresh.test"
    assert only(run("list", "--json"))["handle_confirmed"] is True
    row = only(run("status", "@Fresh.test", "--json"))
    assert (row["handle"], row["handle_confirmed"], row["claimed_handle"]) == ("fresh.test", True, None)
    pds.call("faults", {"kind": "respond", "match": "resolveHandle", "status": 503, "times": None})
    assert run("pause", "fresh.test").code == 0


def test_a_handle_is_confirmed_when_it_is_needed(run: Run, pds: Pds, store: Path) -> None:
    """A record of the upstream programs; what was found is written down, and its tokens stay."""
    account = pds.account("old.test", oauth=1)
    put_record(store, account["oauth"][0])
    assert run("status", "old.test").out.count("(unconfirmed)") == 1
    assert run("pause", "old.test").code == 0
    record = stored(store, account["did"])
    assert record["confirmedHandle"] == "old.test"
    assert record["refreshJwt"] == account["oauth"][0]["refreshJwt"]
    pds.call("faults", {"kind": "respond", "match": "resolveHandle", "status": 503, "times": None})
    assert run("resume", "old.test").code == 0


def test_an_impostor_gets_nothing(run: Run, pds: Pds, store: Path) -> None:
    """The record of another account, whose server calls it so: no command takes it for the account."""
    alice, mallory = pds.account("wanted-one.test", oauth=1), pds.account("mallory-one.test", oauth=1)
    impostor = put_record(store, mallory["oauth"][0] | {"handle": "wanted-one.test"})
    before = impostor.read_bytes()
    for command in (("refresh", "--force"), ("logout",), ("pause",), ("headers", "--url", pds.url)):
        done = run(*command, "wanted-one.test")
        assert (done.code, alice["did"] in done.err, mallory["did"] in done.err) == (1, True, True)
    assert impostor.read_bytes() == before
    put_record(store, alice["oauth"][0])
    assert f"{alice['did']}: refreshed" in run("refresh", "--force", "@Wanted-One.test").out
    assert impostor.read_bytes() == before
    assert [row["did"] for row in run("status", "wanted-one.test", "--json").json["sessions"]] == [
        alice["did"]
    ]


@pytest.mark.parametrize(("fault", "code"), [({"status": 503}, 75), ({"status": 400, "body": "{}"}, 1)])
def test_what_can_not_be_confirmed(
    run: Run, pds: Pds, store: Path, fault: dict[str, object], code: int
) -> None:
    """The DID is named, and always works."""
    account = pds.account("silent.test", oauth=1)
    put_record(store, account["oauth"][0])
    pds.call("faults", {"kind": "respond", "match": "resolveHandle", "times": None} | fault)
    done = run("pause", "silent.test")
    assert (done.code, account["did"] in done.err, "name the DID" in done.err) == (code, True, True)
    assert run("pause", account["did"]).code == 0


def test_a_batch_is_not_kept_from_a_login(run: Run, pds: Pds, store: Path, tmp_path: Path) -> None:
    """That some living session calls itself so does not log the account in."""
    alice, mallory = pds.account("wanted-two.test"), pds.account("mallory-two.test", oauth=1)
    put_record(store, mallory["oauth"][0] | {"handle": "wanted-two.test"})
    path = tmp_path / "accounts"
    path.touch(0o600)
    path.write_text("wanted-two.test pass-word\n")
    for result in ("logged_in", "skipped"):
        (line,) = run("login", "--batch", str(path), "--json").json
        assert (line["result"], line["did"]) == (result, alice["did"])
