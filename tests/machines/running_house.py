"""A house that is lived in: a daemon that starts, stops and dies, and what must never happen.

Driven step by step from outside: between two steps the virtual time stands still, so a request may
be under way when the next thing happens.
"""

import json
import math
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any, cast

import anyio
import trio.testing

from idiolectd.errors import StoreError
from idiolectd.ports import Committed, SharedStore, StoredSession
from idiolectd.session import Kind, OAuthSession
from idiolectd.state import State
from tests.clock import VirtualClock
from tests.machines.model import REMEMBERED
from tests.machines.mortal import Died, Life, MortalStore, MortalTransport
from tests.memory_store import MemoryStore
from tests.servers.house import House, house
from tests.servers.traffic import broken_rules
from tests.servers.trial import secrets_of
from tests.support import without_ours

# When all trouble has ended: the longest backoff, a lane's pause, the settling time, a second look, twice.
RECOVERY = 1800.0

# Twice the scheduler's longest sleep.
_NOTICED = 60.0


class UnreliableStore(MemoryStore):
    """A store that fails as often as it is told to."""

    bad_reads = 0
    bad_writes = 0

    async def read(self, did: str) -> StoredSession:
        if self.bad_reads > 0:
            self.bad_reads -= 1
            raise StoreError("input/output error")
        return await super().read(did)

    async def commit(self, *args: Any, **kwargs: Any) -> Committed:
        if self.bad_writes > 0:
            self.bad_writes -= 1
            raise StoreError("no space left on device")
        return await super().commit(*args, **kwargs)


class RunningHouse:
    """A house and its daemon; methods are called one after the other, in the event loop.

    Attributes:
        past: every record that was stored, by DID, oldest first: what foreign programs may hold.
        is_doomed: the daemon ends by dying.
        lost: new refresh tokens that died with a process before they were durable.
    """

    def __init__(self, clock: trio.testing.MockClock, house_: House) -> None:
        self._clock = clock
        self.house = house_
        self.past: dict[str, list[OAuthSession]] = {}
        self.lost: set[str] = set()
        self.is_doomed = False
        self._steps: list[float] = []
        self._resumed = False

    @property
    def store(self) -> UnreliableStore:
        """The store, as an outsider sees it."""
        return cast("UnreliableStore", self.house.store)

    # A daemon --------------------------------------------------------------------------------

    @asynccontextmanager
    async def daemon(self) -> AsyncIterator[None]:
        """A process; leaving it is an orderly stop, unless it is doomed."""
        self.is_doomed = False
        life = Life()
        self.house.traffic.life += 1
        store = cast("SharedStore", MortalStore(self.store, life))
        try:
            async with (
                self.house.engine(store=store, transport=MortalTransport(self.house.traffic, life)) as engine,
                anyio.create_task_group() as tasks,
            ):
                await tasks.start(self.house.scheduler_over(engine, store=store).run)
                yield
                # Here, and not before: a task that dies meanwhile would end this one's wait too.
                if self.is_doomed:
                    life.end()
                self._clock.autojump_threshold = 0
                tasks.cancel_scope.cancel()
        except* Died:
            assert life.is_over
        finally:
            self._clock.autojump_threshold = math.inf

    async def note_the_lost(self) -> None:
        """What a dead process had received and not saved is lost, and nobody is to blame."""
        for sent in self.house.traffic.refreshes():
            token = sent.new_refresh_token
            if (
                token is not None
                and sent.life == self.house.traffic.life
                and not await self._is_stored(token)
            ):
                self.lost.add(token)

    async def _is_stored(self, token: str) -> bool:
        if any(token == session.refresh_jwt for past in self.past.values() for session in past):
            return True
        stored = [await self.store.load(did) for did in await self.store.list_dids()]
        return any(session is not None and session.refresh_jwt == token for session in stored)

    # What happens ----------------------------------------------------------------------------

    async def pass_time(self, seconds: float) -> None:
        """Time passes."""
        self._clock.autojump_threshold = 0
        try:
            await anyio.sleep(seconds)
        finally:
            self._clock.autojump_threshold = math.inf
        await self.remember()

    async def remember(self) -> None:
        """Keeps what is stored, for later."""
        for did in await self.store.list_dids():
            session = await self.store.load(did)
            past = self.past.setdefault(did, [])
            if session is not None and (not past or past[-1] != session):
                past.append(session)

    async def login(self, kind: Kind, number: int | None = None) -> None:
        """A new account, or another login of a known one."""
        accounts = list(self.house.sim.state.accounts.values())
        account = accounts[number % len(accounts)] if number is not None and accounts else None
        session = await self.house.login(kind=kind, account=account)
        self.past.setdefault(session.did, []).append(session)

    async def logout(self, did: str) -> None:
        """The record is deleted, as a program without our locks does it."""
        await self.store.delete(did)
        self.past.pop(did, None)

    async def foreign_write(self, did: str, what: str) -> bool:
        """Another program writes a whole record; False: there was nothing to write."""
        session = await self.store.load(did)
        if session is None:
            return False
        if what == "used token":
            used = [
                old
                for old in self.past.get(did, [])
                if old.dpop_thumbprint == session.dpop_thumbprint
                and old.kind == session.kind
                and old.refresh_jwt in self._before(session)
            ]
            if not used:
                return False
            session = replace(used[-1], dpop_nonce="theirs")
        elif what == "fields dropped":
            session = without_ours(session)
        else:
            session = replace(session, dpop_nonce="theirs")
        self.store.put_record(did, session.to_json().encode())
        return True

    def _before(self, session: OAuthSession) -> list[str]:
        """The last used refresh tokens on whose way this session's came: those that we have to know."""
        arrived, tokens = self.house.traffic.arrived, [session.refresh_jwt]
        while len(tokens) <= REMEMBERED and (sent := arrived.get(tokens[-1])) is not None:
            tokens.append(sent.token or "")
        return tokens[1:]

    def suspend(self, seconds: float) -> None:
        """The machine sleeps."""
        self.house.clock.advance(seconds)
        self._resumed = True

    async def step(self, seconds: float) -> None:
        """Somebody sets the clock, and the daemon has a minute to notice."""
        if self._resumed:  # two jumps at once are one, and what is planned between them is a riddle
            await self.pass_time(_NOTICED)
            self._resumed = False
        self.house.clock.step(seconds)
        self._steps.append(self.house.clock.true())
        await self.pass_time(_NOTICED)

    # What must never happen ------------------------------------------------------------------

    def wrongs(self) -> list[str]:
        """What has gone wrong so far, whatever may still come."""
        h = self.house
        wrong = broken_rules(
            h.traffic.sent,
            settle=h.settle,
            lost=self.lost,
            # With the wall clock a settling time moves: what is waited for then is not told here.
            excused=lambda a, b: any(a <= step <= b for step in self._steps),
        )
        if "session.crashed" in h.events.names:
            wrong.append(f"crashed: {h.events.of('session.crashed')}")
        said = json.dumps([vars(event) for event in h.events.events], default=str)
        wrong += [f"an event holds {secret[:8]}…" for secret in secrets_of(h) if secret in said]
        return wrong

    async def wrongs_in_the_end(self) -> list[str]:
        """What is wrong when all trouble has been over for `RECOVERY`: every session works, or is lost for a reason."""
        h, wrong = self.house, []
        for did in await self.store.list_dids():
            entry = await self.store.read(did)
            session, state = entry.session, entry.state
            assert session is not None
            if h.honoured(session):
                if state.state is not State.FRESH or not h.works(session):
                    wrong.append(f"{did}: honoured, but {state}, works: {h.works(session)}")
                continue
            newest = self._newest(session)
            if newest in h.traffic.arrived and newest not in self.lost:
                wrong.append(f"{did}: the newest token arrived, and is not stored: {state}")
            if state.state is not State.RELOGIN_REQUIRED or (
                self._was_unclear(session) and state.cause != "response_lost"
            ):
                wrong.append(f"{did}: its newest token is lost, but {state}")
        missing = self.past.keys() - set(await self.store.list_dids())
        return wrong + [f"{did}: missing" for did in missing]

    def _was_unclear(self, session: OAuthSession) -> bool:
        """Whether its holder had to know that an answer was lost; else one has lied, as a 429 after a rotation."""
        return any(
            sent.is_unclear or sent.new_refresh_token in self.lost
            for sent in self.house.traffic.refreshes()
            if sent.token == session.refresh_jwt and sent.has_left
        )

    def _newest(self, session: OAuthSession) -> str:
        found = self.house.sim.state.refresh_tokens.get(session.refresh_jwt)
        if found is not None:
            return found.refresh_token
        return self.house.sim.state.legacy_tokens[session.refresh_jwt].session.refresh_token


@asynccontextmanager
async def running_house(
    clock: trio.testing.MockClock, clocks: VirtualClock, **options: Any
) -> AsyncIterator[RunningHouse]:
    """A house without accounts, its daemon not running."""
    async with house(clock=clocks, store=lambda c: UnreliableStore(clock=c), **options) as h:
        yield RunningHouse(clock, h)
