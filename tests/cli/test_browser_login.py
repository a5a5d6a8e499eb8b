"""Logins by way of the browser: the command, a strict server, and a browser without a screen."""

import json
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

import anyio
import pytest

from idiolectd.cli.browser.authorization_response import wait_authorization_response
from idiolectd.cli.browser.launch import may_open, opened
from idiolectd.cli.browser.listener import open_listener
from idiolectd.cli.exits import CommandFailed, ExitCode
from idiolectd.cli.login import LoginMethod, choose_login_method
from idiolectd.store import open_store
from tests.cli.conftest import Pds, Run, put_record
from tests.cli.fake_browser import PLAN, get
from tests.cli.test_commands import only, stored
from tests.simulator import new_client_key

SCOPE = "atproto transition:generic"
CLIENT = "https://client.test/metadata.json"
HOSTED = "https://client.test/idiolectd"
DAY = 86_400.0


@dataclass
class Browser:
    """The browser of one test.

    Attributes:
        file: where it leaves the page.
        plan: what it is told.
    """

    file: Path
    plan: dict[str, Any]

    def tell(self, **plan: Any) -> None:
        """What it does beyond following the URL: `bend` the redirect, bring a `stray` one first."""
        self.plan |= plan
        (self.file.parent / PLAN).write_text(json.dumps(self.plan))

    def page(self) -> tuple[int, str]:
        """Status and text of the page that it ended on."""
        deadline = time.monotonic() + 10
        while not self.file.exists():
            assert time.monotonic() < deadline, "the browser got no page"
            time.sleep(0.02)
        page = json.loads(self.file.read_text())
        self.file.unlink()
        return page["status"], page["html"]


@pytest.fixture
def browser(tmp_path: Path, environ: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> Browser:
    program = tmp_path / "browser"
    fake = Path(__file__).with_name("fake_browser.py")
    program.write_text(f'#!/bin/sh\nexec {sys.executable} -I {fake} "$1"\n')
    program.chmod(0o755)
    monkeypatch.setenv("BROWSER", str(program))
    found = Browser(tmp_path / "page.json", {"page": str(tmp_path / "page.json")})
    found.tell()
    return found


@pytest.fixture(autouse=True)
def everybody_consents(pds: Pds) -> Iterator[None]:
    yield
    pds.call("consent", {"consent": "allow"})


# The way that it should go --------------------------------------------------------------------------


def test_a_login(run: Run, pds: Pds, store: Path, browser: Browser) -> None:
    """From a handle to a session that refreshes; the page and the terminal say until when."""
    account = pds.account("browser.test")
    done = run("login", "browser.test", "--browser")
    assert done.code == 0, done.err
    assert done.out == f"logged in: browser.test ({account['did']}) at {pds.url}\n"
    record = stored(store, account["did"])
    assert (record["tokenType"], record["scope"], record["handle"]) == ("DPoP", SCOPE, "browser.test")
    assert (record["issuer"], record["clientAuthMethod"]) == (pds.url, "none")
    assert record["clientId"].startswith("http://localhost?redirect_uri=http%3A%2F%2F127.0.0.1%2Fcallback&")
    end = datetime.fromisoformat(record["sessionStartedAt"]).timestamp() + 14 * DAY
    assert datetime.fromisoformat(record["refreshExpiresAt"]).timestamp() == pytest.approx(end)
    day = datetime.fromtimestamp(end, UTC).date().isoformat()
    assert f"refreshed until {day}, then a new login is needed" in done.err
    status, html = browser.page()
    assert status == 200
    assert "browser.test" in html
    assert day in html
    assert run("refresh", "--force", "browser.test").code == 0
    assert only(run("status", "--json"))["session_deadline"] == record["refreshExpiresAt"]
    assert pds.living(account["did"]) == 1


def test_what_is_told(run: Run, pds: Pds, browser: Browser) -> None:
    """JSON is on standard output, the steps and the URL on standard error, and no secret on either."""
    account = pds.account("told.test")
    done = run("login", "told.test", "--browser", "--json")
    assert done.code == 0, done.err
    told = done.json
    assert list(told) == [
        "did",
        "handle",
        "pds_url",
        "expires_at",
        "refresh_expires_at",
        "issuer",
        "client_id",
        "session_deadline",
    ]
    assert (told["did"], told["issuer"]) == (account["did"], pds.url)
    assert told["session_deadline"] == told["refresh_expires_at"]
    for step in ("looking up told.test", account["did"], "/oauth/authorize?", "within 5 minutes", "back"):
        assert step in done.err
    assert not re.search(r"cod-|ref-[0-9a-f]{8}|eyJ|code_verifier|state=", done.out + done.err)


def test_a_confidential_client(
    run: Run, pds: Pds, store: Path, browser: Browser, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The hosted page forwards the browser to the port in the state; the first key is pinned."""
    keys = [new_client_key("new"), new_client_key("old")]
    pds.call("clients", {"client_id": CLIENT, "jwks": keys, "redirect_uris": [HOSTED]})
    places = []
    for key in keys:
        path = tmp_path / f"{key['kid']}.jwk"
        path.touch(0o600)
        path.write_text(json.dumps(key))
        places.append(f'{{ kid = "{key["kid"]}", file = "{path}" }}')
    clients = f'[{{ client_id = "{CLIENT}", redirect_uri = "{HOSTED}", keys = [{", ".join(places)}] }}]'
    monkeypatch.setenv("IDIOLECTD_OAUTH__CLIENTS", clients)
    monkeypatch.setenv("IDIOLECTD_OAUTH__LOGIN_CLIENT_ID", CLIENT)
    account = pds.account("confidential.test")
    done = run("login", "confidential.test", "--browser")
    assert done.code == 0, done.err
    assert browser.page()[0] == 200
    record = stored(store, account["did"])
    assert (record["clientId"], record["clientAuthMethod"]) == (CLIENT, "private_key_jwt")
    assert record["clientKeyId"] == "new"
    life = datetime.fromisoformat(record["refreshExpiresAt"]) - datetime.fromisoformat(
        record["sessionStartedAt"]
    )
    assert life.total_seconds() == 730 * DAY
    assert run("refresh", "--force", "confidential.test").code == 0


def test_a_pds_that_is_named(run: Run, pds: Pds, store: Path, browser: Browser) -> None:
    """It has to be the account's own by its DID document; it knows handles that nobody else does."""
    account = pds.account("named.test")
    pds.call("faults", {"kind": "respond", "match": "resolveHandle", "status": 503, "times": 1})
    for name in ("@Named.test", account["did"]):
        done = run("login", name, "--pds-url", pds.url + "/", "--browser")
        assert done.code == 0, done.err
        assert stored(store, account["did"])["handle"] == "named.test"
    pds.call("faults", {"kind": "respond", "match": "/did:", "status": 500, "times": 1})
    assert run("login", account["did"], "--pds-url", pds.url, "--browser").code == 75
    for name, code in (("did:nonsense", 2), ("nobody.test", 1), ("me@named.test", 1)):
        assert run("login", name, "--pds-url", pds.url, "--browser").code == code


def test_a_new_login_keeps_its_place(run: Run, pds: Pds, store: Path, browser: Browser) -> None:
    """A dead session becomes a fresh one; fields of other programs stay."""
    account = pds.account("again.test", oauth=1)
    put_record(store, account["oauth"][0] | {"botName": "herald"})
    pds.call("revoke_sessions", {"did": account["did"]})
    assert run("refresh", "--force", "again.test").code == 3
    assert only(run("status", "--json"))["state"] == "relogin_required"
    done = run("login", "again.test", "--browser")
    assert done.code == 0, done.err
    row = only(run("status", "--json"))
    assert (row["state"], row["cause"]) == ("fresh", None)
    record = stored(store, account["did"])
    assert record["botName"] == "herald"
    assert record["dpopPrivateKeyJwk"] != account["oauth"][0]["dpopPrivateKeyJwk"]
    assert run("refresh", "--force", "again.test").code == 0


def test_a_record_that_can_not_be_read_is_replaced(run: Run, pds: Pds, store: Path, browser: Browser) -> None:
    """What is broken must not be in the way of a login."""
    account = pds.account("broken.test", oauth=1)
    put_record(store, account["oauth"][0]).write_text("{")
    assert run("login", "broken.test", "--browser").code == 0
    assert stored(store, account["did"])["handle"] == "broken.test"


# What must not become a session ---------------------------------------------------------------------


def test_declined(run: Run, pds: Pds, store: Path, browser: Browser) -> None:
    """The person's no is exit 1, and told in the browser and in the terminal."""
    account = pds.account("declined.test")
    pds.call("consent", {"consent": "deny"})
    done = run("login", "declined.test", "--browser")
    assert (done.code, done.out) == (1, "")
    assert f"the login was declined at the issuer {pds.url}" in done.err
    status, html = browser.page()
    assert (status, "declined" in html, "once more" in html) == (400, True, True)
    assert not list(store.glob("*.json"))
    assert pds.living(account["did"]) == 0


def test_another_accounts_consent(run: Run, pds: Pds, store: Path, browser: Browser) -> None:
    """Both accounts are named, nothing is stored, and what was granted is revoked."""
    account, other = pds.account("wanted.test", oauth=1), pds.account("unwanted.test")
    path = put_record(store, account["oauth"][0])
    before = path.read_bytes()
    pds.call("consent", {"consent": "unwanted.test"})
    done = run("login", "wanted.test", "--browser")
    assert done.code == 1
    assert other["did"] in done.err
    assert f"wanted.test ({account['did']})" in done.err
    assert "has been revoked" in done.err
    status, html = browser.page()
    assert (status, other["did"] in html) == (400, True)
    assert path.read_bytes() == before
    assert list(store.glob("*.json")) == [path]
    assert (pds.living(other["did"]), pds.living(account["did"])) == (0, 1)


def test_a_redirect_of_somebody_else(run: Run, pds: Pds, browser: Browser) -> None:
    """A wrong state ends nothing: the terminal says so, and the right one still counts."""
    pds.account("stray.test")
    browser.tell(stray={"state": "x" * 32, "error": "access_denied"})
    done = run("login", "stray.test", "--browser")
    assert done.code == 0, done.err
    assert done.err.count("still waiting") == 1
    assert browser.page()[0] == 200


@pytest.mark.parametrize(
    ("bend", "words"),
    [
        ({"iss": "https://evil.test"}, "came back from https://evil.test"),
        ({"code": "cod-" + "0" * 64}, "Invalid code (invalid_grant)"),
        ({"code": ""}, "without a code"),
        ({"error": "invalid_scope", "error_description": "<b>no</b>"}, "invalid_scope"),
    ],
)
def test_a_tampered_redirect(
    run: Run, pds: Pds, store: Path, browser: Browser, bend: dict[str, str], words: str
) -> None:
    """With the right state it is final, and refused."""
    pds.account("tampered.test")
    browser.tell(bend=bend)
    done = run("login", "tampered.test", "--browser")
    assert (done.code, words in done.err) == (1, True), done.err
    status, html = browser.page()
    assert (status, "<b>no</b>" in html) == (400, False)
    assert not list(store.glob("*.json"))


def test_tokens_without_a_scope(run: Run, pds: Pds, store: Path, browser: Browser) -> None:
    """What arrives and does not fit is not stored, also if it can't be revoked."""
    account = pds.account("scopeless.test")
    body = {"access_token": "a", "refresh_token": "r", "token_type": "DPoP", "sub": account["did"]}
    pds.call(
        "faults",
        {
            "kind": "respond",
            "match": "/oauth/token",
            "status": 200,
            "headers": [["content-type", "application/json"]],
            "body": json.dumps(body),
        },
    )
    done = run("login", "scopeless.test", "--browser")
    assert (done.code, "scope" in done.err, "nothing was stored" in done.err) == (1, True, True)
    assert not list(store.glob("*.json"))


# Servers in trouble ---------------------------------------------------------------------------------


def test_servers_in_trouble(run: Run, pds: Pds, browser: Browser) -> None:
    """What may pass is exit 75; a server that offers no logins is exit 1 and named."""
    account = pds.account("trouble.test")
    elsewhere = run("login", account["did"], "--pds-url", "http://127.0.0.1:1", "--browser")
    assert (elsewhere.code, f"is at the PDS {pds.url} by its DID document" in elsewhere.err) == (1, True)
    for match, status, code in (
        ("oauth-protected-resource", 404, 1),
        ("oauth-protected-resource", 503, 75),
        ("oauth-authorization-server", 404, 1),
        ("/oauth/par", 503, 75),
        ("/oauth/par", 429, 75),
    ):
        pds.call("faults", {"kind": "respond", "match": match, "status": status})
        done = run("login", "trouble.test", "--browser")
        assert (done.code, pds.url in done.err) == (code, True), done.err
    body = json.dumps({"issuer": pds.url, "token_endpoint": f"{pds.url}/oauth/token"})
    pds.call(
        "faults",
        {"kind": "respond", "match": "oauth-authorization-server", "status": 200, "body": body},
    )
    done = run("login", "trouble.test", "--browser")
    assert (done.code, "pushed_authorization_request_endpoint" in done.err) == (1, True)


def test_an_answer_that_is_lost(run: Run, pds: Pds, store: Path, browser: Browser) -> None:
    """The exchange without an answer is exit 75: trying again is a new login."""
    pds.account("lost.test")
    pds.call("faults", {"kind": "drop_after", "match": "/oauth/token"})
    done = run("login", "lost.test", "--browser")
    assert done.code == 75, done.err
    assert browser.page()[0] == 400
    assert not list(store.glob("*.json"))


# Waiting --------------------------------------------------------------------------------------------


@contextmanager
def claimed(store: Path, did: str) -> Iterator[threading.Event]:
    """Somebody else works on the session until the event is set."""
    taken, released = threading.Event(), threading.Event()

    async def hold() -> None:
        async with open_store(f"file://{store}") as opened_store, opened_store.claim(did, patience=5):
            taken.set()
            while not released.is_set():
                await anyio.sleep(0.02)

    thread = threading.Thread(target=partial(anyio.run, hold))
    thread.start()
    try:
        assert taken.wait(10)
        yield released
    finally:
        released.set()
        thread.join(10)


def test_a_login_waits_for_the_claim(run: Run, pds: Pds, store: Path, browser: Browser) -> None:
    """While somebody else works on the session, the code is not sent; then it is."""
    account = pds.account("claimed.test")
    before = pds.call("stats", method="GET")["code_requests"]
    seen: list[int] = []

    def release() -> None:
        time.sleep(2.0)
        seen.append(pds.call("stats", method="GET")["code_requests"])
        released.set()

    with claimed(store, account["did"]) as released:
        watcher = threading.Thread(target=release)
        watcher.start()
        started = time.monotonic()
        done = run("login", "claimed.test", "--browser")
        took = time.monotonic() - started
        watcher.join(10)
    assert done.code == 0, done.err
    assert took >= 1.5
    assert seen == [before]
    assert browser.page()[0] == 200


def test_a_port_of_choice(run: Run, pds: Pds, browser: Browser) -> None:
    """--port is the one that is listened on; one that is taken is exit 1, and says what to do."""
    pds.account("port.test")
    port = _free_port()
    done = run("login", "port.test", "--browser", "--port", str(port))
    assert done.code == 0, done.err
    assert f"port {port} of 127.0.0.1" in done.err
    with _taken_port() as taken:
        done = run("login", "port.test", "--browser", "--port", str(taken))
    assert (done.code, "--port" in done.err) == (1, True)
    assert run("login", "port.test", "--browser", "--port", "80").code == 2


@contextmanager
def _taken_port() -> Iterator[int]:
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server.getsockname()[1]


def _free_port() -> int:
    with _taken_port() as port:
        return port


@contextmanager
def started(environ: dict[str, str], *arguments: str, **how: Any) -> Iterator["subprocess.Popen[str]"]:
    """A login as a process, with pipes."""
    command = [sys.executable, "-m", "idiolectd", "login", *arguments]
    pipe = subprocess.PIPE
    given: dict[str, Any] = {"stdin": pipe, "stdout": pipe, "stderr": pipe, "env": environ} | how
    with subprocess.Popen(command, text=True, **given) as process:
        try:
            yield process
        finally:
            process.kill()


def shown_url(read_line: Callable[[], str]) -> str:
    """The URL that a login shows."""
    for _ in range(30):
        line = read_line().strip()
        if line.startswith("http"):
            return line
    raise AssertionError("no URL was shown")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_ctrl_c_while_waiting(environ: dict[str, str], pds: Pds, number: signal.Signals) -> None:
    """It ends without waiting for the browser, with one word."""
    pds.account("impatient.test")
    with started(environ | {"BROWSER": "/bin/true"}, "impatient.test", "--browser") as process:
        assert process.stderr is not None
        shown_url(process.stderr.readline)
        process.stderr.readline()
        process.send_signal(number)
        out, err = process.communicate(timeout=60)
        assert (process.returncode, out) == (1, "")
        assert err.splitlines()[-1] == "idiolectd: interrupted"


def test_nobody_comes_back() -> None:
    """The waiting has an end, which is exit 75 and says what to do."""

    async def wait() -> None:
        async with open_listener() as listener:
            await wait_authorization_response(lambda _query: False, listener, patience=0.05)

    with pytest.raises(CommandFailed, match="run it again") as raised:
        anyio.run(wait, backend="trio")
    assert raised.value.code is ExitCode.TRY_LATER


# By hand --------------------------------------------------------------------------------------------


def test_paste_mode(environ: dict[str, str], pds: Pds, store: Path) -> None:
    """No browser, no port: the URL is shown, and the address where it ended is read from a pipe."""
    account = pds.account("paste.test")
    ours = environ | {"BROWSER": "/no/such/program"}
    with started(ours, "paste.test", "--paste") as process:
        assert process.stderr is not None
        assert process.stdin is not None
        _, address, _ = get(shown_url(process.stderr.readline))
        assert address.startswith("http://127.0.0.1/callback?")
        process.stdin.write("http://127.0.0.1/callback?state=another&code=x\n")
        process.stdin.write(address + "\n")
        out, err = process.communicate(timeout=30)
        assert process.returncode == 0, err
    assert "paste the whole address" in err
    assert out.startswith("logged in: paste.test")
    assert stored(store, account["did"])["tokenType"] == "DPoP"


def test_paste_mode_without_an_answer(environ: dict[str, str], pds: Pds) -> None:
    """An input that ends before the address is exit 1."""
    pds.account("mute.test")
    with started(environ, "mute.test", "--paste", stdin=subprocess.DEVNULL) as process:
        _, err = process.communicate(timeout=30)
        assert (process.returncode, "the input ended" in err) == (1, True)


def test_on_a_terminal(environ: dict[str, str], pds: Pds, store: Path) -> None:
    """On a terminal a login is one in the browser, and its address may be pasted."""
    account = pds.account("terminal.test")
    ours = {name: value for name, value in environ.items() if name not in ("BROWSER", "DISPLAY")}
    ours.pop("WAYLAND_DISPLAY", None)
    master, slave = os.openpty()
    try:
        with started(ours, "terminal.test", stdin=slave) as process:
            assert process.stderr is not None
            url = shown_url(process.stderr.readline)
            process.stderr.readline()
            assert "another machine" in process.stderr.readline()
            _, address, _ = get(url)
            assert re.match(r"http://127\.0\.0\.1:\d+/callback\?", address)
            os.write(master, address.encode() + b"\n")
            _, err = process.communicate(timeout=30)
            assert process.returncode == 0, err
    finally:
        os.close(master)
        os.close(slave)
    assert stored(store, account["did"])["tokenType"] == "DPoP"


# What is left behind --------------------------------------------------------------------------------


def _open_files() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


def _children() -> set[str]:
    return set(Path(f"/proc/self/task/{threading.get_native_id()}/children").read_text().split())


@pytest.mark.parametrize("logins", [8, pytest.param(50, marks=pytest.mark.slow)])
def test_many_logins_leave_nothing_behind(run: Run, pds: Pds, browser: Browser, logins: int) -> None:
    """No file, thread, process or port; logins that fail in the middle included."""
    pds.account("many.test")
    assert run("login", "many.test", "--browser").code == 0
    browser.page()
    files, threads, children = _open_files(), set(threading.enumerate()), _children()
    for number in range(logins):
        browser.tell(bend={"iss": "https://evil.test"} if number % 4 == 3 else {})
        done = run("login", "many.test", "--browser")
        assert done.code == (1 if number % 4 == 3 else 0), done.err
        browser.page()
        found = re.search(r"port (\d+) of 127", done.err)
        assert found is not None
        with pytest.raises(OSError):  # noqa: PT011 - refused: nobody listens any more
            urllib.request.urlopen(f"http://127.0.0.1:{found[1]}/", timeout=5)
    # Another test's may end meanwhile; nothing may have been added.
    assert (_open_files() <= files, _children() <= children) == (True, True)
    assert set(threading.enumerate()) <= threads


@pytest.mark.parametrize("logins", [3, pytest.param(10, marks=pytest.mark.slow)])
def test_logins_side_by_side(
    environ: dict[str, str], pds: Pds, store: Path, browser: Browser, logins: int
) -> None:
    """Processes log accounts in at once; each browser comes back to its own."""
    ours = environ | {"BROWSER": os.environ["BROWSER"]}
    dids = [pds.account(f"side{number}.test")["did"] for number in range(logins)]
    processes = [
        subprocess.Popen(
            [sys.executable, "-m", "idiolectd", "login", f"side{number}.test", "--browser"],
            env=ours,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for number in range(logins)
    ]
    try:
        for process in processes:
            _, err = process.communicate(timeout=90)
            assert process.returncode == 0, err
    finally:
        for process in processes:
            process.kill()
            process.communicate()
    assert {json.loads(path.read_text())["did"] for path in store.glob("*.json")} == set(dids)


# Which way ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("browser", "paste", "password", "terminal", "way"),
    [
        (False, False, False, True, LoginMethod.BROWSER),
        (False, False, True, True, LoginMethod.APP_PASSWORD),
        (False, False, False, False, LoginMethod.APP_PASSWORD),
        (False, False, True, False, LoginMethod.APP_PASSWORD),
        (True, False, True, True, LoginMethod.BROWSER),
        (True, False, False, False, LoginMethod.BROWSER),
        (False, True, True, True, LoginMethod.PASTE),
        (False, True, False, False, LoginMethod.PASTE),
        (True, True, False, True, LoginMethod.PASTE),
    ],
)
def test_which_way(browser: bool, paste: bool, password: bool, terminal: bool, way: LoginMethod) -> None:
    """What is asked for, else a password that is there, else the browser; without a terminal a password."""
    assert choose_login_method(browser=browser, paste=paste, password=password, terminal=terminal) is way


def test_a_password_of_the_environment_does_not_stop_the_browser(
    run: Run, pds: Pds, store: Path, browser: Browser, monkeypatch: pytest.MonkeyPatch
) -> None:
    """--browser forces it; without it the password is used as ever."""
    account = pds.account("forced.test")
    monkeypatch.setenv("ATPROTO_APP_PASSWORD", "pass-word")
    assert run("login", "forced.test").code == 0
    assert stored(store, account["did"])["tokenType"] == "Bearer"
    assert run("login", "forced.test", "--browser").code == 0
    assert stored(store, account["did"])["tokenType"] == "DPoP"


@pytest.mark.parametrize(
    "arguments",
    [
        ("a.test", "--app-password", "x", "--browser"),
        ("a.test", "--app-password", "x", "--paste"),
        ("a.test", "--app-password", "x", "--port", "4711"),
        ("a.test", "--paste", "--port", "4711"),
        ("--batch", "x", "--browser"),
        ("--browser",),
    ],
)
def test_wrong_usage(run: Run, arguments: tuple[str, ...]) -> None:
    """What does not go together is exit 2 and a line, before anything is asked."""
    done = run("login", *arguments)
    assert (done.code, done.out) == (2, "")


def test_without_password_and_terminal(run_process: Run) -> None:
    """The way out is named."""
    done = run_process("login", "a.test")
    assert (done.code, "--browser" in done.err) == (2, True)


@pytest.mark.parametrize(
    ("environ", "expected"),
    [
        ({}, False),
        ({"TERM": "xterm"}, False),
        ({"BROWSER": ""}, False),
        ({"DISPLAY": ":0"}, True),
        ({"WAYLAND_DISPLAY": "wayland-0"}, True),
        ({"BROWSER": "w3m"}, True),
    ],
)
def test_when_a_browser_may_be_opened(environ: dict[str, str], expected: bool) -> None:
    """Without a screen, only one that the person named."""
    assert may_open(environ) is expected


@pytest.mark.anyio
async def test_a_browser_gets_no_secrets(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of the environment it gets what a browser needs: passwords and keys in it are not its business."""
    program, note = tmp_path / "browser", tmp_path / "environment"
    program.write_text(f"#!/bin/sh\nenv > {note}.new; mv {note}.new {note}\n")
    program.chmod(0o755)
    given = {
        "ATPROTO_APP_PASSWORD": "SECRET-1",
        "IDIOLECTD_STORE__KEY": "SECRET-2",
        "AWS_SECRET_KEY": "SECRET-3",
    }
    needed = {"BROWSER": str(program), "DISPLAY": ":77", "XDG_RUNTIME_DIR": "/run/user/7", "LC_TIME": "C"}
    for name, value in (given | needed).items():
        monkeypatch.setenv(name, value)
    with anyio.fail_after(20):
        async with opened("http://127.0.0.1:1/"):
            while not note.exists():
                await anyio.sleep(0.02)
    found = note.read_text()
    assert "SECRET" not in found
    assert {f"{name}={value}" for name, value in needed.items()} <= set(found.splitlines())


@pytest.mark.anyio
async def test_a_browser_that_does_not_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its starter is gone when the login is over; the browser itself stays, in a session of its own."""
    program, note = tmp_path / "slow", tmp_path / "pid"
    program.write_text(f"#!/bin/sh\necho $$ > {note}.new; mv {note}.new {note}; exec sleep 30\n")
    program.chmod(0o755)
    monkeypatch.setenv("BROWSER", str(program))
    with anyio.fail_after(20):
        async with opened("http://127.0.0.1:1/") as tried:
            assert tried
            while not note.exists():
                await anyio.sleep(0.02)
    pid = int(note.read_text())
    assert os.getsid(pid) != os.getsid(0)
    os.kill(pid, signal.SIGKILL)
