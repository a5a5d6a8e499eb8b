"""The whole house against a strict server, driven by a machine that wants to break it.

Shows promises 2 to 7 together: whatever happens in whatever order, no token is sent twice outside the
rule for unclear answers, no session that the server honours is given up or lost, and when the trouble
is over all that lives works again. Does not show: real files, kernel locks, several processes.
"""

import math
import sys
from contextlib import AbstractContextManager, ExitStack
from typing import Any

import anyio.lowlevel
import pytest
import trio.testing
from anyio.from_thread import BlockingPortal, start_blocking_portal
from hypothesis import note
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from idiolectd.session import Kind
from tests.clock import VirtualClock
from tests.machines.profiles import TORTURE, runs
from tests.machines.running_house import RECOVERY, RunningHouse, running_house
from tests.simulator import Fault
from tests.simulator.faults import Kind as FaultKind

MOST_ACCOUNTS = 4

# Most of it happens to the first account.
numbers = st.sampled_from([0, 0, 0, 1, 2, 3])
kinds: st.SearchStrategy[Kind] = st.sampled_from(["dpop", "dpop", "bearer"])
pauses = st.sampled_from([0.0, 0.5, 5.0, 12.0, 31.0, 60.0, 300.0, 450.0, 900.0, 4 * 3600.0, 30 * 3600.0])
places = st.sampled_from(["/oauth/token", "refreshSession", "getSession", "well-known", None])


@st.composite
def faults(draw: st.DrawFn) -> Fault:
    """Something that goes wrong at the servers or on the way, once or a few times."""
    kind: FaultKind = draw(
        st.sampled_from(
            [
                "drop_before",
                "drop_after",
                "reset",
                "reset_after",
                "truncate",
                "delay",
                "connect_error",
                "respond",
                "respond_after",
            ]
        )
    )
    status, headers, body = draw(
        st.sampled_from(
            [
                (429, [("Retry-After", "90")], b""),
                (500, [], b'{"error":"server_error"}'),
                (502, [], b"<html>"),
                (503, [], b""),
                (504, [], b""),
                (200, [("Content-Type", "text/html")], b"<html>Sign in</html>"),
                (302, [("Location", "https://elsewhere.test/")], b""),
                (400, [], b"<html>"),
            ]
        )
    )
    return Fault(
        kind,
        draw(places),
        draw(st.integers(1, 5)),
        skip=draw(st.integers(0, 1)),
        status=status,
        headers=headers,
        body=body,
        count=draw(st.sampled_from([0, 1, 40, 400])),
        # Up to and beyond the client's own time-outs: the server acts when nobody listens any more.
        delay=draw(st.sampled_from([0.0, 0.0, 1.0, 15.0, 25.0])),
        delay_after=draw(st.sampled_from([0.0, 0.0, 1.0, 25.0])),
    )


class HouseMachine(RuleBasedStateMachine):
    """Steps of an unlucky week."""

    def __init__(self) -> None:
        super().__init__()
        self._stack = ExitStack()
        self._portal: BlockingPortal
        self._world: RunningHouse
        self._daemon: AbstractContextManager[None] | None = None

    @initialize(
        life=st.sampled_from([600.0, 3600.0]),
        stateless=st.booleans(),
        opaque=st.booleans(),
        luck=st.sampled_from([0.0, 0.5, 0.99]),
    )
    def begin(self, life: float, stateless: bool, opaque: bool, luck: float) -> None:
        clock = trio.testing.MockClock(autojump_threshold=math.inf)
        self._portal = self._stack.enter_context(start_blocking_portal("trio", {"clock": clock}))
        made = running_house(
            clock,
            VirtualClock(runs=True),
            access_life=life,
            stateless_access_tokens=stateless,
            opaque_access_tokens=opaque,
        )
        self._world = self._stack.enter_context(self._portal.wrap_async_context_manager(made))
        self._world.house.luck = lambda: luck
        self._start()
        self._life = life
        self._call(self._world.login, "dpop")

    def teardown(self) -> None:
        try:
            # An example that was broken off (too long, or failed already) has nothing more to show.
            if hasattr(self, "_world") and sys.exc_info()[0] is None:
                self._calm_down()
        finally:
            self._stop()
            self._stack.close()

    # People and other programs ---------------------------------------------------------------

    @precondition(lambda self: self._accounts() < MOST_ACCOUNTS)
    @rule(kind=kinds)
    def login(self, kind: Kind) -> None:
        """A new account."""
        self._call(self._world.login, kind)

    @precondition(lambda self: self._accounts() > 0)
    @rule(kind=kinds, number=numbers)
    def login_again(self, kind: Kind, number: int) -> None:
        """Another login of an account, perhaps in the middle of a refresh."""
        self._call(self._world.login, kind, number)

    @rule(number=numbers)
    def logout(self, number: int) -> None:
        """A record disappears, perhaps in the middle of a refresh."""
        if (did := self._did(number)) is not None:
            self._call(self._world.logout, did)

    @rule(number=numbers, what=st.sampled_from(["used token", "used token", "fields dropped", "nonce"]))
    def foreign_write(self, number: int, what: str) -> None:
        """A program without our locks saves a whole record."""
        if (did := self._did(number)) is not None:
            self._call(self._world.foreign_write, did, what)

    # Time ------------------------------------------------------------------------------------

    @rule(seconds=pauses)
    def wait(self, seconds: float) -> None:
        """Time passes."""
        self._call(self._world.pass_time, seconds)

    @rule()
    def wait_for_a_refresh(self) -> None:
        """About as long as a token is good for: most sessions are refreshed once."""
        self._call(self._world.pass_time, 0.86 * self._life)

    @rule(seconds=st.sampled_from([60.0, 600.0, 5 * 3600.0]))
    def suspend(self, seconds: float) -> None:
        """The machine sleeps."""
        self._world.suspend(seconds)

    @precondition(lambda self: self._daemon is not None)
    @rule(seconds=st.sampled_from([-86_400.0, -3600.0, -40.0, 40.0, 3600.0, 86_400.0]))
    def step(self, seconds: float) -> None:
        """Somebody sets the clock, and the daemon has a minute to notice."""
        self._call(self._world.step, seconds)

    # Trouble ---------------------------------------------------------------------------------

    @rule(fault=faults())
    def trouble(self, fault: Fault) -> None:
        """The servers, or the way to them."""
        self._world.house.sim.faults.add(fault)

    @rule(reads=st.integers(0, 3), writes=st.integers(0, 6))
    def bad_disk(self, reads: int, writes: int) -> None:
        """The next operations of the store fail."""
        self._world.store.bad_reads, self._world.store.bad_writes = reads, writes

    @rule()
    def servers_restart(self) -> None:
        """Nonces and proofs are forgotten."""
        self._world.house.sim.restart()

    # The daemon ------------------------------------------------------------------------------

    @precondition(lambda self: self._daemon is not None)
    @rule(how=st.sampled_from(["stop", "stop and start", "die", "die and start"]))
    def end(self, how: str) -> None:
        """An orderly end or a sudden one, with or without a restart."""
        self._world.is_doomed = how.startswith("die")
        self._stop()
        if how.endswith("start"):
            self._start()

    @precondition(lambda self: self._daemon is None)
    @rule()
    def start(self) -> None:
        """Another process finds what the last one left."""
        self._start()

    @rule()
    def calm_down(self) -> None:
        """Trouble ends, some time passes: all that can be well, is."""
        self._calm_down()

    # What always holds -----------------------------------------------------------------------

    @invariant()
    def nothing_went_wrong(self) -> None:
        """No rule about sending is broken, no code has crashed, no event holds a token."""
        if hasattr(self, "_world"):
            assert self._call_sync(self._world.wrongs) == []

    # -----------------------------------------------------------------------------------------

    def _calm_down(self) -> None:
        self._world.house.sim.faults.clear()
        self._world.store.bad_reads = self._world.store.bad_writes = 0
        self._start()
        self._call(self._world.pass_time, RECOVERY)
        wrong = self._call(self._world.wrongs_in_the_end)
        if wrong:
            for sent in self._world.house.traffic.sent[-40:]:
                note(str(replace_body(sent)))
        assert wrong == []
        assert self._call_sync(self._world.wrongs) == []

    def _start(self) -> None:
        if self._daemon is None:
            self._daemon = self._portal.wrap_async_context_manager(self._world.daemon())
            self._daemon.__enter__()
            self._call(anyio.lowlevel.checkpoint)

    def _stop(self) -> None:
        daemon, self._daemon = self._daemon, None
        if daemon is not None:
            daemon.__exit__(None, None, None)
            if self._world.is_doomed:
                self._call(self._world.note_the_lost)
            self._call(self._world.remember)

    def _accounts(self) -> int:
        return len(self._world.house.sim.state.accounts) if hasattr(self, "_world") else 0

    def _did(self, number: int) -> str | None:
        dids = sorted(self._world.past)
        return dids[number % len(dids)] if dids else None

    def _call(self, work: Any, *args: Any) -> Any:
        async def call() -> Any:
            result = await work(*args)
            # Whoever could still run without time passing does so now: else the next step would race
            # with it, and an example would not be the same twice.
            await trio.testing.wait_all_tasks_blocked()
            return result

        return self._portal.call(call)

    def _call_sync(self, work: Any) -> Any:
        async def call() -> Any:
            return work()

        return self._portal.call(call)


def replace_body(sent: Any) -> Any:
    """A request as a failing example shows it."""
    return {name: value for name, value in vars(sent).items() if name != "body"}


TestWorld = pytest.mark.slow(pytest.mark.timeout(14_400 if TORTURE else 600)(HouseMachine.TestCase))
TestWorld.settings = runs(40, 20)
