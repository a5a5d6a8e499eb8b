"""Promises that a planted bug showed to be untested; see `tests.torture.plants`."""

import socket
from pathlib import Path
from typing import Any

import anyio
import anyio.lowlevel
import httpcore
import pytest
import trio

from idiolectd.daemon.presence import hold_daemonship
from idiolectd.errors import LockBusy, NotSent, SessionError, StoreError
from idiolectd.http import NetworkPolicy
from idiolectd.http.guard import GuardedBackend
from idiolectd.outcome import Current, Refreshed
from idiolectd.refresh import RefreshEngine
from idiolectd.session import OAuthSession
from idiolectd.store import InMemoryOAuthTokenStore
from idiolectd.store.room import ensure_room
from tests.refresh.test_spill import Host
from tests.support import OTHER_KEY, FakeServer, Recorder, SetClock, did, planner

DID = did(1)


class FullStore(InMemoryOAuthTokenStore):
    """A store that knows it is full, and would take a small write all the same."""

    is_full = True

    async def ensure_room(self) -> None:
        await anyio.lowlevel.checkpoint()
        if self.is_full:
            raise StoreError("only 3 KiB are free")


def an_engine(store: InMemoryOAuthTokenStore, server: FakeServer, clock: SetClock) -> RefreshEngine:
    return RefreshEngine(store, {"dpop": server}, planner=planner(), clock=clock, events=Recorder())


@pytest.mark.anyio
async def test_nothing_is_sent_without_room() -> None:
    """Where the new tokens might not fit the old one stays unsent, without a note; with room it goes."""
    clock = SetClock()
    store, server = FullStore(clock=clock), FakeServer(clock.now)
    await store.save(server.login(DID))
    engine = an_engine(store, server, clock)
    with pytest.raises(StoreError, match="KiB"):
        await engine.refresh(DID, force=True)
    assert server.sent == []
    assert (await store.read(DID)).state.note is None
    store.is_full = False
    await engine.refresh(DID, force=True)
    assert server.sent == ["refresh-0"]


@pytest.mark.skipif(not Path("/proc/self").exists(), reason="needs a file system that is always full")
def test_a_full_file_system_has_no_room(tmp_path: Path) -> None:
    """Less than what a refresh brings is an error that says how much is left where; more is none."""
    with pytest.raises(StoreError, match="only 0 KiB are free on /proc"):
        ensure_room(Path("/proc"))
    ensure_room(tmp_path)


@pytest.mark.anyio
async def test_whoever_waited_gets_what_the_other_brought() -> None:
    """Of two who ask at once both end with the new tokens, and one asks the server."""
    clock = SetClock()
    store, server = InMemoryOAuthTokenStore(clock=clock), FakeServer(clock.now)
    await store.save(server.login(DID))
    engine = an_engine(store, server, clock)
    prepared: list[OAuthSession] = []
    got: list[str] = []

    def count(session: OAuthSession) -> None:
        prepared.append(session)

    async def slowly(_session: OAuthSession) -> None:
        await anyio.sleep(0.05)

    async def ask() -> None:
        outcome = (await engine.refresh(DID, force=True, patience=5)).outcome
        assert isinstance(outcome, Current | Refreshed)
        got.append(outcome.session.refresh_jwt)

    server.prepared, server.before = count, slowly
    async with anyio.create_task_group() as tg:
        tg.start_soon(ask)
        tg.start_soon(ask)
    assert got == ["refresh-1", "refresh-1"]
    assert len(prepared) == 1


@pytest.mark.anyio
async def test_a_foreign_login_adopts_no_spill(tmp_path: Path) -> None:
    """Tokens that could not be saved belong to the token before them, and to no login that came since."""
    host = Host(tmp_path / "spill")
    await host.fail_to_save()
    login = host.server.login(DID, key=OTHER_KEY)
    host.store.put_record(DID, login.to_json().encode())
    await host.engine.look(DID)
    assert await host.house.load() == login


@pytest.mark.parametrize("text", ['{"accessJwt": "secret-1', '{"accessJwt": "secret-1"} {', "secret-1"])
def test_half_a_record_is_not_quoted(text: str) -> None:
    """What can't be parsed may hold tokens all the same."""
    with pytest.raises(SessionError) as caught:
        OAuthSession.from_json(text)
    assert "secret" not in repr(caught.value)


def test_a_store_has_one_daemon(tmp_path: Path) -> None:
    """Whoever comes second is refused, and may come when the first has gone."""
    busy = pytest.raises(LockBusy, match="another idiolectd")
    with hold_daemonship(tmp_path / "run"), busy, hold_daemonship(tmp_path / "run"):
        pass
    with hold_daemonship(tmp_path / "run"):
        pass


class Resolver(trio.abc.HostnameResolver):
    """Knows one name, with the addresses given."""

    def __init__(self, *numbers: str) -> None:
        self._numbers = numbers

    async def getaddrinfo(
        self,
        host: bytes | None,
        port: bytes | str | int | None,
        family: int = 0,
        type: int = 0,  # noqa: A002 - trio's name
        proto: int = 0,
        flags: int = 0,
    ) -> Any:
        await trio.lowlevel.checkpoint()
        return [
            (socket.AF_INET, socket.SOCK_STREAM, 6, "", (number, int(port or 0))) for number in self._numbers
        ]

    async def getnameinfo(self, sockaddr: object, flags: int) -> tuple[str, str]:
        raise NotImplementedError


class Dialler(httpcore.AsyncNetworkBackend):
    """Connects to nobody and keeps what it was asked for."""

    def __init__(self) -> None:
        self.hosts: list[str] = []

    async def connect_tcp(self, host: str, *args: object, **kwargs: object) -> httpcore.AsyncNetworkStream:
        self.hosts.append(host)
        raise httpcore.ConnectError


@pytest.mark.parametrize("numbers", [("93.184.216.34", "10.0.0.1"), ("10.0.0.1", "93.184.216.34")])
def test_every_address_of_a_name_is_checked(numbers: tuple[str, str]) -> None:
    """A name with a public and a private address is not dialled at all, whichever comes first."""
    dialler = Dialler()

    async def connect() -> None:
        trio.socket.set_custom_hostname_resolver(Resolver(*numbers))
        backend = GuardedBackend(NetworkPolicy())
        backend._dialler = dialler
        with pytest.raises(NotSent) as caught:
            await backend.connect_tcp("both.test", 443, 5.0)
        assert caught.value.code == "guard"

    trio.run(connect)
    assert dialler.hosts == []
