"""The answer to a refresh breaks off at each of its bytes, or never comes, or comes late.

A proxy (`wire`) stands between the refresh engine and the strict simulator; every case gets a session
of its own, is refreshed through the mishap, and once more after the settling time.

Shown, for both kinds of session:

* an answer that arrived whole counts, be the connection reset right after it, and whatever is wrong
  with the frame around it; one that is cut off counts if the new tokens are in what came. Of any other
  nothing is believed: the session is ambiguous, and nothing is sent before the settling time;
* afterwards a legacy session is recovered by sending again; an OAuth session is `response_lost`
  without another word to the server if that had rotated the token, and goes on if it had not;
* the server sees no used token in any case.

Not shown: the daemon around it (`real_faults`, `kills`), TLS.
"""

import json
import sys
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from typing import Any

import anyio

from idiolectd.clock import SystemClock
from idiolectd.events import Event
from idiolectd.outcome import RefreshOutcome, ReloginRequired
from idiolectd.ports import SharedStore
from idiolectd.refresh import RefreshEngine
from idiolectd.session import OAuthSession
from idiolectd.store import open_store
from tests.parts import NOBODY, configured, parts_over
from tests.simulator import Simulator, serve, token_hash
from tests.simulator.frames import FRAMES
from tests.torture.common import SESSION_KINDS, Promises, SessionKind, options, print_table
from tests.torture.wire import BEFORE, Kind, Mishap, Wire, open_wire

# Longer than any first retry would wait, so that asking `_EARLY` tells the one from the other.
_SETTLE = 2.5
_EARLY = 1.5

# So many sessions at a time (short, full), because most of the time is spent waiting for that.
_AT_ONCE = {False: 36, True: 120}

# An answer has about a thousand bytes; the short version breaks it off at so many places.
_CUTS = 30

_LIMIT = 1200.0


@dataclass(frozen=True)
class Case:
    """One session, one mishap."""

    session: SessionKind
    kind: Kind
    count: int = 0
    after: float = 0.0
    frame: str | None = None


@dataclass(frozen=True)
class End:
    """What came of it.

    Attributes:
        first: the outcome through the mishap.
        early: the outcome of asking again before the settling time; None: it was over already.
        second: the outcome after it.
        is_held: the store holds the newest token of a session that the server honours.
    """

    first: str
    early: str | None
    second: str
    is_held: bool


_ROTATED = {
    "dpop": End("Ambiguous", "Ambiguous", "ReloginRequired: response_lost", is_held=False),
    "bearer": End("Ambiguous", "Ambiguous", "Refreshed", is_held=True),
}
_NOT_ROTATED = End("Ambiguous", "Ambiguous", "Refreshed", is_held=True)
_ARRIVED = End("Refreshed", "Refreshed", "Refreshed", is_held=True)


def cases(session: SessionKind, length: int, tokens: int, *, full: bool) -> Iterator[tuple[str, Case, End]]:
    """Everything that can happen to an answer, with a name and what has to come of it.

    Args:
        session: of which kind.
        length: bytes of the answer.
        tokens: the first so many hold the new tokens.
        full: at every byte.
    """
    lost = _ROTATED[session]
    step = 1 if full else max(1, length // _CUTS)
    for count in sorted({*range(0, length, step), tokens - 1, tokens, length - 1}):
        where, end = ("behind the tokens", _ARRIVED) if count >= tokens else ("within the answer", lost)
        yield f"closed {where}", Case(session, "cut_answer", count), end
        if count < tokens:  # by an RST the kernel drops what was not read yet
            yield f"reset {where}", Case(session, "cut_by_reset", count), end
    for name in FRAMES:
        yield "a broken frame", Case(session, "reframe", frame=name), _ARRIVED
    yield "closed after the answer", Case(session, "cut_answer", length), _ARRIVED
    yield "reset after the answer", Case(session, "cut_by_reset", length), _ARRIVED
    yield "closed instead of an answer", Case(session, "drop_answer"), lost
    yield "reset instead of an answer", Case(session, "reset_answer"), lost
    yield "closed before the server", Case(session, "drop_request"), _NOT_ROTATED
    yield "reset before the server", Case(session, "reset_request"), _NOT_ROTATED
    yield "a late answer", Case(session, "delay", after=0.3), _ARRIVED


class House:
    """An engine that reaches the simulator through the proxy only."""

    def __init__(self, simulator: Simulator, wire: Wire, store: SharedStore, engine: RefreshEngine) -> None:
        self.simulator = simulator
        self._wire = wire
        self._store = store
        self._engine = engine
        self._logins = 0

    async def length(self, kind: SessionKind) -> tuple[int, int]:
        """How many bytes the answer to a refresh of that kind has, and how many hold the new tokens."""
        self._wire.add(Mishap("delay", status=200))
        session = await self._login(kind)
        await self._engine.refresh(session.did, force=True)
        answer = self._wire.struck[-1].served.answer
        body = json.loads(self._wire.struck[-1].served.body)
        names = ("access_token", "refresh_token") if kind == "dpop" else ("accessJwt", "refreshJwt")
        ends = [answer.index(json.dumps(body[name]).encode()) + len(json.dumps(body[name])) for name in names]
        return len(answer), max(ends)

    async def run(self, case: Case) -> End:
        """Refreshes a new session through the mishap, before the settling time is over, and after it."""
        session = await self._login(case.session)
        did = session.did
        self._wire.add(
            Mishap(
                case.kind,
                match=lambda asked: asked.refresh_token == session.refresh_jwt,
                status=None if case.kind in BEFORE else 200,  # a request for a nonce is no answer to lose
                count=case.count,
                frame=None if case.frame is None else FRAMES[case.frame],
                after=case.after,
            )
        )
        started = anyio.current_time()
        first = await self._engine.refresh(did, force=True)
        await anyio.sleep(_EARLY)
        early = await self._engine.refresh(did, force=True)
        in_time = anyio.current_time() - started < _SETTLE  # else a busy machine asked too late
        await anyio.sleep(_SETTLE - _EARLY + 0.5)
        second = await self._engine.refresh(did, force=True)
        stored = await self._store.load(did)
        (info,) = self.simulator.sessions(did)
        is_held = stored is not None and info.alive and info.refresh_hash == token_hash(stored.refresh_jwt)
        asked = _name(early.outcome) if in_time else None
        return End(_name(first.outcome), asked, _name(second.outcome), is_held)

    async def _login(self, kind: SessionKind) -> OAuthSession:
        self._logins += 1
        account = self.simulator.add_account(f"user-{self._logins:06}.test")  # answers of one length
        seed = self.simulator.seed_oauth if kind == "dpop" else self.simulator.seed_legacy
        session = OAuthSession.from_json(json.dumps(seed(account)))
        await self._store.save(session)
        return session


@asynccontextmanager
async def house() -> AsyncIterator[House]:
    """Simulator, proxy, store in memory, engine."""
    clock = SystemClock()
    async with (
        open_wire() as wire,
        anyio.create_task_group() as tg,
        open_store("memory:") as store,
        parts_over(
            None, configured(NOBODY, settle=_SETTLE, confirm=0.0), clock=clock, store=store, luck=lambda: 0.0
        ) as parts,
    ):
        simulator = Simulator(wire.url, issuer=wire.url, now=clock.now)
        wire.upstream = _port(await tg.start(serve, simulator))
        yield House(simulator, wire, store, parts.engine)
        tg.cancel_scope.cancel()


async def run(*, full: bool) -> int:
    """Every case; returns the exit code."""
    done: Counter[tuple[str, SessionKind]] = Counter()
    wrong: list[str] = []
    in_time: list[Case] = []
    with anyio.fail_after(_LIMIT):
        async with house() as table:
            limit = anyio.Semaphore(_AT_ONCE[full])

            async def one(name: str, case: Case, promised: End) -> None:
                async with limit:
                    found = await table.run(case)
                done[name, case.session] += 1
                if found.early is not None:
                    in_time.append(case)
                if found != (replace(promised, early=None) if found.early is None else promised):
                    wrong.append(f"{name}: {case}: {found}, promised {promised}")

            for session in SESSION_KINDS:
                length, tokens = await table.length(session)
                async with anyio.create_task_group() as tg:
                    for name, case, promised in cases(session, length, tokens, full=full):
                        tg.start_soon(one, name, case, promised)
            counters = table.simulator.counters
    names = list(dict.fromkeys(name for name, _ in done))
    print_table(
        ["mishap", *SESSION_KINDS], [[name, *(done[name, kind] for kind in SESSION_KINDS)] for name in names]
    )
    for line in wrong[:10]:
        print(f"  {line}")
    promises = Promises()
    promises.expect("cases that ended otherwise", len(wrong), 0)
    promises.expect("used tokens sent", counters.replays_seen, 0)
    promises.expect("sessions ended by the server", counters.sessions_killed, 0)
    promises.expect_at_least("cases", sum(done.values()), 2 * 2 * _CUTS)
    promises.expect_at_least("asked again too early", len(in_time), sum(done.values()) // 4)
    return promises.conclude()


def _name(outcome: RefreshOutcome) -> str:
    cause = f": {outcome.cause}" if isinstance(outcome, ReloginRequired) else ""
    return type(outcome).__name__ + cause


def _port(url: Any) -> int:
    return int(str(url).rpartition(":")[2])


def _silent(_event: Event) -> None:
    """The outcome is all that counts."""


def main() -> int:
    """The command line; returns the exit code."""
    given = options(f"breaks answers off: at {_CUTS} places, with --full at every byte").parse_args()
    code: int = anyio.run(lambda: run(full=given.full), backend="trio")
    return code


if __name__ == "__main__":
    sys.exit(main())
