"""A person at a browser: headless Chromium on the real PDS's own sign-in page.

It signs in, consents or declines, and reads what the browser shows in the end. A host that is not on this
machine is answered from `pages`, as a web server there would; the network is never asked.

What this module does not do: start a login, or follow what a program prints.
"""

import importlib.util
import re
import shutil
from dataclasses import dataclass
from html import escape
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Self
from urllib.parse import SplitResult, parse_qsl, urlencode, urlsplit

if TYPE_CHECKING:
    from playwright.sync_api import BrowserContext, Page, Route

_FLAGS = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)
_NAMES = ("chromium", "chromium-browser", "google-chrome")

# Milliseconds for one step of the person; a page of the PDS takes one or two seconds.
_STEP = 20_000

_LOCAL = ("127.0.0.1", "localhost")

# The page's private matter, like the calls that its script makes: the one that redirects to the client.
_LAST_STEP = "/oauth/authorize/redirect"

_KEPT_BACK = "The redirect was kept back"


def why_no_browser() -> str | None:
    """The reason why no browser can be driven here, or None if one can."""
    if importlib.util.find_spec("playwright") is None:
        return "playwright is not installed: it is one of the development packages"
    if _chromium() is None:
        return "Chromium is not installed: it is the package chromium of Debian and others"
    return None


@dataclass(frozen=True)
class Shown:
    """What the browser shows.

    Attributes:
        url: in the address bar.
        title: of the window.
        heading: the page's.
        text: everything that can be read on it.
    """

    url: str
    title: str
    heading: str
    text: str


class Browser:
    """A browser with an empty profile. A context manager: leaving it ends the program.

    Attributes:
        pages: HTML by URL without query, for hosts that are not on this machine.
        complaints: what the page that is shown did against its own policy, or threw.
    """

    def __init__(self) -> None:
        self.pages: dict[str, str] = {}
        self.complaints: list[str] = []
        self._caught: list[str] | None = None

    def __enter__(self) -> Self:
        from playwright.sync_api import sync_playwright

        self._playwright = sync_playwright().start()
        try:
            self._program = self._playwright.chromium.launch(executable_path=_chromium(), args=list(_FLAGS))
        except BaseException:
            self._playwright.stop()
            raise
        self._profile: BrowserContext | None = None
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            self._program.close()
        finally:
            self._playwright.stop()

    @property
    def page(self) -> "Page":
        """The one window that is open."""
        assert self._profile is not None
        return self._profile.pages[-1]

    def open(self, url: str) -> None:
        """Opens a URL in a new profile: nobody is signed in."""
        if self._profile is not None:
            self._profile.close()
        self._caught = None
        self._profile = self._program.new_context()
        self._profile.set_default_timeout(_STEP)
        self._profile.route(re.compile(".*"), self._answer)
        self.complaints = []
        page = self._profile.new_page()
        # The PDS's own pages complain, too: only what is said after them counts.
        page.on("framenavigated", lambda _frame: self.complaints.clear())
        page.on("console", lambda message: self.complaints.append(message.text))
        page.on("pageerror", lambda error: self.complaints.append(str(error)))
        page.goto(url)

    def sign_in(self, password: str) -> None:
        """Types the password of the account that the page asks for."""
        field = self.page.locator("input[type=password]")
        field.fill(password)
        field.press("Enter")

    def press(self, button: str) -> None:
        """Presses the button with that text, once it is there."""
        self.page.get_by_role("button", name=button, exact=True).click()

    def catch_redirect(self) -> None:
        """From now on the redirect that ends a login is kept back."""
        self._caught = []

    def caught(self) -> str:
        """The redirect that was kept back; waits for it."""
        self.wait_heading(_KEPT_BACK)
        assert self._caught
        return self._caught[0]

    def goto(self, url: str) -> None:
        """Types a URL into the address bar."""
        self._caught = None
        self.page.goto(url)

    def wait_heading(self, text: str) -> Shown:
        """Waits until the page says so in its heading.

        Raises:
            TimeoutError: it does not; shows what it says instead.
        """
        from playwright.sync_api import TimeoutError as NeverCameError

        try:
            self.page.get_by_role("heading", name=text).wait_for()
        except NeverCameError:
            raise TimeoutError(f"no {text!r}; the browser shows {self.shown()}") from None
        return self.shown()

    def shown(self) -> Shown:
        """What can be seen now."""
        headings = self.page.get_by_role("heading")
        return Shown(
            self.page.url,
            self.page.title(),
            headings.first.inner_text() if headings.count() else "",
            self.page.inner_text("body"),
        )

    def _answer(self, route: "Route") -> None:
        url = urlsplit(route.request.url)
        target = _target(url)
        if self._caught is not None and target is not None:
            self._caught.append(target)
            route.fulfill(status=200, content_type="text/html", body=f"<h1>{_KEPT_BACK}</h1>")
        elif target is not None and _page_of(urlsplit(target)) in self.pages:
            # What follows a redirect of the server is not asked for here; what follows a page is.
            refresh = f'<meta http-equiv="refresh" content="0; url={escape(target)}">'
            route.fulfill(status=200, content_type="text/html", body=refresh)
        elif url.hostname in _LOCAL or url.scheme not in ("http", "https"):
            route.continue_()
        elif (html := self.pages.get(_page_of(url))) is not None:
            route.fulfill(status=200, content_type="text/html", body=html)
        else:
            route.abort()


def _target(url: SplitResult) -> str | None:
    """Where the server will redirect the browser to, if this is the request that it answers so."""
    if url.hostname not in _LOCAL or url.path != _LAST_STEP:
        return None
    fields = dict(parse_qsl(url.query))
    where, _ = fields.pop("redirect_uri"), fields.pop("redirect_mode")
    return f"{where}?{urlencode(fields)}"


def _page_of(url: SplitResult) -> str:
    return url._replace(query="", fragment="").geturl()


def _chromium() -> str | None:
    return next((found for name in _NAMES if (found := shutil.which(name))), None)


def recording_browser(folder: Path) -> Path:
    """A program for ``$BROWSER`` that writes the URL it is given to the file ``url`` beside it."""
    program = folder / "browser"
    program.write_text(
        f"#!/bin/sh\nprintf %s \"$1\" > '{folder}/url.new' && mv '{folder}/url.new' '{folder}/url'\n"
    )
    program.chmod(0o700)
    return program
