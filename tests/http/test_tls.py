"""TLS on loopback: the name is verified although a number is dialled."""

from __future__ import annotations

import datetime
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import anyio
import pytest
from anyio.abc import SocketAttribute
from anyio.streams.tls import TLSListener, TLSStream
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from idiolectd.errors import NotSent, Unclear
from idiolectd.http import HttpClient, LaneTransport
from tests.http.support import LOOPBACK, FakeClock

pytestmark = pytest.mark.anyio


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A certificate for ``localhost``, its own authority, with its key in one file."""
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
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("localhost")]), critical=False)
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
    transport = LaneTransport(LOOPBACK, ssl_context=context)
    return HttpClient(policy=LOOPBACK, clock=FakeClock(), events=lambda _: None, transport=transport)


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
