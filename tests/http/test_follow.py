"""What the system changes under a process that runs for years is followed without a restart."""

import shutil
import ssl
from pathlib import Path

import anyio
import dns.resolver
import pytest
from anyio.abc import SocketStream

from idiolectd.errors import ConfigError
from idiolectd.http import OriginPools, Trust
from idiolectd.identity.txt import DnsTxt
from tests.http.support import LOOPBACK, house, listening, read_request


@pytest.fixture
def authorities(tmp_path: Path) -> Path:
    """A file with a certificate authority."""
    import certifi

    path = tmp_path / "ca.pem"
    shutil.copy(certifi.where(), path)
    return path


class FakeTime:
    def __init__(self) -> None:
        self.now = 0.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> FakeTime:
    made = FakeTime()
    monkeypatch.setattr("idiolectd.http.trust.time", made)
    return made


def replace_file(path: Path, text: bytes) -> None:
    new = path.with_suffix(".new")
    new.write_bytes(text)
    new.replace(path)


def subjects(context: ssl.SSLContext) -> int:
    return len(context.get_ca_certs())


def test_renewed_authorities_are_believed(authorities: Path, clock: FakeTime) -> None:
    """Within a minute; what can't be read changes nothing, and is tried again."""
    whole = authorities.read_bytes()
    end = b"-----END CERTIFICATE-----\n"
    first = whole[: whole.index(end) + len(end)]
    replace_file(authorities, first)
    trust = Trust(str(authorities))
    before = trust.context()
    replace_file(authorities, whole)
    assert trust.context() is before
    clock.now += 61
    after = trust.context()
    assert after is not before
    assert subjects(after) >= subjects(before)
    replace_file(authorities, b"half of a file")
    clock.now += 61
    assert trust.context() is after
    replace_file(authorities, first)
    clock.now += 61
    assert trust.context() is not after
    clock.now += 61
    assert trust.context() is trust.context()
    authorities.write_text("none")
    with pytest.raises(ConfigError):
        Trust(str(authorities))


@pytest.mark.anyio
@pytest.mark.usefixtures("without_rest")
async def test_a_busy_origin_takes_the_new_context(authorities: Path, clock: FakeTime) -> None:
    """Also a server that is never left alone gets it: no connection that was made before is used again."""
    connections: list[SocketStream] = []
    release = anyio.Event()

    async def handler(stream: SocketStream) -> None:
        connections.append(stream)
        while True:
            if b"slow" in await read_request(stream):
                await release.wait()
            await stream.send(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")

    transport = OriginPools(LOOPBACK, trust=Trust(str(authorities)))
    async with listening(handler) as url, house(transport) as w, anyio.create_task_group() as tasks:
        tasks.start_soon(w.client.request, "GET", url + "/slow")
        await anyio.wait_all_tasks_blocked()
        for _ in range(2):
            await w.client.request("GET", url)
        assert len(connections) == 2
        replace_file(authorities, authorities.read_bytes() + b"\n")
        clock.now += 61
        await w.client.request("GET", url)
        assert len(connections) == 3
        release.set()
        await anyio.wait_all_tasks_blocked()
        await w.client.request("GET", url)
        assert len(connections) == 3


def test_other_name_servers_are_asked(tmp_path: Path) -> None:
    """As soon as resolv.conf names them; while it is away, those before."""
    conf = tmp_path / "resolv.conf"
    lookup = DnsTxt(conf=conf)
    with pytest.raises(dns.resolver.NoResolverConfiguration):
        lookup.resolver()
    conf.write_text("nameserver 127.0.0.2\n")
    first = lookup.resolver()
    assert [str(server) for server in first.nameservers] == ["127.0.0.2"]
    assert lookup.resolver() is first
    replace_file(conf, b"nameserver 127.0.0.3\n")
    assert [str(server) for server in lookup.resolver().nameservers] == ["127.0.0.3"]
    conf.unlink()
    assert [str(server) for server in lookup.resolver().nameservers] == ["127.0.0.3"]
    link = tmp_path / "other.conf"
    link.write_text("nameserver 127.0.0.4\n")
    conf.symlink_to(link)
    assert [str(server) for server in lookup.resolver().nameservers] == ["127.0.0.4"]
