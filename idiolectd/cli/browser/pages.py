"""The pages that the browser shows at the end of a login.

`listener` serves the local pages: success, failure, and a redirect that does not belong to the login. They
have no script and load nothing; every text in them is escaped, because some of it comes from servers.

The hosted page is a file for the `redirect_uri` of a confidential client, for which servers allow no loopback
redirect. Its script sends nothing anywhere: it shows the address to paste and, if `state` ends with a port,
forwards the browser to that port of its own machine.
"""

import base64
import hashlib
from dataclasses import dataclass
from html import escape as html_escape
from typing import Final

from idiolectd.foreign import printable
from idiolectd.oauth import CALLBACK_PATH, LOOPBACK_HOST

# No scripts, no loading; no site may frame, and no cache may keep, a page whose address contains a code.
HEADERS: Final = (
    ("Content-Type", "text/html; charset=utf-8"),
    ("Content-Security-Policy", "default-src 'none'; style-src 'unsafe-inline'; frame-ancestors 'none'"),
    ("Referrer-Policy", "no-referrer"),
    ("Cache-Control", "no-store"),
    ("X-Content-Type-Options", "nosniff"),
)


@dataclass(frozen=True)
class Page:
    """A response for the browser.

    Attributes:
        status: the HTTP status.
        html: the whole document.
    """

    status: int
    html: str


def success(account: str, until: str | None) -> Page:
    """Makes the page that reports the stored session.

    Args:
        account: the handle, or the DID.
        until: the day on which the session ends even if refreshed; None: unknown.
    """
    stored = f"idiolectd has stored the session of <b><bdi>{escape(account)}</bdi></b>"
    end = (
        f"; it can be refreshed until {escape(until)}, then a new login is needed"
        if until is not None
        else ""
    )
    return Page(200, _local("Logged in", "good", f"<p>{stored}{end}.</p>", "You can close this page."))


def failure(message: str, todo: str) -> Page:
    """Makes the page that reports a failed login.

    Args:
        message: what happened.
        todo: what the person can do about it.
    """
    return Page(400, _local("Not logged in", "bad", f"<p>{escape(message.rstrip('.'))}.</p>", todo))


def stranger() -> Page:
    """Makes the page for a redirect that does not belong to the waiting login: an old or a forged one."""
    return Page(
        400,
        _local(
            "Not the login that is waiting here",
            "bad",
            "<p>This page was opened for another login: an older one, or one that somebody else began."
            " Nothing was changed.</p>",
            "Go back to the terminal, and open the address that it shows there.",
        ),
    )


def not_found() -> Page:
    """Makes the page for every other request."""
    return Page(404, _local("Nothing here", "bad", "<p>idiolectd waits here for the end of a login.</p>", ""))


def hosted(name: str | None) -> str:
    """Makes the document to host at the `redirect_uri` of a confidential client.

    Args:
        name: the client's name; None: no name is shown.
    """
    title = f"Log in: {name}" if name else "Log in"
    policy = (
        f"default-src 'none'; script-src {_hash(_FORWARD)}; style-src {_hash(_STYLE)};"
        " base-uri 'none'; form-action 'none'"
    )
    head = (
        f'<meta http-equiv="Content-Security-Policy" content="{policy}">\n'
        '<meta name="referrer" content="no-referrer">\n<meta name="robots" content="noindex">\n'
    )
    body = f"<h1>{escape(title)}</h1>\n{_HOSTED_BODY}<script>{_FORWARD}</script>\n"
    return _document(title, body, head)


def escape(text: str) -> str:
    """Escapes text for HTML, and control characters in it, such as those that change the text's direction."""
    return html_escape(printable(text))


def _local(title: str, mood: str, body: str, end: str) -> str:
    last = f"<p>{escape(end)}</p>\n" if end else ""
    return _document(title, f'<h1 class="{mood}">{escape(title)}</h1>\n{body}\n{last}')


def _document(title: str, body: str, head: str = "") -> str:
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        + head
        + '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        + f"<title>{escape(title)} - idiolectd</title>\n<style>{_STYLE}</style>\n</head>\n"
        + f"<body>\n<main>\n{body}</main>\n</body>\n</html>\n"
    )


def _hash(text: str) -> str:
    """Returns the source expression of a content security policy that allows exactly this text."""
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"


_STYLE = """
:root { color-scheme: light dark; --bg: #f4f4f1; --card: #fff; --text: #1d1d1b; --good: #17693a; --bad: #a32222; }
@media (prefers-color-scheme: dark) {
  :root { --bg: #17181a; --card: #222427; --text: #e9e9e6; --good: #74cf96; --bad: #f09a92; }
}
body { margin: 0; min-height: 100vh; display: flex; background: var(--bg); color: var(--text);
  font: 1.0625rem/1.55 system-ui, sans-serif; }
main { box-sizing: border-box; width: min(34rem, 100% - 2rem); margin: auto; padding: 1.5rem 2rem 1rem;
  background: var(--card); border-radius: .75rem; overflow-wrap: anywhere; }
h1 { margin: 0 0 .75rem; font-size: 1.5rem; line-height: 1.25; }
h1.good { color: var(--good); }
h1.good::before { content: "\\2713\\00a0"; }
h1.bad { color: var(--bad); }
p { margin: 0 0 1rem; }
textarea { box-sizing: border-box; width: 100%; height: 8rem; margin: 0 0 .75rem; padding: .5rem; font: .875rem/1.4 monospace;
  color: inherit; background: var(--bg); border: 1px solid; border-radius: .375rem; }
button { margin: 0 0 1rem; padding: .5rem 1rem; font: inherit; }
"""

_HOSTED_BODY = """<noscript><p>Copy the address of this page, and paste it where idiolectd asks for it.</p></noscript>
<div id="answer" hidden>
<p>To go on, copy this address and paste it where idiolectd asks for it:</p>
<textarea id="address" readonly spellcheck="false" aria-label="The address to paste"></textarea>
<button id="copy" type="button">Copy</button>
<p>It is valid for a few minutes, once, and only for the login that you began.</p>
</div>
<p id="none" hidden>No login is waiting for this page. A login begins with the command <b>idiolectd login</b>.</p>
"""

# The waiting program has put its port at the end of `state`. The script forwards to the browser's own machine
# only (127.0.0.1), by `replace`: the back button must not forward again.
_FORWARD = rf"""
const state = new URLSearchParams(location.search).get("state");
document.getElementById(state ? "answer" : "none").hidden = false;
if (state) {{
  const address = document.getElementById("address");
  address.value = location.href;
  address.addEventListener("focus", () => address.select());
  document.getElementById("copy").addEventListener("click", () => {{
    address.select();
    navigator.clipboard.writeText(address.value);
  }});
  const port = /^[\w-]+\.([1-9]\d{{3,4}})$/.exec(state)?.[1];
  if (port >= 1024 && port <= 65535)
    location.replace("http://{LOOPBACK_HOST}:" + port + "{CALLBACK_PATH}" + location.search);
}}
"""
