"""TLS on loopback: the name is verified although a number is dialled."""

from __future__ import annotations

import datetime
import hashlib
import ssl
from base64 import b64encode
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import anyio
import pytest
from anyio.abc import ByteStream, SocketAttribute, SocketStream
from anyio.streams.tls import TLSListener, TLSStream
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from idiolectd.config import Config, NetworkConfig, StoreConfig
from idiolectd.errors import ConfigError, NotSent, Unclear
from idiolectd.http import HttpClient, NetworkPolicy, OriginPools, make_http, tls_context
from tests.clock import VirtualClock
from tests.http.support import LOOPBACK, house, listening

pytestmark = pytest.mark.anyio


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A certificate for ``localhost`` and ``pds.test``, its own authority, with its key in one file."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "localhost")])
    now = datetime.datetime.now(datetime.UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(
            x509.SubjectAlternativeName([x509.DNSName("localhost"), x509.DNSName("pds.test")]), critical=False
        )
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    path = tmp_path_factory.mktemp("tls") / "localhost.pem"
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    path.write_bytes(private + made.public_bytes(serialization.Encoding.PEM))
    return path


@asynccontextmanager
async def tls_server(certificate: Path, answer: bytes) -> AsyncIterator[int]:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)

    async def handler(stream: TLSStream) -> None:
        async with stream:
            await stream.receive()
            await stream.send(answer)

    tcp = await anyio.create_tcp_listener(local_host="127.0.0.1")
    listener = TLSListener(tcp, context, standard_compatible=False)
    async with listener, anyio.create_task_group() as tasks:
        tasks.start_soon(listener.serve, handler)
        yield tcp.extra(SocketAttribute.local_port)
        tasks.cancel_scope.cancel()


def client(certificate: Path | None) -> HttpClient:
    context = ssl.create_default_context(cafile=certificate)
    transport = OriginPools(LOOPBACK, ssl_context=context)
    return HttpClient(policy=LOOPBACK, clock=VirtualClock(), events=lambda _: None, transport=transport)


OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}"


async def test_the_hosts_name_is_verified(certificate: Path) -> None:
    """The right name passes, a number that the certificate does not name does not."""
    async with tls_server(certificate, OK) as port, client(certificate) as http:
        assert (await http.request("GET", f"https://localhost:{port}/")).json_object() == {}
        with pytest.raises(NotSent) as caught:
            await http.request("GET", f"https://127.0.0.1:{port}/")
    assert caught.value.code == "tls"
    assert "127.0.0.1" in str(caught.value)


async def test_an_unknown_authority_is_refused(certificate: Path) -> None:
    """Before the first byte of the request."""
    async with tls_server(certificate, OK) as port, client(None) as http:
        with pytest.raises(NotSent) as caught:
            await http.request("POST", f"https://localhost:{port}/", form={"a": "b"})
    assert caught.value.code == "tls"


async def test_half_an_answer_over_tls_is_unclear(certificate: Path) -> None:
    """TLS streams end in ways of their own."""
    async with tls_server(certificate, OK[:-1]) as port, client(certificate) as http:
        with pytest.raises(Unclear):
            await http.request("POST", f"https://localhost:{port}/")


async def fetched(http: HttpClient, port: int) -> object:
    async with http:
        return (await http.request("GET", f"https://localhost:{port}/")).json_object()


async def test_a_private_authority_can_be_named(certificate: Path) -> None:
    """By network.ca_file, beside the system's."""
    config = Config(
        store=StoreConfig(url="memory:"),
        network=NetworkConfig(allow_loopback_http=True, ca_file=str(certificate)),
    )
    async with tls_server(certificate, OK) as port:
        assert await fetched(make_http(config, VirtualClock(), lambda _: None), port) == {}
    believed = len(tls_context(str(certificate)).get_ca_certs())
    assert believed == len(tls_context().get_ca_certs()) + 1
    assert believed > 10


@pytest.mark.parametrize("variable", ["SSL_CERT_FILE", "SSL_CERT_DIR"])
async def test_the_systems_authorities_count(
    certificate: Path, variable: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As OpenSSL finds them, and with it every other program of the host."""
    place = certificate
    if variable == "SSL_CERT_DIR":  # by the hash of the subject's name, as `openssl rehash` would do it
        place, subject = tmp_path, x509.load_pem_x509_certificate(certificate.read_bytes()).subject
        (tmp_path / f"{subject_hash(subject)}.0").write_bytes(certificate.read_bytes())
    monkeypatch.setenv(variable, str(place))
    config = Config(store=StoreConfig(url="memory:"), network=NetworkConfig(allow_loopback_http=True))
    async with tls_server(certificate, OK) as port:
        assert await fetched(make_http(config, VirtualClock(), lambda _: None), port) == {}


def subject_hash(subject: x509.Name) -> str:
    """OpenSSL's: SHA-1 of the attributes' canonical encodings, the first four bytes, little-endian."""
    (attribute,) = subject
    text = str(attribute.value).encode()
    oid = bytes.fromhex("0603550403")  # commonName
    pair = oid + bytes([0x0C, len(text)]) + text
    pair = bytes([0x30, len(pair)]) + pair
    digest = hashlib.sha1(bytes([0x31, len(pair)]) + pair, usedforsecurity=False).digest()
    return f"{int.from_bytes(digest[:4], 'little'):08x}"


def test_a_system_without_any_has_others(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A bare container, or a Python that looks where there is nothing."""
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "missing"))
    monkeypatch.setenv("SSL_CERT_DIR", str(tmp_path))
    assert len(tls_context().get_ca_certs()) > 10


@pytest.mark.parametrize("text", [None, b"", b"nonsense"])
def test_what_is_no_authority(text: bytes | None, tmp_path: Path) -> None:
    """The key and the file are named."""
    path = tmp_path / "ca.pem"
    if text is not None:
        path.write_bytes(text)
    with pytest.raises(ConfigError, match=f"network.ca_file: {path}"):
        tls_context(str(path))


class CountingContext(ssl.SSLContext):
    """Counts the connections that it verifies."""

    connections = 0

    def wrap_bio(self, *args: Any, **kwargs: Any) -> ssl.SSLObject:
        self.connections += 1
        return super().wrap_bio(*args, **kwargs)


async def test_all_origins_share_one_tls_context(certificate: Path) -> None:
    """A context costs 50 ms and a megabyte; an origin must not."""
    context = CountingContext(ssl.PROTOCOL_TLS_CLIENT)
    context.load_verify_locations(certificate)
    transport = OriginPools(LOOPBACK, ssl_context=context)
    async with (
        tls_server(certificate, OK) as first,
        tls_server(certificate, OK) as second,
        HttpClient(policy=LOOPBACK, clock=VirtualClock(), events=lambda _: None, transport=transport) as http,
    ):
        for port in (first, second):
            await http.request("GET", f"https://localhost:{port}/")
    assert context.connections == 2


@pytest.mark.parametrize(
    ("scheme", "userinfo", "authorization"),
    [
        ("http", "", []),
        ("http", "user:p%40ss@", [b"Proxy-Authorization: Basic " + b64encode(b"user:p@ss")]),
        ("https", "user@", [b"Proxy-Authorization: Basic " + b64encode(b"user:")]),
    ],
)
@pytest.mark.usefixtures("without_rest")
async def test_a_proxy_opens_a_tunnel(
    certificate: Path, scheme: str, userinfo: str, authorization: list[bytes]
) -> None:
    """The proxy is asked once, with the operator's password; the server is verified through it, and looked up by it."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    asked: list[bytes] = []
    paths: list[bytes] = []

    async def tls(stream: ByteStream) -> TLSStream:
        return await TLSStream.wrap(stream, server_side=True, ssl_context=context, standard_compatible=False)

    async def proxy(plain: SocketStream) -> None:
        stream: ByteStream = await tls(plain) if scheme == "https" else plain
        asked.append(await stream.receive())
        await stream.send(b"HTTP/1.1 200 Connection established\r\n\r\n")
        server = await tls(stream)
        while True:
            paths.append((await server.receive()).split()[1])
            await server.send(OK)

    async with listening(proxy) as url:
        port = url.rpartition(":")[2]
        policy = NetworkPolicy(proxy=f"{scheme}://{userinfo}localhost:{port}")
        transport = OriginPools(policy, ssl_context=ssl.create_default_context(cafile=certificate))
        async with house(transport, policy=policy) as w:
            await w.client.look_up("https://pds.test/")
            for path in ("/a", "/b"):
                assert (await w.client.request("POST", f"https://pds.test{path}")).json_object() == {}
    assert paths == [b"/a", b"/b"]
    lines = [b"CONNECT pds.test:443 HTTP/1.1", b"Host: pds.test:443", *authorization]
    assert asked == [b"\r\n".join(lines) + b"\r\n\r\n"]
