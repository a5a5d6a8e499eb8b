"""The pages at the end of a login, as documents. What they look like, tests with a browser show."""

import base64
import hashlib
import re
from html.parser import HTMLParser

import pytest

from idiolectd.cli.browser.pages import Page, failure, hosted, not_found, stranger, success
from idiolectd.foreign import printable

EVIL = "<script>alert(1)</script>\"'&<b onclick=x>\N{RIGHT-TO-LEFT OVERRIDE}"
LOCAL = [success(EVIL, EVIL), success("alice.test", None), failure(EVIL, EVIL), stranger(), not_found()]


class Document(HTMLParser):
    """The elements of a page, its words, and whether everything that was opened was closed."""

    VOID = frozenset({"meta", "!doctype"})

    def __init__(self, html: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.open: list[str] = []
        self.text: dict[str, str] = {}
        self.feed(html)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open:
            self.text[self.open[-1]] = self.text.get(self.open[-1], "") + data

    @property
    def names(self) -> set[str]:
        return {name for name, _ in self.elements}


@pytest.mark.parametrize("page", LOCAL)
def test_local_pages_run_and_load_nothing(page: Page) -> None:
    """A page has no script, no link, no handler and no address of anything, whatever text is in it."""
    found = Document(page.html)
    assert found.names <= {"html", "head", "meta", "title", "style", "body", "main", "h1", "p", "b", "bdi"}
    assert {name for _, attributes in found.elements for name in attributes} <= {
        "lang", "charset", "name", "content", "class"
    }  # fmt: skip
    assert "url(" not in page.html
    assert "@import" not in page.html


def test_what_they_say() -> None:
    """Account, end, message and advice are on the page as they are, but for what turns its direction."""
    shown = printable(EVIL)
    assert Document(success(EVIL, None).html).text["bdi"] == shown
    assert "until 2026-12-05, then a new login is needed" in success("alice.test", "2026-12-05").html
    assert "until" not in success("alice.test", None).html
    words = Document(failure(EVIL, "Log in again.").html).text["p"]
    assert words == f"{shown}.Log in again."


def test_statuses() -> None:
    """Programs can tell the pages apart, too."""
    assert [page.status for page in (success("a", None), failure("a", "b"), stranger(), not_found())] == [
        200, 400, 400, 404
    ]  # fmt: skip


@pytest.mark.parametrize("name", [None, EVIL])
def test_the_hosted_page_allows_itself_only(name: str | None) -> None:
    """Its policy names the hashes of its own script and style, comes before both, and nothing is loaded."""
    html = hosted(name)
    found = Document(html)
    assert found.names == {
        "html", "head", "meta", "title", "style", "body", "main", "h1", "p", "b", "div", "noscript",
        "textarea", "button", "script",
    }  # fmt: skip
    assert not {"src", "href", "onclick"} & {key for _, attributes in found.elements for key in attributes}
    (policy,) = (a["content"] for _, a in found.elements if a.get("http-equiv") == "Content-Security-Policy")
    assert policy is not None
    assert policy.startswith("default-src 'none'; ")
    for element in ("script", "style"):
        (text,) = re.findall(rf"<{element}>(.*?)</{element}>", html, re.DOTALL)
        digest = base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
        assert f"{element}-src 'sha256-{digest}'" in policy
    names = [name for name, _ in found.elements]
    assert names.index("style") > [a.get("http-equiv") for _, a in found.elements].index(
        "Content-Security-Policy"
    )
    assert ("meta", {"name": "referrer", "content": "no-referrer"}) in found.elements
