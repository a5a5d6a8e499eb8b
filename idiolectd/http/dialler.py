"""Opens connections to servers: looks up the name, checks every address, dials, and verifies the server.

A host name is resolved here, every address it has is checked (`idiolectd.http.guard`), and the checked
number is dialled: a name that resolves differently the second time gains nothing. TLS still verifies the
host's name.

With a configured proxy everything but loopback goes through a tunnel that the proxy opens (RFC 9110, section
9.3.6). What is dialled then is the proxy: the operator named it, wherever it is. The addresses behind it are
not seen: the proxy resolves names itself, and keeping it away from private ones is its operator's job.

Nothing of a request is sent here. What the guard refuses, and what does not resolve, is raised as `NotSent`;
what fails, as the exceptions of httpx.
"""

import errno
import os
import socket
import ssl
from base64 import b64encode
from collections.abc import Awaitable, Callable
from contextlib import suppress
from ipaddress import ip_address
from urllib.parse import unquote

import anyio
import httpx
from anyio.abc import ByteStream
from anyio.streams.tls import TLSStream

from idiolectd.http.connection import Connection
from idiolectd.http.guard import NetworkPolicy, check_address
from idiolectd.http.name_lookup import NameLookups
from idiolectd.http.request_progress import RequestProgress
from idiolectd.http.tcp_stream import TcpStream
from idiolectd.http.time_limits import TimeLimits
from idiolectd.url import Url, is_loopback_host

Dial = Callable[[str, int], Awaitable[ByteStream]]

# One dead address (an IPv6 route that swallows packets) must not use up the whole time to connect.
_SECONDS_PER_ADDRESS = 2.0


class Dialler:
    """Opens connections to checked addresses.

    Args:
        policy: which addresses, and the proxy.
        names: who looks up names; None: the system's resolver.
        dial: connects to a number and a port; None: by TCP.
    """

    def __init__(
        self, policy: NetworkPolicy, names: NameLookups | None = None, dial: Dial | None = None
    ) -> None:
        self._policy = policy
        self._names = names or NameLookups()
        self._dial = dial or _dialled
        self._proxy = None if policy.proxy is None else Url.parse(policy.proxy)

    async def look_up(self, host: str) -> None:
        """Looks up a host's name, if connecting will need that: a proxy looks up names itself.

        Raises:
            NotSent: as `NameLookups.addresses`.
        """
        if self._proxy_for(host) is None:
            await self._names.addresses(host)

    async def connect(
        self, scheme: str, host: str, port: int, context: ssl.SSLContext, limits: TimeLimits
    ) -> Connection:
        """A connection to a server.

        Args:
            scheme: ``https`` or ``http``.
            host: a name, or an address without brackets.
            port: the server's.
            context: verifies it, and a proxy.
            limits: bound the connection, and each handshake.
        """
        proxy = self._proxy_for(host)
        if proxy is None:
            stream = await self._connect_tcp(host, port, self._policy, limits)
        elif scheme == "https":
            stream = await self._tunnel(proxy, host, port, context, limits)
        else:
            raise httpx.UnsupportedProtocol("plain http goes to loopback only, and that is asked directly")
        if scheme == "https":
            stream = await _start_tls(stream, host, context, limits)
        return Connection(stream, context)

    async def _connect_tcp(
        self,
        host: str,
        port: int,
        policy: NetworkPolicy | None,
        limits: TimeLimits,
    ) -> ByteStream:
        """Resolves, checks, and dials the addresses in the resolver's order until one answers.

        Without a policy nothing is checked.
        """
        try:
            with limits.waiting("connect"):
                numbers = await self._names.addresses(host)
                # All of them, not just the one that would be dialled: a name that mixes public and private
                # addresses is a mistake or an attack.
                if policy is not None:
                    for number in numbers:
                        check_address(ip_address(number), policy, host)
                for number in numbers[:-1]:
                    with suppress(OSError), anyio.fail_after(_SECONDS_PER_ADDRESS):  # TimeoutError is one
                        return await self._dial(number, port)
                return await self._dial(numbers[-1], port)
        except TimeoutError as error:
            raise httpx.ConnectTimeout("") from error
        except (OSError, anyio.BrokenResourceError) as error:
            raise httpx.ConnectError("") from error

    def _proxy_for(self, host: str) -> Url | None:
        return None if is_loopback_host(host) else self._proxy

    async def _tunnel(
        self, proxy: Url, host: str, port: int, context: ssl.SSLContext, limits: TimeLimits
    ) -> ByteStream:
        stream = await self._connect_tcp(proxy.host, proxy.dialled_port, None, limits)
        if proxy.scheme == "https":
            stream = await _start_tls(stream, proxy.host, context, limits)
        connection = Connection(stream, context)
        target = (f"[{host}]:{port}" if ":" in host else f"{host}:{port}").encode()
        headers = [(b"Host", target), *_authorization(proxy)]
        try:
            head = await connection.ask(
                b"CONNECT", target, headers, b"", limits=limits, progress=RequestProgress()
            )
        except BaseException:
            await connection.cut()
            raise
        if not 200 <= head.status < 300:
            await connection.cut()
            raise httpx.ProxyError(f"the proxy answers {head.status}")
        return stream


async def _dialled(number: str, port: int) -> ByteStream:
    """Connects by TCP. anyio's own function is made for names, and takes three times as much work."""
    sock = socket.socket(socket.AF_INET6 if ":" in number else socket.AF_INET, socket.SOCK_STREAM)
    try:
        sock.setblocking(False)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        try:
            sock.connect((number, port))
        except BlockingIOError:
            await anyio.wait_writable(sock)
            error = sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
            if error:
                raise OSError(error, os.strerror(error)) from None
        try:
            sock.getpeername()
        except OSError:  # the server has ended the connection already
            raise ConnectionResetError(errno.ECONNRESET, os.strerror(errno.ECONNRESET)) from None
    except BaseException:
        sock.close()
        raise
    return TcpStream(sock)


def _authorization(proxy: Url) -> list[tuple[bytes, bytes]]:
    if proxy.userinfo is None:
        return []
    user, _, password = proxy.userinfo.partition(":")
    return [(b"Proxy-Authorization", b"Basic " + b64encode(f"{unquote(user)}:{unquote(password)}".encode()))]


async def _start_tls(
    stream: ByteStream, host: str, context: ssl.SSLContext, limits: TimeLimits
) -> ByteStream:
    """Verifies the server, or closes the stream."""
    context.set_alpn_protocols(["http/1.1"])
    try:
        with limits.waiting("connect"):
            return await TLSStream.wrap(
                stream, hostname=host, ssl_context=context, standard_compatible=False, server_side=False
            )
    except BaseException as error:
        with anyio.CancelScope(shield=True):
            await stream.aclose()
        # ValueError: a name that OpenSSL can't take.
        if isinstance(error, OSError | anyio.BrokenResourceError | anyio.EndOfStream | ValueError):
            raise httpx.ConnectError("") from error
        raise
