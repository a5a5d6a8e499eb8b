"""`idiolectd login` in a real browser, on the real PDS's sign-in page."""

import contextlib
import json
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import TracebackType
from typing import Any, Self
from urllib.parse import parse_qs, urlsplit

import pytest

from tests.daemon_process import environment, idiolectd
from tests.jose import new_jwk
from tests.real_pds.browser import Browser, recording_browser, why_no_browser
from tests.real_pds.client import Record, create_record
from tests.real_pds.harness import Account, RealPds
from tests.real_pds.marks import needs_pds

pytestmark = needs_pds(seconds=300, besides=why_no_browser())

# In .internal, a private name that the server accepts and that nobody can own.
CLIENT_ID = "https://client.idiolectd.internal/client-metadata.json"
REDIRECT = "https://client.idiolectd.internal/idiolectd"
CLIENT_KEY = new_jwk()

PUBLIC_LIFE = timedelta(days=14)
CONFIDENTIAL_LIFE = timedelta(days=730)


@pytest.fixture(scope="module")
def pds(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RealPds]:
    with RealPds(tmp_path_factory.mktemp("pds"), accounts=2) as started:
        yield started


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with Browser() as opened:
        yield opened


class Login:
    """`idiolectd login` as a process, with a $BROWSER that only notes what it should open."""

    def __init__(self, folder: Path, env: dict[str, str], *arguments: str) -> None:
        self._url = folder / "url"
        self._url.unlink(missing_ok=True)
        self._process = subprocess.Popen(
            [sys.executable, "-m", "idiolectd", "login", *arguments],
            env=env | {"BROWSER": str(recording_browser(folder))},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._process.kill()
        self._process.communicate()

    @property
    def waits(self) -> bool:
        return self._process.poll() is None

    def opened(self) -> str:
        """The URL that it opened the browser with."""
        end = time.monotonic() + 30
        while not self._url.exists():
            assert self.waits, self.end()
            assert time.monotonic() < end, "no browser was opened"
            time.sleep(0.05)
        return self._url.read_text()

    def told(self) -> str:
        """The URL that it tells to open, where it opens no browser itself."""
        assert self._process.stderr is not None
        for line in self._process.stderr:
            if "/oauth/authorize?" in line:
                return "http" + line.strip().partition("http")[2]
        raise AssertionError("it told no URL")

    def end(self, pasted: str = "") -> subprocess.CompletedProcess[str]:
        """Its end; what is pasted goes to its standard input before."""
        out, err = self._process.communicate(pasted, timeout=60)
        return subprocess.CompletedProcess("login", self._process.returncode, out, err)


class Host:
    """A store, and the environment in which commands find it and the PDS."""

    def __init__(self, pds: RealPds, folder: Path) -> None:
        self.folder = folder
        self.store = folder / "store"
        self.store.mkdir(0o700)
        self.env = environment(
            f"file://{self.store}",
            IDIOLECTD_IDENTITY__PLC_DIRECTORY_URL=pds.plc_url,
            IDIOLECTD_IDENTITY__HANDLE_RESOLVER_URL=pds.url,
        )

    def be_client(self, pds: RealPds, browser: Browser) -> None:
        """Configures a confidential client, and hosts what the commands print for it."""
        config = self.folder / "config.toml"
        config.write_text(
            f'[oauth]\nlogin_client_id = "{CLIENT_ID}"\n'
            f'[[oauth.clients]]\nclient_id = "{CLIENT_ID}"\nredirect_uri = "{REDIRECT}"\nname = "Our bots"\n'
            'keys = [{ kid = "2026-01", env = "CLIENT_KEY" }]\n'
        )
        self.env |= {"IDIOLECTD_CONFIG": str(config), "CLIENT_KEY": CLIENT_KEY}
        pds.add_client(CLIENT_ID, json.loads(self.run("client", "metadata")))
        browser.pages[REDIRECT] = self.run("client", "page")

    def run(self, *arguments: str) -> str:
        done = idiolectd(*arguments, env=self.env)
        assert done.returncode == 0, done.stderr
        return done.stdout

    def login(self, *arguments: str) -> Login:
        return Login(self.folder, self.env, *arguments)

    def records(self) -> list[Record]:
        return [json.loads(path.read_text()) for path in self.store.glob("*.json")]

    def works(self, account: Account, life: timedelta) -> Record:
        """The one session is the account's: it refreshes, writes a record, and lives as long as it should."""
        (before,) = self.records()
        self.run("refresh", "--force", account.handle)
        (after,) = self.records()
        assert after["did"] == before["did"] == account.did
        assert after["refreshJwt"] != before["refreshJwt"]
        answer = create_record(after, "written after a login in the browser")
        assert answer.status_code == 200, answer.text
        (status,) = json.loads(self.run("status", "--json"))["sessions"]
        ends = datetime.fromisoformat(status["session_deadline"]) - datetime.now(UTC)
        assert abs(ends - life) < timedelta(minutes=5)
        assert status["kind"] == "dpop"
        return after


@pytest.fixture
def host(pds: RealPds, tmp_path: Path) -> Host:
    return Host(pds, tmp_path)


def consent(browser: Browser, url: str, password: str) -> None:
    browser.open(url)
    browser.sign_in(password)
    browser.press("Authorize")


def test_public_client(pds: RealPds, browser: Browser, host: Host) -> None:
    """From a handle to a session that refreshes and writes; the browser ends on a page that says so."""
    account = pds.accounts[0]
    with host.login(account.handle, "--browser", "--json") as login:
        consent(browser, login.opened(), account.password)
        page = browser.wait_heading("Logged in")
        done = login.end()
    assert done.returncode == 0, done.stderr
    said: dict[str, Any] = json.loads(done.stdout)
    until = (datetime.now(UTC) + PUBLIC_LIFE).date().isoformat()
    assert (said["did"], said["issuer"], said["session_deadline"][:10]) == (account.did, pds.url, until)
    assert f"the session of {account.handle}; it can be refreshed until {until}" in page.text
    assert "You can close this page." in page.text
    assert browser.complaints == []
    record = host.works(account, PUBLIC_LIFE)
    assert record["clientId"].startswith("http://localhost?")
    secrets = (record["accessJwt"], record["refreshJwt"], page.url.partition("code=")[2])
    assert not any(secret in done.stderr + done.stdout for secret in secrets)


def test_confidential_client(pds: RealPds, browser: Browser, host: Host) -> None:
    """With what `client metadata` and `client page` print hosted, a login needs no pasting and lives for years."""
    account = pds.accounts[0]
    host.be_client(pds, browser)
    with host.login(account.handle, "--browser") as login:
        consent(browser, login.opened(), account.password)
        page = browser.wait_heading("Logged in")
        done = login.end()
    assert done.returncode == 0, done.stderr
    assert urlsplit(page.url).hostname == "127.0.0.1"
    assert browser.complaints == []
    record = host.works(account, CONFIDENTIAL_LIFE)
    assert (record["clientId"], record["clientKeyId"]) == (CLIENT_ID, "2026-01")


def test_confidential_client_by_hand(pds: RealPds, browser: Browser, host: Host) -> None:
    """Where nobody listens, the hosted page shows what to paste."""
    account = pds.accounts[0]
    host.be_client(pds, browser)
    with host.login(account.handle, "--paste") as login:
        consent(browser, login.told(), account.password)
        page = browser.wait_heading("Log in: Our bots")
        address = browser.page.get_by_label("The address to paste").input_value()
        done = login.end(address + "\n")
    assert done.returncode == 0, done.stderr
    assert address == page.url
    assert browser.complaints == []
    host.works(account, CONFIDENTIAL_LIFE)


def test_public_client_by_hand(pds: RealPds, browser: Browser, host: Host) -> None:
    """The address of a page that could not be opened is enough."""
    account = pds.accounts[0]
    with host.login(account.handle, "--paste") as login:
        browser.open(login.told())
        browser.catch_redirect()
        browser.sign_in(account.password)
        browser.press("Authorize")
        done = login.end(f"nonsense\n{browser.caught()}\n")
    assert done.returncode == 0, done.stderr
    host.works(account, PUBLIC_LIFE)


def test_declined(pds: RealPds, browser: Browser, host: Host) -> None:
    """Who declines is told so in the browser and in the terminal, and nothing is stored."""
    account = pds.accounts[0]
    with host.login(account.handle, "--browser") as login:
        browser.open(login.opened())
        browser.sign_in(account.password)
        browser.press("Deny access")
        page = browser.wait_heading("Not logged in")
        done = login.end()
    assert done.returncode == 1
    assert "declined" in page.text
    assert "declined" in done.stderr.splitlines()[-1]
    assert host.records() == []


def test_another_account(pds: RealPds, browser: Browser, host: Host) -> None:
    """Another account's consent is refused with both names, its tokens end, and nothing is stored."""
    asked, other = pds.accounts
    with host.login(asked.handle, "--browser") as login:
        url = login.opened()
        forget_login_hint(pds)
        browser.open(url)
        browser.press("Sign in")
        browser.page.locator("input[name=username]").fill(other.handle)
        browser.sign_in(other.password)
        browser.press("Authorize")
        page = browser.wait_heading("Not logged in")
        done = login.end()
    assert done.returncode == 1
    assert other.did in page.text
    assert asked.handle in page.text
    assert "revoked" in page.text
    assert host.records() == []
    assert sessions_of(pds, other) == 0


@pytest.mark.parametrize("part", ["iss", "code"])
def test_tampered(pds: RealPds, browser: Browser, host: Host, part: str) -> None:
    """An issuer or a code that is not this login's ends it, without a session."""
    account = pds.accounts[0]
    with host.login(account.handle, "--browser") as login:
        redirect = kept_back(browser, login, account)
        browser.goto(
            redirect.replace(f"{part}={parse_qs(urlsplit(redirect).query)[part][0][:4]}", f"{part}=x")
        )
        page = browser.wait_heading("Not logged in")
        done = login.end()
    assert done.returncode == 1, done.stderr
    assert "issuer" in page.text or "came back from" in page.text or "refused" in page.text
    assert host.records() == []


def test_a_forged_redirect_ends_nothing(pds: RealPds, browser: Browser, host: Host) -> None:
    """A redirect with another state is turned away with a page, and the real one still counts."""
    account = pds.accounts[0]
    with host.login(account.handle, "--browser") as login:
        redirect = kept_back(browser, login, account)
        browser.goto(redirect.replace("state=", "state=x"))
        browser.wait_heading("Not the login that is waiting here")
        assert login.waits
        browser.goto(redirect)
        browser.wait_heading("Logged in")
        done = login.end()
    assert done.returncode == 0, done.stderr
    assert "does not belong to this login" in done.stderr
    host.works(account, PUBLIC_LIFE)


def kept_back(browser: Browser, login: Login, account: Account) -> str:
    """The redirect of a consent, which the browser has not followed."""
    browser.open(login.opened())
    browser.catch_redirect()
    browser.sign_in(account.password)
    browser.press("Authorize")
    return browser.caught()


def forget_login_hint(pds: RealPds) -> None:
    """Makes the server forget whom a pushed request was for: it then lets anybody sign in."""
    with contextlib.closing(sqlite3.connect(pds.folder / "account.sqlite", timeout=10)) as db, db:
        db.execute("UPDATE authorization_request SET parameters = json_remove(parameters, '$.login_hint')")


def sessions_of(pds: RealPds, account: Account) -> int:
    """How many OAuth sessions the server keeps for an account."""
    with contextlib.closing(sqlite3.connect(pds.folder / "account.sqlite", timeout=10)) as db:
        found: int = db.execute("SELECT count(*) FROM token WHERE did = ?", (account.did,)).fetchone()[0]
    return found
