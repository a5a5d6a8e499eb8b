"""Where requests may go: the rules for URLs and for addresses.

`idiolectd.http.dialler` checks by them every address that a host name has, before it dials one. It does not
see the addresses behind a configured proxy; URLs, and hosts written as numbers, are checked all the same.
"""

from dataclasses import dataclass, field
from functools import lru_cache
from ipaddress import (
    IPv4Address,
    IPv4Network,
    IPv6Address,
    IPv6Network,
    ip_network,
)

from idiolectd.errors import ConfigError, NotSent, UrlError
from idiolectd.outcome import Code
from idiolectd.url import Url, is_loopback_host

Address = IPv4Address | IPv6Address
Network = IPv4Network | IPv6Network

# Today's whole of global unicast. The rest of IPv6 is special or not given out.
_GLOBAL_IPV6 = IPv6Network("2000::/3")

# `is_global` is about what a registry calls globally reachable, not about what a server may have.
# It (or an older Python's copy of the registry) says yes to all of these.
_SPECIAL = tuple(
    ip_network(text)
    for text in (
        "192.0.0.0/24",  # protocol assignments: NAT64 discovery, PCP, DS-Lite
        "192.88.99.0/24",  # 6to4 relays
        "2001::/23",  # protocol assignments, Teredo among them: it hides an IPv4 address
        "2001:db8::/32",  # documentation
        "2002::/16",  # 6to4: hides an IPv4 address
        "3fff::/20",  # documentation
    )
)

# On a network with NAT64 every IPv4 host is reached through this prefix, so it is looked into.
# Its local-use sibling 64:ff9b:1::/48 says nothing about what lies behind it: refused.
_NAT64 = IPv6Network("64:ff9b::/96")


@dataclass(frozen=True, kw_only=True)
class NetworkPolicy:
    """The configured part of the guard.

    Attributes:
        allow_loopback_http: plain http to loopback, and loopback addresses at all.
        allow_addresses: networks that are not public and may be dialled, for a PDS on the LAN.
        proxy: URL of an HTTP proxy (``http`` or ``https``) for everything but loopback; may hold a
            password, so it is not shown. The guard can't see addresses behind it.

    Raises:
        ConfigError: the proxy's URL is not one.
    """

    allow_loopback_http: bool = False
    allow_addresses: tuple[Network, ...] = ()
    proxy: str | None = field(default=None, repr=False)

    def __post_init__(self) -> None:
        if self.proxy is not None:
            try:
                Url.parse(self.proxy)
            except UrlError as error:
                raise ConfigError(f"network.proxy: {error}; expected http://HOST:PORT or https://") from None


def origin(url: str | Url) -> str:
    """Scheme, host and, if not the default, port of a URL, as `HttpClient` keys what it remembers.

    Raises:
        NotSent: not a URL (code ``guard``).
    """
    return _parse(url).origin


def check_url(url: str | Url, policy: NetworkPolicy) -> Url:
    """Refuses a URL that no request may go to, whatever its host resolves to; else returns it, parsed.

    Raises:
        NotSent: with code ``guard``; the message shows no more than the origin.
    """
    parsed = _parse(url)
    where = f"{parsed.scheme}://{parsed.host}"
    if parsed.userinfo is not None:
        raise NotSent(Code.GUARD, f"{where}: a URL with a user name or password in it is not used")
    if parsed.is_cleartext:
        raise NotSent(Code.GUARD, f"{where}: only https is used, except to loopback")
    if parsed.scheme == "http" and not policy.allow_loopback_http:
        raise NotSent(Code.GUARD, f"{where}: plain http needs network.allow_loopback_http")
    if parsed.address is not None:
        check_address(parsed.address, policy, parsed.host)
    return parsed


@lru_cache(maxsize=1024)  # whoever sends to it asks several times
def check_address(address: Address, policy: NetworkPolicy, host: str) -> None:
    """Refuses an address that must not be dialled.

    Args:
        address: what `host` resolved to.
        policy: what is allowed beyond the public internet.
        host: for the message; a loopback name must lead to loopback and nowhere else.

    Raises:
        NotSent: with code ``guard``.
    """
    inner = _embedded(address)
    if inner.is_loopback:
        if not policy.allow_loopback_http:
            raise NotSent(Code.GUARD, f"{host}: {address} is loopback; network.allow_loopback_http is off")
        return
    if is_loopback_host(host):
        raise NotSent(Code.GUARD, f"{host}: leads to {address}, which is not loopback")
    if inner.is_multicast or inner.is_unspecified:
        raise NotSent(Code.GUARD, f"{host}: {address} is no host's address")
    if any(a in network for network in policy.allow_addresses for a in (address, inner)):
        return
    if not _is_public(inner):
        raise NotSent(Code.GUARD, f"{host}: {address} is not a public address; see network.allow_addresses")


def _parse(url: str | Url) -> Url:
    if isinstance(url, Url):
        return url
    try:
        return Url.parse(url)
    except UrlError as error:
        raise NotSent(Code.GUARD, str(error)) from None


def _embedded(address: Address) -> Address:
    """The IPv4 address that an IPv6 address stands for on the wire, or the address itself."""
    if isinstance(address, IPv6Address):
        if address.ipv4_mapped is not None:
            return address.ipv4_mapped
        if address in _NAT64:
            return IPv4Address(int(address) & 0xFFFF_FFFF)
    return address


def _is_public(address: Address) -> bool:
    if not address.is_global or any(address in network for network in _SPECIAL):
        return False
    return isinstance(address, IPv4Address) or address in _GLOBAL_IPV6
