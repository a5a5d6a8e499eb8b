"""Promises that a planted bug showed to be untested, and narrow versions of long tests; see `plants`."""

import socket
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import anyio
import anyio.lowlevel
import httpcore
import pytest
import trio
import trio.testing

from idiolectd.errors import NotSent, StoreError
from idiolectd.events import SessionRefreshed
from idiolectd.http import NetworkPolicy
from idiolectd.http.guard import GuardedBackend
from idiolectd.outcome import Ambiguous, Current, Refreshed, Retry
from idiolectd.ports import Answer
from idiolectd.refresh import RefreshEngine
from idiolectd.scheduler import LaneLimits
from idiolectd.session import OAuthSession
from idiolectd.store import InMemoryOAuthTokenStore
from idiolectd.store.room import ensure_room
from tests.scheduler.test_scheduler import World
from tests.support import FakeServer, Recorder, SetClock, did, planner

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


def in_virtual_time(run: Callable[[World], Awaitable[None]]) -> None:
    """Runs a scheduler's test: an hour takes a moment."""

    async def main() -> None:
        await run(World(limits=LaneLimits(concurrency=2)))

    trio.run(main, clock=trio.testing.MockClock(autojump_threshold=0))


def test_a_broken_record_that_is_rewritten_is_reported_once() -> None:
    """Somebody who saves the same rubbish again and again makes no second report; other rubbish does."""

    async def run(world: World) -> None:
        async with world.running():
            for expected, text in ((1, b"{"), (1, b"{"), (1, b"{"), (2, b"[]")):
                world.store.put_record(DID, text)
                await anyio.sleep(10)
                assert len(world.events.of("session.quarantined")) == expected

    in_virtual_time(run)


# Narrow versions -----------------------------------------------------------------------------------


def refreshed(world: World, server: FakeServer) -> list[SessionRefreshed]:
    """The refreshes that one server granted."""
    return [
        event
        for event in world.events.events
        if isinstance(event, SessionRefreshed) and event.issuer == server.issuer
    ]


def test_ten_sessions_of_a_dead_server_ask_it_seldom() -> None:
    """Half an hour of 503: about one request in each of the breaker's pauses, whoever sends it."""

    async def run(world: World) -> None:
        server = world.server("down", life=600)
        for number in range(10):
            await world.store.save(server.login(did(number)))

        async def fail(_session: OAuthSession) -> Answer:
            return Retry("http_503", "unavailable", issuer_wide=True)

        server.before = fail
        async with world.running():
            await anyio.sleep(2000)
        assert 10 < len(server.sent) < 70

    in_virtual_time(run)


def test_an_issuer_that_hangs_delays_nobody_else() -> None:
    """While one issuer takes a minute for each answer, another's sessions are refreshed in time."""

    async def run(world: World) -> None:
        dead, alive = world.server("hangs"), world.server("works")
        for number in range(20):
            await world.store.save((dead, alive)[number % 2].login(did(number)))

        async def hang(_session: OAuthSession) -> Answer:
            await anyio.sleep(60)
            return Retry("read_timeout", "no answer", issuer_wide=True)

        dead.before = hang
        async with world.running():
            await anyio.sleep(3600)
        granted = refreshed(world, alive)
        assert len(granted) >= 10
        assert max(event.lateness or 0.0 for event in granted) < 5

    in_virtual_time(run)


def test_sessions_without_answers_go_behind_the_others() -> None:
    """Three sessions that always trip the breaker, and are always the most urgent, starve nobody."""

    async def run(world: World) -> None:
        server = world.server("shared", life=400)
        for number in range(3):
            await world.store.save(server.login(did(number)))
        server.life = 500
        for number in range(3, 10):
            await world.store.save(server.login(did(number)))

        async def poison(session: OAuthSession) -> Answer | None:
            return Ambiguous("http_502", "bad gateway") if session.did < did(3) else None

        server.before = poison
        async with world.running():
            await anyio.sleep(5000)
        granted = refreshed(world, server)
        assert len(granted) >= 7 * 10
        assert max(event.lateness or 0.0 for event in granted) < 120

    in_virtual_time(run)


def test_one_sessions_exception_ends_nobody_elses_work() -> None:
    """Our own bug on one session: the other goes on, and the bug is met seldom."""

    async def run(world: World) -> None:
        server = world.server("works", life=100)
        for number in (1, 2):
            await world.store.save(server.login(did(number)))

        async def bug(session: OAuthSession) -> None:
            if session.did == did(1):
                raise ZeroDivisionError

        server.before = bug
        async with world.running():
            await anyio.sleep(2000)
        assert 1 <= len(world.events.of("session.crashed")) < 40
        assert len(refreshed(world, server)) >= 20

    in_virtual_time(run)
