"""Name look-ups wait in each other's way only."""

import socket
import ssl
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import anyio
import httpx
import pytest

from idiolectd.errors import NotSent
from idiolectd.http.dialler import Dialler
from idiolectd.http.guard import NetworkPolicy
from idiolectd.http.name_lookup import NameLookups
from idiolectd.http.time_limits import EachWait
from idiolectd.store import open_store
from tests.store.support import ALICE, session

CONTEXT = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)

# More than anybody's pool of threads has.
_MUTE = 300


class Dns:
    """A resolver: names that begin with ``mute`` get no answer until it ends, ``no`` means that there is none."""

    def __init__(self) -> None:
        self.asked: Counter[str] = Counter()
        self.waiting = 0
        self._guard = threading.Lock()
        self._end = threading.Event()

    def __call__(self, host: str) -> list[str]:
        with self._guard:
            self.asked[host] += 1
            self.waiting += 1
        if host.startswith("mute"):
            self._end.wait(60)
        with self._guard:
            self.waiting -= 1
        if host.startswith(("no", "mute")):
            raise socket.gaierror(socket.EAI_AGAIN, "no answer")
        return ["127.0.0.1"]

    def end(self) -> None:
        """Answers everybody."""
        self._end.set()


@contextmanager
def dns() -> Iterator[Dns]:
    """A resolver that leaves no thread behind."""
    made = Dns()
    try:
        yield made
    finally:
        made.end()


async def _fails(names: NameLookups, host: str) -> str:
    with pytest.raises(NotSent) as caught:
        await names.addresses(host)
    return caught.value.code


@pytest.mark.anyio
async def test_mute_names_keep_nobody_from_working(tmp_path: Path) -> None:
    """While 300 names wait for a mute DNS, tokens are saved and a healthy name is looked up."""
    with dns() as resolver:
        names = NameLookups(resolver)
        assert await names.addresses("healthy.test") == ["127.0.0.1"]
        answered = names._known.get("healthy.test")
        assert answered is not None
        async with anyio.create_task_group() as waiting, open_store(f"file://{tmp_path}/store") as store:
            codes: Counter[str] = Counter()

            async def look_up(number: int) -> None:
                try:
                    await names.addresses(f"mute{number}.test")
                except NotSent as error:
                    codes[error.code] += 1

            for number in range(_MUTE):
                waiting.start_soon(look_up, number)
            await anyio.wait_all_tasks_blocked()
            names._known.put("healthy.test", replace(answered, until=0.0))  # later
            with anyio.fail_after(30):
                await store.save(session())
                assert await store.load(ALICE) is not None
                assert await names.addresses("healthy.test") == ["127.0.0.1"]
            # The others were told at once that there is no room, and no thread was spent on them.
            assert resolver.waiting + codes["dns_busy"] == _MUTE
            assert 0 < resolver.waiting < 100
            waiting.cancel_scope.cancel()


@pytest.mark.anyio
async def test_slow_names_make_room_for_new_ones() -> None:
    """What has waited for a second counts as slow: a name that nobody knows yet gets its turn."""
    with dns() as resolver:
        names = NameLookups(resolver)
        async with anyio.create_task_group() as waiting:
            for number in range(_MUTE):
                waiting.start_soon(_fails, names, f"mute{number}.test")
            await anyio.wait_all_tasks_blocked()
            assert await _fails(names, "new.test") == "dns_busy"
            for look_up in names._under_way.values():
                look_up.since -= 2.0  # as if it had waited that long
            assert await names.addresses("new.test") == ["127.0.0.1"]
            resolver.end()


@pytest.mark.anyio
async def test_who_asks_for_the_same_name_waits_for_the_same_answer() -> None:
    """A hundred sessions of one issuer make one look-up; who stops waiting stops nobody else's."""
    with dns() as resolver:
        names = NameLookups(resolver)
        codes: list[str] = []

        async def look_up() -> None:
            codes.append(await _fails(names, "mute.test"))

        async with anyio.create_task_group() as group:
            with anyio.move_on_after(0.01) as impatient:
                await names.addresses("mute.test")
            assert impatient.cancelled_caught
            for _ in range(100):
                group.start_soon(look_up)
            await anyio.wait_all_tasks_blocked()
            resolver.end()
    assert codes == ["dns"] * 100
    assert resolver.asked["mute.test"] == 1


@pytest.mark.anyio
async def test_an_answer_is_good_for_one_attempt() -> None:
    """The look before a request and the request itself make one look-up; the next attempt makes another."""
    with dns() as resolver:
        names = NameLookups(resolver)
        for _ in range(2):
            assert await names.addresses("pds.test") == ["127.0.0.1"]
        assert resolver.asked["pds.test"] == 1
        known = names._known.get("pds.test")
        assert known is not None
        assert known.until - anyio.current_time() <= 2
        names._known.put("pds.test", replace(known, until=0.0))
        await names.addresses("pds.test")
        assert resolver.asked["pds.test"] == 2


@pytest.mark.anyio
async def test_a_failure_is_remembered_for_a_while() -> None:
    """A name that failed is not looked up again at once, is said to be so, and then is."""
    with dns() as resolver:
        names = NameLookups(resolver)
        assert await _fails(names, "no.test") == "dns"
        with pytest.raises(NotSent, match="looked up again in 5 s"):
            await names.addresses("no.test")
        assert resolver.asked["no.test"] == 1
        known = names._known.get("no.test")
        assert known is not None
        assert 4 < known.until - anyio.current_time() <= 5
        names._known.forget("no.test")
        assert await _fails(names, "no.test") == "dns"
        assert resolver.asked["no.test"] == 2


@pytest.mark.anyio
async def test_a_connection_has_its_deadline_whatever_the_dns_does() -> None:
    """Connecting to a host with a mute name server ends when its time is over."""
    with dns() as resolver:
        dialler = Dialler(NetworkPolicy(), NameLookups(resolver))
        with anyio.fail_after(10), pytest.raises(httpx.ConnectTimeout):
            await dialler.connect("https", "mute.test", 443, CONTEXT, EachWait({"connect": 0.05}))


@pytest.mark.anyio
async def test_numbers_are_nobodys_business() -> None:
    """An address needs no look-up, and a proxy's name is looked up like any other."""
    with dns() as resolver:
        names = NameLookups(resolver)
        assert await names.addresses("::1") == ["::1"]
        assert not resolver.asked
        dialler = Dialler(NetworkPolicy(proxy="http://no.test:3128"), names)
        with pytest.raises(NotSent):
            await dialler.connect("https", "pds.test", 443, CONTEXT, EachWait({"connect": 1.0}))
        assert resolver.asked == {"no.test": 1}


@pytest.mark.parametrize("backend", ["trio", "asyncio"])
def test_the_end_waits_for_no_look_up(backend: str) -> None:
    """A program ends although a look-up in a mute DNS goes on."""
    program = (
        "import anyio, threading\n"
        "from idiolectd.http.name_lookup import NameLookups\n"
        "async def main():\n"
        "    with anyio.move_on_after(0.05):\n"
        "        await NameLookups(lambda host: threading.Event().wait()).addresses('mute.test')\n"
        f"anyio.run(main, backend={backend!r})\n"
    )
    subprocess.run([sys.executable, "-c", program], check=True, timeout=30, cwd=Path(__file__).parents[2])


@pytest.mark.anyio
async def test_the_systems_resolver_is_asked() -> None:
    """Without anything else, names are looked up as every program does."""
    assert set(await NameLookups().addresses("localhost")) <= {"127.0.0.1", "::1"}
    assert await _fails(NameLookups(), "a" * 64 + ".test") == "dns"


@pytest.mark.anyio
async def test_an_answer_that_nobody_has_taken_yet_is_no_failure() -> None:
    """Another name is asked for between the answer and the task that waits for it."""
    told = threading.Event()

    def resolve(_: str) -> list[str]:
        told.wait(10)
        return ["127.0.0.1"]

    names = NameLookups(resolve)
    async with anyio.create_task_group() as group:
        group.start_soon(names.addresses, "pds.example")
        await anyio.wait_all_tasks_blocked()
        told.set()
        for thread in threading.enumerate():
            if thread.name == "idiolectd-name":
                thread.join(10)  # nobody is resumed meanwhile
        assert await names.addresses("alice.example") == ["127.0.0.1"]
    assert await names.addresses("pds.example") == ["127.0.0.1"]
