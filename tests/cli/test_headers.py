"""``idiolectd headers`` against a simulated PDS: what it prints is taken there."""

import json
import urllib.error
import urllib.request
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from tests.cli.conftest import Pds, Run, put_record

CALL = "/xrpc/com.atproto.server.getSession"


def account(pds: Pds, store: Path, handle: str, kind: str = "oauth") -> dict[str, Any]:
    record: dict[str, Any] = pds.account(handle, **{kind: 1})[kind][0]
    put_record(store, record)
    return record


def call(url: str, headers: Mapping[str, str], method: str = "GET") -> int:
    request = urllib.request.Request(url, headers=dict(headers), method=method)
    try:
        with urllib.request.urlopen(request, timeout=10) as answer:
            return int(answer.status)
    except urllib.error.HTTPError as error:
        with error:
            return error.code


def lines(text: str) -> dict[str, str]:
    return dict(line.split(": ", 1) for line in text.splitlines())


@pytest.mark.parametrize("kind", ["oauth", "legacy"])
def test_what_is_printed_works(run: Run, pds: Pds, store: Path, kind: str) -> None:
    """Header lines that curl takes from a file, and the same as an object; each is taken by the server."""
    account(pds, store, f"headers-{kind}.test", kind)
    url = pds.url + CALL + "?a=b"
    done = run("headers", f"headers-{kind}.test", "--url", url)
    assert done.code == 0, done.err
    found = lines(done.out)
    assert list(found) == (["Authorization", "DPoP"] if kind == "oauth" else ["Authorization"])
    assert call(url, found) == 200
    shown = run("headers", f"headers-{kind}.test", "--url", url, "--json").json
    assert list(shown) == list(found)
    assert call(url, shown) == 200


def test_the_method_is_part_of_the_proof(run: Run, pds: Pds, store: Path) -> None:
    """A proof for POST is refused for GET."""
    record = account(pds, store, "method.test")
    url = pds.url + CALL
    found = lines(run("headers", record["did"], "-X", "post", "--url", url).out)
    assert call(url, found) == 401


def test_with_a_nonce_nobody_is_asked(run: Run, pds: Pds, store: Path) -> None:
    """--nonce goes into the proof as it is."""
    record = account(pds, store, "nonce.test")
    before = pds.call("stats", method="GET")["requests"]
    done = run("headers", record["did"], "--url", pds.url + CALL, "--nonce", "n-1")
    assert done.code == 0, done.err
    assert pds.call("stats", method="GET")["requests"] == before


def test_another_host_gets_nothing_unasked(run: Run, pds: Pds, store: Path) -> None:
    """Exit 2 with the way out; with --any-host the headers, but never for plain HTTP."""
    record = account(pds, store, "host.test")
    for url in ("https://evil.example/x", "nonsense"):
        refused = run("headers", record["did"], "--url", url)
        assert (refused.code, refused.out) == (2, "")
        assert "--any-host" in refused.err
    done = run("headers", record["did"], "--url", "https://appview.example/x", "--any-host")
    assert done.code == 0, done.err
    assert "nonce" in done.err
    plain = run("headers", record["did"], "--url", "http://appview.example/x", "--any-host")
    assert (plain.code, plain.out) == (1, "")


def test_a_refused_token(run: Run, pds: Pds, store: Path) -> None:
    """75 while somebody may refresh it, 3 once the session is known to have ended."""
    record = account(pds, store, "refused-token.test")
    pds.call("revoke_sessions", {"did": record["did"]})
    done = run("headers", record["did"], "--url", pds.url + CALL)
    assert (done.code, done.out) == (75, "")
    assert f"idiolectd refresh --force {record['did']}" in done.err
    assert run("refresh", "--force", record["did"]).code == 3
    done = run("headers", record["did"], "--url", pds.url + CALL)
    assert (done.code, done.out) == (3, "")
    assert f"idiolectd login {record['did']}" in done.err


def test_a_server_in_trouble(run: Run, pds: Pds, store: Path) -> None:
    """An answer that is none: try again later."""
    record = account(pds, store, "trouble.test")
    pds.call("faults", {"kind": "respond", "match": record["did"], "status": 503, "times": None})
    done = run("headers", record["did"], "--url", pds.url + CALL)
    assert (done.code, done.out) == (75, "")


def test_no_session(run: Run, pds: Pds, store: Path) -> None:
    """Exit 3, and what to type."""
    done = run("headers", "did:plc:nobody", "--url", pds.url + CALL)
    assert (done.code, done.out) == (3, "")
    assert "idiolectd login" in done.err


def test_errors_show_no_token(run: Run, pds: Pds, store: Path) -> None:
    """Only standard output holds it, and only when it is asked for."""
    record = account(pds, store, "secret.test")
    pds.call("revoke_sessions", {"did": record["did"]})
    done = run("headers", record["did"], "--url", pds.url + CALL)
    for name in ("accessJwt", "refreshJwt"):
        assert record[name] not in done.err
    assert json.loads(record["dpopPrivateKeyJwk"])["d"] not in done.err
