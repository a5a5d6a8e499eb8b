"""Parses http and https URLs into one canonical form, in which they are compared and requested.

URLs come from records, servers, configurations and people, and libraries disagree on unusual ones: one reads
a host where another reads a password, a number, or nothing. So only URLs that all of them read in the same
way are accepted; the rest is refused here.

Checks syntax only: `http` (the guard) and `auth` (the destination) decide where a request may go.
"""

import re
from dataclasses import dataclass, field
from functools import cached_property, lru_cache
from ipaddress import IPv4Address, IPv6Address, ip_address
from typing import Final
from urllib.parse import quote

from idiolectd.errors import UrlError

DEFAULT_PORTS: Final = {"http": 80, "https": 443}

# RFC 3986, appendix B, for the two schemes that are used.
_URL = re.compile(r"(https?)://([^/?#]*)([^?#]*)(?:\?([^#]*))?(?:#(.*))?", re.ASCII | re.IGNORECASE)
_AUTHORITY = re.compile(
    # Browsers read a backslash as a slash, so for them the host would end before it.
    r"(?:(?P<userinfo>[^\\\[\]\s]*)@)?(?:\[(?P<ipv6>[0-9a-f:.]+)\]|(?P<name>[a-z0-9._-]+))(?::(?P<port>[0-9]{0,5}))?",
    re.ASCII | re.IGNORECASE,
)
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")
_LABEL = re.compile(r"[a-z0-9_-]{1,63}", re.ASCII)
# By https://url.spec.whatwg.org/#ends-in-a-number-checker a host whose last label looks like this is
# an IPv4 address, in whatever notation: 127.1, 2130706433, 0177.0.0.1, 0x7f.1.
_NUMERIC = re.compile(r"[0-9]+|0x[0-9a-f]*", re.ASCII)

_MAX_LENGTH = 65_536  # as httpx
_MAX_NAME = 253
_MAX_PORT = 65_535
_KEPT = 4096
_SHORT = 512

# The characters that HTTP libraries send unchanged; they percent-encode all others, and so does this module.
_PATH_SAFE = "!$%&'()*+,-./:;=@[\\]^_|~"
_QUERY_SAFE = _PATH_SAFE + "?`{}"

_LOOPBACK_NAME = "localhost"

# The XRPC method that tells whether a PDS takes an access token, at little cost and for any scope.
GET_SESSION: Final = "com.atproto.server.getSession"


@dataclass(frozen=True)
class Url:
    """An absolute http or https URL in canonical form, made by `parse`. `str` returns what a request goes to.

    Attributes:
        scheme: ``http`` or ``https``.
        host: a name in ASCII and lower case (IDNs as ``xn--``), or an address in its usual form, IPv6
            without brackets.
        port: None if it is the scheme's default.
        path: percent-encoded, at least ``/``.
        query: percent-encoded; None: there is none.
        has_fragment: whether it had a fragment, which is neither sent nor kept.
        userinfo: user and password as they were written; None: there are none.
    """

    scheme: str
    host: str
    port: int | None
    path: str
    query: str | None = field(repr=False)
    has_fragment: bool
    userinfo: str | None = field(repr=False)

    @classmethod
    def parse(cls, text: str) -> "Url":
        """Reads a URL.

        Raises:
            UrlError: it is not an acceptable URL; the message says why and quotes nothing of it.
        """
        return _remembered(text) if len(text) <= _SHORT else _parsed(text)

    def __str__(self) -> str:
        """The URL without user, password and fragment."""
        return self.origin + self.target

    @property
    def target(self) -> str:
        """Path and query: what a request line names (RFC 9112, section 3.2.1)."""
        return self.path if self.query is None else f"{self.path}?{self.query}"

    @cached_property
    def origin(self) -> str:
        """Scheme, host and, if it is not the default, port: equal for URLs of the same server."""
        return f"{self.scheme}://{self.authority}"

    @cached_property
    def authority(self) -> str:
        """Host and, if it is not the default, port: what goes into a Host header."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port is None else f"{host}:{self.port}"

    @property
    def dialled_port(self) -> int:
        """The port to connect to, also if it is the scheme's default."""
        return self.port or DEFAULT_PORTS[self.scheme]

    @cached_property
    def is_loopback(self) -> bool:
        """Whether the host's name or address means this machine; makes no look-up."""
        return is_loopback_host(self.host)

    @property
    def is_cleartext(self) -> bool:
        """Whether others on the network could read a request: plain HTTP to another machine."""
        return self.scheme == "http" and not self.is_loopback

    @cached_property
    def address(self) -> IPv4Address | IPv6Address | None:
        """The host's IP address; None if the host is a name."""
        is_number = ":" in self.host or self.host.rpartition(".")[2].isdecimal()
        return ip_address(self.host) if is_number else None


def xrpc_url(server: str, method: str) -> str:
    """The URL of an XRPC method at a server (https://atproto.com/specs/xrpc).

    Args:
        server: the server's URL; a slash at its end does not matter.
        method: the method's NSID.
    """
    return f"{server.rstrip('/')}/xrpc/{method}"


@lru_cache(maxsize=4096)  # as `Url.parse`
def is_loopback_host(host: str) -> bool:
    """Whether a host in the form of `Url.host` means this machine by its name or address."""
    if host == _LOOPBACK_NAME:
        return True
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return False


def _parsed(text: str) -> Url:
    if len(text) > _MAX_LENGTH:
        raise UrlError("it is too long for a URL")
    if _CONTROL.search(text):
        raise UrlError("there are control characters in the URL")
    found = _URL.fullmatch(text)
    if found is None:
        raise UrlError("not an https URL")
    authority = _AUTHORITY.fullmatch(found[2])
    if authority is None:
        hint = "" if found[2].isascii() else "; write an international name in its ASCII form (xn--...)"
        raise UrlError(f"the URL names no host and port that are used{hint}")
    scheme = found[1].lower()
    port = int(authority["port"] or DEFAULT_PORTS[scheme])
    if not 0 < port <= _MAX_PORT:
        raise UrlError(f"the URL's port is {port}; ports end at {_MAX_PORT}")
    try:
        return Url(
            scheme=scheme,
            host=_address(authority["ipv6"]) if authority["ipv6"] else _host(authority["name"].lower()),
            port=None if port == DEFAULT_PORTS[scheme] else port,
            path=quote(found[3], safe=_PATH_SAFE) or "/",
            query=None if found[4] is None else quote(found[4], safe=_QUERY_SAFE),
            has_fragment=found[5] is not None,
            userinfo=authority["userinfo"],
        )
    except UnicodeEncodeError:
        raise UrlError("there are lone surrogates in the URL") from None


_remembered = lru_cache(maxsize=_KEPT)(_parsed)  # several times a refresh


def _host(name: str) -> str:
    labels = name.removesuffix(".").split(".")
    if len(name) > _MAX_NAME or not all(_LABEL.fullmatch(label) for label in labels):
        raise UrlError("the URL's host is not a name")
    if _NUMERIC.fullmatch(labels[-1]):
        try:
            return str(ip_address(name))
        except ValueError:
            raise UrlError("the URL's host is a number that is not written as in 192.0.2.1") from None
    return name


def _address(text: str) -> str:
    try:
        return str(IPv6Address(text))
    except ValueError:
        raise UrlError("the URL's host is not an IPv6 address") from None
