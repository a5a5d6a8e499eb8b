"""A browser without a screen: a program for $BROWSER that opens one URL, follows it, and keeps the last page.

Does: what a browser does between the login's URL and the page at the end, the hosted page's forwarding included.
Does not: show anything, keep cookies, or run scripts. It imports nothing of this project: it runs by itself.
"""

import json
import sys
import urllib.error
import urllib.parse
import urllib.request
from pathlib import Path

PLAN = "browser-plan.json"  # in the home folder: an object with `page` (a file) and what else to do


class _Stay(urllib.request.HTTPRedirectHandler):
    def redirect_request(self, *_: object) -> None:
        return None


def get(url: str) -> tuple[int, str, bytes]:
    """Status, location and body."""
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}), _Stay)
    try:
        with opener.open(url, timeout=90) as answer:
            return answer.status, "", answer.read()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.headers.get("location", ""), error.read()


def bent(url: str, changes: dict[str, str]) -> str:
    """The URL with some parameters of its query changed."""
    parts = urllib.parse.urlsplit(url)
    fields = dict(urllib.parse.parse_qsl(parts.query)) | changes
    return parts._replace(query=urllib.parse.urlencode(fields)).geturl()


def forwarded(url: str) -> str:
    """Where the page hosted at a confidential client's redirect_uri sends the browser."""
    parts = urllib.parse.urlsplit(url)
    if parts.scheme == "http":
        return url
    port = dict(urllib.parse.parse_qsl(parts.query))["state"].rpartition(".")[2]
    return f"http://127.0.0.1:{port}/callback?{parts.query}"


def main(url: str) -> None:
    plan = json.loads((Path.home() / PLAN).read_text())
    status, location, body = get(url)
    if status == 303:
        redirect = forwarded(location)
        if "stray" in plan:  # somebody else's redirect comes first
            get(bent(redirect, plan["stray"]))
        status, _, body = get(bent(redirect, plan.get("bend", {})))
    page = Path(plan["page"])
    draft = page.with_suffix(".draft")
    draft.write_text(json.dumps({"status": status, "html": body.decode()}))
    draft.replace(page)


if __name__ == "__main__":
    main(sys.argv[1])
