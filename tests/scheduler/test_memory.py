"""What the process remembers of a session belongs to its token, and goes with it."""

import gc
from collections import deque
from types import CellType, MethodType

import anyio
import pytest

from idiolectd.outcome import Ambiguous, Retry, Suspended
from idiolectd.ports import AccessTokenStatus, Answer, Probe
from idiolectd.scheduler.attempt_feedback import SessionMemory
from idiolectd.session import OAuthSession
from tests.scheduler.test_scheduler import House
from tests.servers.house import house as whole_house
from tests.support import did

pytestmark = pytest.mark.anyio

DID = did(1)


async def test_a_new_login_inherits_no_wait() -> None:
    """A session whose answer was lost settles for 30 s; whoever logs in meanwhile does not."""
    house = House()
    server = house.server("works", life=60)
    await house.store.save(server.login(DID))
    server.probe_answer = Probe(AccessTokenStatus.ACCEPTED)
    lost = anyio.Event()

    async def lose(_session: OAuthSession) -> Answer:
        lost.set()
        return Ambiguous("reset", "connection reset")

    server.before = lose
    async with house.running():
        await lost.wait()
        server.before, server.life = None, 20
        await anyio.sleep(1)
        login = server.login(DID)
        await house.store.save(login)
        await anyio.sleep(18)
        assert server.sent[1:] == [login.refresh_jwt]


async def test_a_new_login_inherits_no_crash() -> None:
    """The pause after a bug of ours on one session is not the next one's."""
    house = House()
    server = house.server("works", life=100)
    await house.store.save(server.login(DID))
    server.probe_answer = Probe(AccessTokenStatus.ACCEPTED)

    async def bug(_session: OAuthSession) -> None:
        raise ZeroDivisionError

    server.before = bug
    async with house.running():
        await anyio.sleep(600)
        pauses = len(house.events.of("session.crashed"))
        server.before, server.life = None, 20
        sent = len(server.sent)
        login = server.login(DID)
        await house.store.save(login)
        await anyio.sleep(18)
        assert server.sent[sent:] == [login.refresh_jwt]
        assert len(house.events.of("session.crashed")) == pauses


async def test_a_record_that_somebody_touches_shortens_no_pause() -> None:
    """A program that rewrites a record every second has a bug of ours met no more often."""
    house = House()
    server = house.server("works", life=100)
    await house.store.save(server.login(DID))

    async def bug(_session: OAuthSession) -> None:
        raise ZeroDivisionError

    server.before = bug
    async with house.running():
        for _ in range(600):
            house.store.put_record(DID, house.store._records[DID])
            await anyio.sleep(1)
    assert 1 <= len(house.events.of("session.crashed")) < 20


def test_what_is_remembered_belongs_to_a_token() -> None:
    """Another token, or none, and it is forgotten."""
    memory = SessionMemory()
    memory.of_token(DID, "one").suspended = True
    assert memory.force_suspended() == [DID]
    memory.keep_only(DID, "one")
    assert memory.of(DID).forced
    assert not memory.of_token(DID, "two").forced
    memory.keep_only(DID, None)
    assert len(memory) == 0


def sizes(*roots: object) -> dict[str, int]:
    """How many things are in all that can be reached from ours, by the type of what holds them."""
    seen: set[int] = set()
    found: dict[str, int] = {}
    waiting: deque[object] = deque(roots)
    while waiting:
        thing = waiting.popleft()
        if id(thing) in seen:
            continue
        seen.add(id(thing))
        if isinstance(thing, dict | set | list | deque | tuple):
            name = type(thing).__name__
            found[name] = found.get(name, 0) + len(thing)
        elif not (type(thing).__module__.startswith("idiolectd") or isinstance(thing, MethodType | CellType)):
            continue
        waiting.extend(gc.get_referents(thing))
    return found


@pytest.mark.slow
async def test_a_thousand_logins_and_logouts_leave_nothing_behind() -> None:
    """Sessions in every kind of trouble, of a server each, come and go: nothing grows."""
    house = House()

    async def trouble(session: OAuthSession) -> Answer | None:
        match int(session.did[-4:]) % 5:
            case 0:
                return Ambiguous("reset", "connection reset")
            case 1:
                return Retry("http_503", "unavailable", issuer_wide=True)
            case 2:
                raise ZeroDivisionError
            case 3:
                return Retry("rate_limited", "slow down", retry_after=600.0, issuer_wide=True)
            case _:
                return None

    def suspend(session: OAuthSession) -> Suspended | None:
        return Suspended("odd", "odd", "odd") if session.did[-1] == "9" else None

    async def crowd(first: int, last: int) -> None:
        for number in range(first, last):
            server = house.server(f"s{number}" if number % 3 else "shared", life=100)
            server.before, server.prepared = trouble, suspend
            await house.store.save(server.login(did(number)))
            if number % 7 == 0:
                house.store.put_record(did(number), b"{")
        await anyio.sleep(120)
        statistics = house.scheduler.statistics()
        assert statistics.remembered > 0.3 * (last - first)
        assert statistics.queues > 0.3 * (last - first)
        for number in range(first, last):
            await house.store.delete(did(number))
        await anyio.sleep(1800)

    async with house.running():
        await crowd(0, 20)
        gc.collect()
        before = sizes(house.scheduler)
        await crowd(1000, 2000)
        gc.collect()
        after = sizes(house.scheduler)
        statistics = house.scheduler.statistics()
    assert (statistics.scheduled, statistics.remembered, statistics.queues) == (0, 0, 0)
    assert statistics.quarantined == 0
    for found in (before, after):
        del found["OrderedDict"]  # names of servers, of which `Places` remembers the last some thousands
    assert sum(after.values()) - sum(before.values()) < 50, (before, after)


async def test_keys_and_tokens_of_who_logged_out_are_not_kept() -> None:
    """The real refreshers, and what stands behind them, remember servers and no sessions."""
    async with whole_house(access_life=100, legacy_access_life=100) as h, h.engine() as engine:
        scheduler = h.scheduler_over(engine)

        async def crowd(size: int) -> None:
            sessions = [await h.login(kind=("dpop", "bearer")[number % 2]) for number in range(size)]
            await anyio.sleep(120)
            for session in sessions:
                await h.store.delete(session.did)
            await anyio.sleep(3600)

        async with anyio.create_task_group() as tasks:
            await tasks.start(scheduler.run)
            await crowd(20)
            gc.collect()
            before = sizes(scheduler, engine)
            await crowd(200)
            gc.collect()
            after = sizes(scheduler, engine)
            tasks.cancel_scope.cancel()
    assert h.traffic.refreshes()
    assert sum(after.values()) - sum(before.values()) < 50, (before, after)
