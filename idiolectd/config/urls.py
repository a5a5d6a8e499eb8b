"""The kinds of configuration values that are URLs.

Syntax only. Whether a host may be connected to, the room `http` decides when it dials.
"""

import re
from pathlib import PurePosixPath
from urllib.parse import urlsplit

from idiolectd.config.kinds import Kind, made, string

_LOOPBACK_HOSTS = {"localhost", "127.0.0.1", "::1"}


def service_url() -> Kind:
    """A server's base URL; plain HTTP on loopback only. Returned without a final slash."""

    def accept(value: object) -> str:
        url = _web_url(value)
        if urlsplit(url).query:
            raise ValueError
        return url.rstrip("/")

    return made(
        "an https URL without user, query and fragment (http only for a loopback host)", accept, text=True
    )


def client_id() -> Kind:
    """The URL of a client metadata document, or the loopback client's (``http://localhost``)."""

    def accept(value: object) -> str:
        url = _web_url(value)
        parts = urlsplit(url)
        if parts.scheme == "http" and (parts.hostname != "localhost" or parts.path not in ("", "/")):
            raise ValueError
        return url

    allowed = "the https URL of a client metadata document, or http://localhost?redirect_uri=...&scope=..."
    return made(allowed, accept, text=True)


def redirect_uri() -> Kind:
    """Where a confidential client gets its answer: servers take no loopback address from one with keys."""

    def accept(value: object) -> str:
        url = _web_url(value)
        if urlsplit(url).scheme != "https":
            raise ValueError
        return url

    return made("an https URL that the client's metadata document lists in redirect_uris", accept, text=True)


def proxy_url() -> Kind:
    """An HTTP proxy, with user and password if it wants them."""

    def accept(value: object) -> str:
        url = string(value)
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname or parts.path not in ("", "/"):
            raise ValueError
        _ = parts.port  # raises if it is no port
        return url

    return made("the URL of an HTTP proxy, as in http://proxy.example:3128", accept, text=True)


def store_url() -> Kind:
    """A store. Relative paths are refused: a daemon's working folder is nobody's business."""

    def accept(value: object) -> str:
        url = string(value)
        if url == "memory:":
            return url
        for scheme in ("sqlite://", "file://"):
            if url.startswith(scheme):
                path = url.removeprefix(scheme).removeprefix("localhost")
                break
        else:
            path = url
        if not (path.startswith("/") or (path == url and path.startswith("~/"))):
            raise ValueError
        if PurePosixPath(path) == PurePosixPath("/"):
            raise ValueError
        return url

    allowed = "sqlite:///PATH, file:///FOLDER, an absolute path (a folder, or a SQLite file), or memory:"
    return made(allowed, accept, text=True)


def is_plain_http(url: str) -> bool:
    """Whether a URL that passed its kind needs ``network.allow_loopback_http``."""
    return urlsplit(url).scheme == "http"


def _web_url(value: object) -> str:
    url = string(value)
    parts = urlsplit(url)
    _ = parts.port  # raises if it is no port
    fine = parts.scheme == "https" or (parts.scheme == "http" and parts.hostname in _LOOPBACK_HOSTS)
    if not fine or not parts.hostname or "@" in parts.netloc or parts.fragment or re.search(r"\s", url):
        raise ValueError
    return url
