"""The places of all servers together: never more in flight, the soonest end first, and no hung server in the way."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

import anyio
import pytest

from idiolectd.outcome import Retry
from idiolectd.ports import Answer
from idiolectd.scheduler.places import SLOW_AFTER, Place, Places, Rank, Standing
from idiolectd.session import OAuthSession
from tests.scheduler.test_apart import granted
from tests.scheduler.test_scheduler import House
from tests.support import did

pytestmark = pytest.mark.anyio


@dataclass
class Waiting:
    """A server's queue with one session that can wait for ever."""

    name: str
    expires_at: float = 0.0
    is_tripped: bool = False

    @property
    def first(self) -> Rank | None:
        return (0, self.expires_at, self.name)


def proven(places: Places[Waiting], name: str, now: float = 0.0) -> Waiting:
    queue = Waiting(name)
    place = places.take(queue, now)
    assert place is not None
    places.give_back(place, now, has_answered=True)
    return queue


def take_all(places: Places[Waiting], kind: str, now: float) -> list[Place]:
    """Places of one server after the other, until there is none for another one."""
    taken: list[Place] = []
    while (place := places.take(Waiting(f"{kind}{len(taken)}"), now)) is not None:
        taken.append(place)
    return taken


def test_the_last_quarter_is_for_proven_servers() -> None:
    """Whoever has never answered gets three quarters of the common places, which are half of all."""
    places = Places[Waiting](80)
    good = proven(places, "good")
    assert len(take_all(places, "unknown", 0.0)) == 30
    for _ in range(10):
        assert places.take(good, 0.0) is not None
    assert places.take(good, 0.0) is None


def test_what_lasts_is_moved_and_its_server_is_slow() -> None:
    """The common place is free again; the server's next sessions get half of the slow places."""
    places = Places[Waiting](80)
    hung = take_all(places, "hung", 0.0)
    unknown = take_all(places, "unknown", SLOW_AFTER)
    assert len(unknown) == 30
    assert places.standing(Waiting("hung0")) is Standing.SLOW
    assert places.take(Waiting("hung0"), SLOW_AFTER) is None, "30 of 40 slow places are taken, more than half"
    for place in [*hung[:20], *unknown]:
        places.give_back(place, SLOW_AFTER, has_answered=False)
    assert places.take(Waiting("hung0"), SLOW_AFTER) is not None
    places.give_back(hung[29], 20.0, has_answered=True)
    assert places.standing(Waiting("hung29")) is Standing.SLOW, "an answer, but no quick one"
    proven(places, "hung29", 30.0)
    assert places.standing(Waiting("hung29")) is Standing.PROVEN


def test_one_session_without_an_answer_makes_no_server_slow() -> None:
    """Others of the same server were answered quickly meanwhile."""
    places = Places[Waiting](80)
    good = proven(places, "good")
    assert places.take(good, 0.0) is not None
    proven(places, "good", 3.0)
    places.take(Waiting("other"), 2 * SLOW_AFTER)
    assert places.standing(good) is Standing.PROVEN


def test_never_more_in_flight_than_places() -> None:
    """Whatever is slow: what finds no slow place stays in its common one."""
    places = Places[Waiting](16)
    taken: list[Place] = []
    for second in range(100):
        taken += take_all(places, f"s{second}-", float(second * SLOW_AFTER))
        assert len(places) == len(taken) <= 16
    assert len(taken) == 14, "all but the two for proven servers"
    assert places.room_at() is None


def test_the_soonest_end_is_called_first() -> None:
    """Across all servers; a queue that was served meanwhile, or has a more urgent session now, is not called for the old one."""
    places = Places[Waiting](16)
    taken = take_all(places, "a", 0.0)
    late, soon, changed = Waiting("late", 30.0), Waiting("soon", 10.0), Waiting("changed", 20.0)
    for queue in (late, soon, changed):
        places.wait(queue)
        places.wait(queue)
    assert places.call_next(0.0) is None
    changed.expires_at = 5.0
    places.wait(changed)
    for place in taken:
        places.give_back(place, 1.0, has_answered=False)
    called = [places.call_next(1.0) for _ in range(4)]
    assert called == [changed, soon, late, None]
    assert not places.has_waiting


def test_who_became_slow_in_line_waits_in_the_other_one() -> None:
    """A tripped breaker is no reason to hold a common place."""
    places = Places[Waiting](16)
    taken = take_all(places, "a", 0.0)
    sick = Waiting("sick")
    places.wait(sick)
    sick.is_tripped = True
    for place in taken:
        places.give_back(place, 1.0, has_answered=False)
    assert places.call_next(1.0) is sick
    assert places.take(sick, 1.0) is not None
    assert len(take_all(places, "b", 1.0)) == len(taken)


# The scheduler over them -------------------------------------------------------------------------


@asynccontextmanager
async def hung_servers(house: House, count: int, sessions: int) -> AsyncIterator[list[int]]:
    """Servers that accept and never answer, with some sessions each; how many requests are in flight."""
    in_flight = [0]

    async def hang(_session: OAuthSession) -> Answer:
        in_flight[0] += 1
        await anyio.sleep(30)
        in_flight[0] -= 1
        return Retry("read_timeout", "no answer", issuer_wide=True)

    for number in range(count):
        server = house.server(f"hung{number}", life=600)
        server.before = hang
        for session in range(sessions):
            await house.store.save(server.login(did(1000 + number * sessions + session)))
    yield in_flight


async def test_no_number_of_hung_servers_keeps_a_healthy_one_waiting() -> None:
    """Fifty servers for each place, all hung: a server that answers has its sessions refreshed in time."""
    house = House(places=8)
    healthy = house.server("healthy", life=600)
    for number in range(20):
        await house.store.save(healthy.login(did(number)))
    async with house.running():
        await anyio.sleep(1000)
        async with hung_servers(house, 400, 2) as in_flight:
            for _ in range(360):
                await anyio.sleep(10)
                assert in_flight[0] <= 8
    events = list(granted(house, healthy))
    assert len(events) >= 20 * 7
    assert max(event.lateness or 0.0 for event in events) < 2 * SLOW_AFTER
    assert sum(len(server.sent) for server in house.servers.values()) > 400, "the others are tried meanwhile"


async def test_servers_that_stop_to_answer_hold_up_the_others_for_a_moment() -> None:
    """All of them had proven themselves and hang at once, with more sessions than there are places; one does not."""
    house = House(places=64)
    servers = [house.server(f"server{number}", life=600) for number in range(30)]
    for number, server in enumerate(servers):
        for session in range(3):
            await house.store.save(server.login(did(10 * number + session)))

    async def hang(_session: OAuthSession) -> Answer:
        await anyio.sleep(30)
        return Retry("read_timeout", "no answer", issuer_wide=True)

    async with house.running():
        await anyio.sleep(1200)
        for server in servers[1:]:
            server.before = hang
        await anyio.sleep(3600)
    events = list(granted(house, servers[0]))
    assert len(events) >= 3 * 7
    assert max(event.lateness or 0.0 for event in events) < 2 * SLOW_AFTER
