"""Where requests may go."""

import ssl
from ipaddress import ip_address, ip_network

import httpx
import pytest
import trio
from anyio.abc import ByteStream, SocketStream

from idiolectd.errors import ConfigError, NotSent
from idiolectd.http import NetworkPolicy, check_address, check_url, origin
from idiolectd.http.dialler import Dialler
from idiolectd.http.name_lookup import NameLookups
from idiolectd.http.time_limits import EachWait
from tests.http.support import LOOPBACK, answering, house, listening, read_request

STRICT = NetworkPolicy()

PUBLIC = ["1.1.1.1", "93.184.216.34", "2606:4700::1111", "::ffff:1.1.1.1", "64:ff9b::101:101"]
REFUSED = [
    "0.0.0.0",
    "0.1.2.3",
    "10.1.2.3",
    "100.64.0.1",
    "127.0.0.1",
    "127.9.9.9",
    "169.254.169.254",
    "172.16.0.1",
    "192.0.0.8",
    "192.0.2.1",
    "192.88.99.1",
    "192.168.1.1",
    "198.18.0.1",
    "224.0.0.1",
    "239.255.255.250",
    "240.0.0.1",
    "255.255.255.255",
    "::",
    "::1",
    "::7f00:1",
    "::ffff:10.0.0.1",
    "::ffff:127.0.0.1",
    "64:ff9b::7f00:1",
    "64:ff9b::a00:1",
    "64:ff9b:1::1",
    "100::1",
    "2001:0:4136:e378:8000:63bf:3fff:fdd2",
    "2001:db8::1",
    "2002:7f00:1::",
    "2002:101:101::",
    "3fff::1",
    "4000::1",
    "5f00::1",
    "fc00::1",
    "fe80::1",
    "fe80::1%1",
    "fec0::1",
    "ff02::1",
    "ff0e::1",
]


@pytest.mark.parametrize("address", PUBLIC)
def test_public_addresses_are_dialled(address: str) -> None:
    """An ordinary server's address needs no permission."""
    check_address(ip_address(address), STRICT, "pds.test")


@pytest.mark.parametrize("address", REFUSED)
def test_other_addresses_are_refused(address: str) -> None:
    """Nothing that is not public is dialled, in whatever clothes it comes."""
    with pytest.raises(NotSent) as caught:
        check_address(ip_address(address), STRICT, "pds.test")
    assert caught.value.code == "guard"


@pytest.mark.parametrize("address", ["10.1.2.3", "::ffff:10.1.2.3", "64:ff9b::a01:203"])
def test_allowed_networks_are_dialled(address: str) -> None:
    """A PDS on the LAN is reached through the network that the operator allowed, in every spelling."""
    policy = NetworkPolicy(allow_addresses=(ip_network("10.0.0.0/8"),))
    check_address(ip_address(address), policy, "pds.test")


@pytest.mark.parametrize("address", ["127.0.0.1", "::1", "0.0.0.0", "224.0.0.1", "::ffff:127.0.0.1"])
def test_allowing_everything_does_not_allow_loopback_or_no_host(address: str) -> None:
    """Loopback has a switch of its own, and some addresses are nobody's."""
    policy = NetworkPolicy(allow_addresses=(ip_network("0.0.0.0/0"), ip_network("::/0")))
    with pytest.raises(NotSent):
        check_address(ip_address(address), policy, "pds.test")


def test_a_loopback_name_must_lead_to_loopback() -> None:
    """Plain http to localhost can't be turned outwards by a resolver."""
    with pytest.raises(NotSent, match="not loopback"):
        check_address(ip_address("93.184.216.34"), LOOPBACK, "localhost")
    check_address(ip_address("::1"), LOOPBACK, "localhost")


@pytest.mark.parametrize(
    "url",
    [
        "http://pds.test/",
        "http://127.0.0.1:8080/",
        "http://localhost/",
        "https://user:SECRET-1@pds.test/",
        "https://SECRET-1@pds.test/",
        "ftp://pds.test/",
        "file:///etc/passwd",
        "https:///path",
        "pds.test",
        "",
        "https://10.0.0.1/",
        "https://[::1]/",
        "https://[::ffff:10.0.0.1]/",
        "http://localhost.pds.test/",
        "http://2130706433/",
    ],
)
def test_urls_that_no_request_goes_to(url: str) -> None:
    """Only https, without userinfo, and not to a number that the guard would refuse."""
    with pytest.raises(NotSent) as caught:
        check_url(url, STRICT)
    assert caught.value.code == "guard"
    assert "SECRET" not in str(caught.value)


@pytest.mark.parametrize(
    "url", ["https://pds.test/x", "http://localhost:2583/", "http://127.0.0.1/", "http://[::1]:1/"]
)
def test_urls_that_are_used_where_loopback_is_allowed(url: str) -> None:
    """With the switch on, loopback may be plain http."""
    check_url(url, LOOPBACK)


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("https://PDS.test:443/a?b#c", "https://pds.test"),
        ("https://pds.test:8443/", "https://pds.test:8443"),
        ("http://[::1]:80/", "http://[::1]"),
    ],
)
def test_origin_is_normalised(url: str, expected: str) -> None:
    """What is remembered of a server is found again under any spelling of its URL."""
    assert origin(url) == expected


@pytest.mark.parametrize("proxy", ["socks5://127.0.0.1:1", "proxy.test:3128", "http://", ""])
def test_an_unusable_proxy_is_a_configuration_error(proxy: str) -> None:
    """A proxy that can't be used is said at the start and not at the first refresh."""
    with pytest.raises(ConfigError, match=r"network\.proxy"):
        NetworkPolicy(proxy=proxy)


def test_the_proxys_password_is_not_shown() -> None:
    """A policy may be logged."""
    assert "SECRET" not in repr(NetworkPolicy(proxy="http://user:SECRET@proxy.test:3128"))


@pytest.mark.anyio
async def test_a_name_that_leads_to_loopback_is_not_dialled() -> None:
    """The address is checked behind the name, and nothing reaches the listener."""
    reached = []

    async def handler(stream: object) -> None:
        reached.append(stream)

    async with listening(handler) as url, house(policy=STRICT) as w:
        with pytest.raises(NotSent) as caught:
            await w.client.request("GET", url.replace("http://127.0.0.1", "https://localhost"))
    assert caught.value.code == "guard"
    assert reached == []


@pytest.mark.anyio
async def test_a_proxy_is_not_used_for_loopback() -> None:
    """What is on this host is asked directly, even where everything else goes through a proxy."""
    policy = NetworkPolicy(allow_loopback_http=True, proxy="http://127.0.0.1:1")
    async with (
        listening(answering(b"HTTP/1.1 204 No Content\r\n\r\n")) as url,
        house(policy=policy) as w,
    ):
        assert (await w.client.request("GET", url)).status == 204
        with pytest.raises(NotSent) as caught:
            await w.client.request("GET", "https://pds.test/")
    assert caught.value.code == "connect"


@pytest.mark.anyio
async def test_a_proxy_is_asked_for_no_number_that_it_reads_otherwise() -> None:
    """It resolves names itself: 0x7f.1 would be its own loopback. A name that only looks odd is a name."""
    asked: list[object] = []

    async def handler(stream: object) -> None:
        asked.append(stream)

    async with listening(handler) as proxy, house(policy=NetworkPolicy(proxy=proxy)) as w:
        for host in ("0x7f.1", "2130706433", "127.1", "0177.0.0.1", "127.0.0.1"):
            with pytest.raises(NotSent) as caught:
                await w.client.request("GET", f"https://{host}/")
            assert caught.value.code == "guard"
        assert asked == []
        with pytest.raises(NotSent) as caught:
            await w.client.request("GET", "https://xn--a/")
    assert caught.value.code != "guard"
    assert len(asked) == 1


@pytest.mark.anyio
async def test_a_proxys_refusal_is_not_sent() -> None:
    """The request to open a tunnel is not ours: if it fails, nothing of ours left."""
    refused = answering(b"HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n\r\n")
    async with (
        listening(refused) as proxy,
        house(policy=NetworkPolicy(proxy=proxy)) as w,
    ):
        with pytest.raises(NotSent):
            await w.client.request("GET", "https://pds.test/")
    async with (
        listening(answering()) as proxy,
        house(policy=NetworkPolicy(proxy=proxy)) as w,
    ):
        with pytest.raises(NotSent):
            await w.client.request("GET", "https://pds.test/")


@pytest.mark.anyio
async def test_a_proxy_is_given_ipv6_addresses_in_brackets() -> None:
    """As RFC 9110, section 9.3.6, has it: the colon before the port is none of the address's."""
    asked: list[bytes] = []

    async def handler(stream: SocketStream) -> None:
        asked.append(await read_request(stream))

    async with listening(handler) as proxy, house(policy=NetworkPolicy(proxy=proxy)) as w:
        with pytest.raises(NotSent):
            await w.client.request("GET", "https://[2606:4700::1111]/")
    target = b"[2606:4700::1111]:443"
    assert asked == [b"CONNECT " + target + b" HTTP/1.1\r\nHost: " + target + b"\r\n\r\n"]


CONTEXT = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
IN_TIME = EachWait({"connect": 5.0})


class Dialled:
    """Connects to nobody and keeps what it was asked for."""

    def __init__(self) -> None:
        self.hosts: list[str] = []

    async def __call__(self, host: str, _port: int) -> ByteStream:
        self.hosts.append(host)
        raise ConnectionRefusedError


@pytest.mark.anyio
async def test_the_checked_number_is_dialled_and_not_the_name() -> None:
    """A name that resolves differently the second time gains nothing, because there is no second time."""
    dialled = Dialled()
    with pytest.raises(httpx.ConnectError):
        await Dialler(LOOPBACK, dial=dialled).connect("http", "localhost", 1, CONTEXT, IN_TIME)
    assert dialled.hosts
    assert all(ip_address(host).is_loopback for host in dialled.hosts)


@pytest.mark.parametrize("numbers", [("93.184.216.34", "10.0.0.1"), ("10.0.0.1", "93.184.216.34")])
def test_every_address_of_a_name_is_checked(numbers: tuple[str, str]) -> None:
    """A name with a public and a private address is not dialled at all, whichever comes first."""
    dialled = Dialled()

    async def connect() -> None:
        dialler = Dialler(NetworkPolicy(), NameLookups(lambda _: list(numbers)), dialled)
        with pytest.raises(NotSent) as caught:
            await dialler.connect("https", "both.test", 443, CONTEXT, IN_TIME)
        assert caught.value.code == "guard"

    trio.run(connect)
    assert dialled.hosts == []


@pytest.mark.anyio
async def test_an_address_is_dialled_as_it_is() -> None:
    """Nobody looks it up, and the server is named with brackets."""
    dialled, looked_up = Dialled(), list[str]()

    def resolve(host: str) -> list[str]:
        looked_up.append(host)
        return []

    dialler = Dialler(LOOPBACK, NameLookups(resolve), dialled)
    for number in ("::1", "127.0.0.1"):
        with pytest.raises(httpx.ConnectError):
            await dialler.connect("http", number, 1, CONTEXT, IN_TIME)
    assert dialled.hosts == ["::1", "127.0.0.1"]
    assert looked_up == []
    async with house(httpx.MockTransport(lambda asked: httpx.Response(200, text=asked.headers["Host"]))) as w:
        assert (await w.client.request("GET", "http://[::1]:1/")).body == b"[::1]:1"
