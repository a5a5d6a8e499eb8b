"""The kinds of configuration values that are URLs.

Checks the syntax only; `idiolectd.http` checks a host's address when it connects.
"""

import re

from idiolectd.config.value_kinds import ValueKind, made, string
from idiolectd.errors import ConfigError, UrlError
from idiolectd.store_url import is_plain_path, parse_store_url
from idiolectd.url import Url


def service_url() -> ValueKind:
    """A server's base URL; plain HTTP on loopback only. Removes a final slash."""

    def accept(value: object) -> str:
        text, url = _web_url(value)
        if url.query:
            raise ValueError
        return text.rstrip("/")

    return made(
        "an https URL without user, query and fragment (http only for a loopback host)", accept, text=True
    )


def client_id() -> ValueKind:
    """The URL of a client metadata document, or the loopback client's (``http://localhost``)."""

    def accept(value: object) -> str:
        text, url = _web_url(value)
        if url.scheme == "http" and (url.host != "localhost" or url.path != "/"):
            raise ValueError
        return text

    allowed = "the https URL of a client metadata document, or http://localhost?redirect_uri=...&scope=..."
    return made(allowed, accept, text=True)


def redirect_uri() -> ValueKind:
    """A confidential client's redirect URI: https, as servers refuse it a loopback address."""

    def accept(value: object) -> str:
        text, url = _web_url(value)
        if url.scheme != "https":
            raise ValueError
        return text

    return made("an https URL that the client's metadata document lists in redirect_uris", accept, text=True)


def proxy_url() -> ValueKind:
    """An HTTP proxy's URL, with user and password if it requires them."""

    def accept(value: object) -> str:
        text = string(value)
        if _parsed(text).path != "/":
            raise ValueError
        return text

    return made("the URL of an HTTP proxy, as in http://proxy.example:3128", accept, text=True)


def store_url() -> ValueKind:
    """A store's URL or path. Refuses relative paths: they would depend on the daemon's working folder."""
    allowed = "sqlite:///PATH, file:///FOLDER, an absolute path (a folder, or a SQLite file), or memory:"
    return made(allowed, _store_url, text=True)


def view_url() -> ValueKind:
    """The URL or path of the clients' view: as a store's, but for other programs, so not in memory."""

    def accept(value: object) -> str:
        url = _store_url(value)
        if url == "memory:":
            raise ValueError
        return url

    return made("sqlite:///PATH, file:///FOLDER or an absolute path", accept, text=True)


def is_plain_http(url: str) -> bool:
    """Returns whether a URL that passed its check needs ``network.allow_loopback_http``."""
    return Url.parse(url).scheme == "http"


def _store_url(value: object) -> str:
    url = string(value)
    if is_plain_path(url) and not url.startswith(("/", "~/")):
        raise ValueError
    try:
        parse_store_url(url, is_folder=lambda _: False)  # checks the syntax without reading the disk
    except (ConfigError, RuntimeError) as error:  # RuntimeError: ~ without a home folder
        raise ValueError(str(error)) from None
    return url


def _web_url(value: object) -> tuple[str, Url]:
    """Returns the text and the parsed URL; the text too, because a client_id is compared as it is written."""
    text = string(value)
    url = _parsed(text)
    if url.is_cleartext or url.userinfo is not None or url.has_fragment or re.search(r"\s", text):
        raise ValueError
    return text, url


def _parsed(text: str) -> Url:
    try:
        return Url.parse(text)
    except UrlError as error:
        raise ValueError(str(error)) from None
