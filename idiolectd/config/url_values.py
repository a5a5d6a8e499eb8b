"""The kinds of configuration values that are URLs.

Syntax only. Whether a host may be connected to, the room `http` decides when it dials.
"""

import re

from idiolectd.config.value_kinds import ValueKind, made, string
from idiolectd.errors import ConfigError, UrlError
from idiolectd.store_url import is_plain_path, parse_store_url
from idiolectd.url import Url


def service_url() -> ValueKind:
    """A server's base URL; plain HTTP on loopback only. Returned without a final slash."""

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
    """Where a confidential client gets its answer: servers take no loopback address from one with keys."""

    def accept(value: object) -> str:
        text, url = _web_url(value)
        if url.scheme != "https":
            raise ValueError
        return text

    return made("an https URL that the client's metadata document lists in redirect_uris", accept, text=True)


def proxy_url() -> ValueKind:
    """An HTTP proxy, with user and password if it wants them."""

    def accept(value: object) -> str:
        text = string(value)
        if _parsed(text).path != "/":
            raise ValueError
        return text

    return made("the URL of an HTTP proxy, as in http://proxy.example:3128", accept, text=True)


def store_url() -> ValueKind:
    """A store. Relative paths are refused: a daemon's working folder is nobody's business."""

    def accept(value: object) -> str:
        url = string(value)
        if is_plain_path(url) and not url.startswith(("/", "~/")):
            raise ValueError
        try:
            parse_store_url(url, is_folder=lambda _: False)  # only whether it is one: asks no disk
        except (ConfigError, RuntimeError) as error:  # RuntimeError: ~ without a home folder
            raise ValueError(str(error)) from None
        return url

    allowed = "sqlite:///PATH, file:///FOLDER, an absolute path (a folder, or a SQLite file), or memory:"
    return made(allowed, accept, text=True)


def is_plain_http(url: str) -> bool:
    """Whether a URL that passed its kind needs ``network.allow_loopback_http``."""
    return Url.parse(url).scheme == "http"


def _web_url(value: object) -> tuple[str, Url]:
    """The text, because names (a client_id) count as they are written, and what it says."""
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
