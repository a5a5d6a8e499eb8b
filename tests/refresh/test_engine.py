"""The refresh of one session: what is sent, what is written, and in which order."""

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace

import anyio
import pytest
import trio
import trio.testing

from idiolectd.clock import rfc3339
from idiolectd.errors import LockBusy, NoSessionError, StoreError
from idiolectd.events import Event, SessionEnding, about
from idiolectd.outcome import (
    Ambiguous,
    Cause,
    Current,
    Gone,
    Refreshed,
    ReloginRequired,
    Retry,
    Suspended,
    Unpersisted,
    Verdict,
)
from idiolectd.ports import (
    AccessTokenStatus,
    Answer,
    Arrived,
    Committed,
    Probe,
    Refused,
    ScheduleEntry,
    StoredSession,
)
from idiolectd.refresh import RefreshEngine
from idiolectd.refresh.recorder import STAYS_AWAY
from idiolectd.session import OAuthSession, Tokens
from idiolectd.state import RefreshState, State
from tests.clock import START, VirtualClock
from tests.memory_store import MemoryStore
from tests.support import OTHER_KEY, FakeServer, Recorder, did, planner, without_ours

pytestmark = pytest.mark.anyio

DID = did(1)
DAY = 86_400.0


class Died(BaseException):
    """The process ended here."""


class WatchedStore(MemoryStore):
    """A store whose commits can be watched, refused, and preceded by somebody else's write.

    Attributes:
        broken: how many commits of tokens fail.
        is_full: every commit does.
        commits: the states that were committed.
        cut_short: what is read is what a commit has left that ended between state and record.
        meanwhile: what happens before each commit of tokens.
    """

    def __init__(self, clock: VirtualClock) -> None:
        super().__init__(clock=clock)
        self.broken = 0
        self.is_full = False
        self.interrupted_commit = False
        self.commits: list[RefreshState] = []
        self.meanwhile: Callable[[], Awaitable[None]] | None = None

    async def read(self, did: str) -> StoredSession:
        return replace(await super().read(did), interrupted_commit=self.interrupted_commit)

    async def commit(
        self,
        read: OAuthSession,
        state: RefreshState,
        *,
        tokens: Tokens | None = None,
        due: ScheduleEntry | None = None,
    ) -> Committed:
        if tokens is not None and self.meanwhile is not None:
            await self.meanwhile()
        if self.is_full or (tokens is not None and self.broken):
            self.broken = max(0, self.broken - 1)
            raise StoreError("the disk is full")
        committed = await super().commit(read, state, tokens=tokens, due=due)
        self.commits.append(state)
        return committed


@dataclass
class House:
    store: WatchedStore
    server: FakeServer
    clock: VirtualClock
    events: Recorder
    engine: RefreshEngine

    async def load(self) -> OAuthSession:
        session = await self.store.load(DID)
        assert session is not None
        return session

    async def state(self) -> RefreshState:
        return (await self.store.read(DID)).state

    async def make_due(self) -> None:
        due = (await self.engine.reconcile(DID)).due
        assert due is not None
        self.clock.advance_to(due.at)


@asynccontextmanager
async def a_house() -> AsyncIterator[House]:
    clock = VirtualClock()
    store, events, server = WatchedStore(clock), Recorder(), FakeServer(clock.now)
    engine = RefreshEngine(store, {"dpop": server}, planner=planner(), clock=clock, events=events)
    await store.save(server.login(DID))
    yield House(store, server, clock, events, engine)


@pytest.fixture
async def house() -> AsyncIterator[House]:
    async with a_house() as built:
        yield built


def answering(answer: Answer) -> Callable[[OAuthSession], Awaitable[Answer]]:
    async def before(_session: OAuthSession) -> Answer:
        return answer

    return before


async def test_a_due_session_gets_new_tokens(house: House) -> None:
    """A due session is sent once, saved, and planned anew."""
    await house.make_due()
    attempt = await house.engine.refresh(DID)
    assert isinstance(attempt.outcome, Refreshed)
    assert house.server.sent == ["refresh-0"]
    assert (await house.load()).refresh_jwt == "refresh-1"
    assert attempt.due is not None
    assert 0.70 * 3600 <= attempt.due.at - house.clock.now() <= 0.85 * 3600
    assert house.events.names == ["session.found", "session.refreshed"]


async def test_nothing_is_sent_before_it_is_due(house: House) -> None:
    """A session that is not due is left alone, unless forced."""
    await house.engine.reconcile(DID)
    assert isinstance((await house.engine.refresh(DID)).outcome, Current)
    assert house.server.sent == []
    assert isinstance((await house.engine.refresh(DID, force=True)).outcome, Refreshed)


async def test_the_note_is_durable_before_the_first_byte(house: House) -> None:
    """When the token leaves, the store already says so, by its hash."""
    await house.make_due()
    seen: list[RefreshState] = []

    async def before(_session: OAuthSession) -> None:
        seen.append(await house.state())

    house.server.before = before
    session = await house.load()
    await house.engine.refresh(DID)
    note = seen[0].note_on(session)
    assert note is not None
    assert note.at == house.clock.now()
    assert note.token_hash == session.refresh_token_hash


async def test_whoever_waited_finds_it_done(house: House) -> None:
    """Two who force at once send one token: the second reads again under the claim."""
    await house.make_due()

    async def slowly(_session: OAuthSession) -> None:
        await anyio.sleep(0.05)

    house.server.before = slowly
    outcomes: list[object] = []

    async def force() -> None:
        outcomes.append((await house.engine.refresh(DID, force=True, patience=5)).outcome)

    async with anyio.create_task_group() as tg:
        tg.start_soon(force)
        tg.start_soon(force)
    assert sorted(type(outcome).__name__ for outcome in outcomes) == ["Current", "Refreshed"]
    assert house.server.sent == ["refresh-0"]


async def test_no_claim_no_refresh(house: House) -> None:
    """While somebody else holds the claim, nothing is sent."""
    await house.make_due()
    async with house.store.claim(DID, patience=0):
        with pytest.raises(LockBusy):
            await house.engine.refresh(DID, force=True)
    assert house.server.sent == []


async def test_nothing_cancels_it_past_the_note(house: House) -> None:
    """A cancelled caller leaves with the new tokens saved."""
    await house.make_due()

    async def slowly(_session: OAuthSession) -> None:
        await anyio.sleep(0.05)

    house.server.before = slowly
    with anyio.move_on_after(0.01) as scope:
        await house.engine.refresh(DID)
    assert scope.cancel_called
    assert (await house.load()).refresh_jwt == "refresh-1"
    assert (await house.state()).state is State.FRESH


async def test_it_is_cancelled_before_the_note(house: House) -> None:
    """Preparing may be cancelled: no note, nothing sent."""
    await house.make_due()

    async def never_ready(session: OAuthSession) -> Retry:
        await anyio.sleep(30)
        raise AssertionError

    house.server.prepare = never_ready  # type: ignore[method-assign]
    with anyio.move_on_after(0.01):
        await house.engine.refresh(DID)
    assert (await house.state()).note is None
    assert house.server.sent == []


async def test_tokens_that_can_not_be_saved_are_held(house: House) -> None:
    """A full disk delays the save; the claim is kept and nothing is sent twice."""
    await house.make_due()
    house.store.broken = 3
    attempt = await house.engine.refresh(DID)
    assert isinstance(attempt.outcome, Refreshed)
    assert (await house.load()).refresh_jwt == "refresh-1"
    assert house.events.names.count("session.unpersisted") == 1
    assert house.server.sent == ["refresh-0"]


def test_a_disk_that_stays_full_is_told_at_growing_distance() -> None:
    """Nor at each try, nor only once: at its begin, and a minute after that."""

    async def main() -> None:
        async with a_house() as house:
            await house.make_due()
            house.store.broken = 30  # tried for about two minutes
            began = anyio.current_time()
            assert isinstance((await house.engine.refresh(DID)).outcome, Refreshed)
            assert 60 < anyio.current_time() - began < 180
            assert house.events.names.count("session.unpersisted") == 2

    trio.run(main, clock=trio.testing.MockClock(autojump_threshold=0))


async def test_a_stop_bounds_the_holding(house: House) -> None:
    """After a stop began, unsaved tokens are held for the given time only."""
    await house.make_due()
    house.store.broken = 1000
    house.engine.save_deadline.end_in(0.15)
    assert isinstance((await house.engine.refresh(DID)).outcome, Unpersisted)


async def test_a_login_during_a_refresh_wins(house: House) -> None:
    """A record with another token is not overwritten by the refresh of the old one."""
    await house.make_due()
    login = house.server.login(DID, key=OTHER_KEY)

    async def log_in(_session: OAuthSession) -> Answer:
        await house.store.save(login)
        return Arrived(Tokens(access_jwt="a", refresh_jwt="old-session", issued_at="", expires_at=""))

    house.server.before = log_in
    await house.engine.refresh(DID)
    assert (await house.load()).refresh_jwt == login.refresh_jwt


async def test_a_logout_during_a_refresh_wins(house: House) -> None:
    """A record that is gone is not recreated; the new tokens are revoked."""
    await house.make_due()
    house.store.meanwhile = lambda: house.store.delete(DID)
    assert isinstance((await house.engine.refresh(DID)).outcome, Gone)
    assert await house.store.load(DID) is None
    assert house.server.revoked == ["refresh-1"]


async def test_foreign_fields_written_meanwhile_stay(house: House) -> None:
    """A refresh changes the token fields and nothing else."""
    await house.make_due()
    changed = replace(await house.load(), handle="new.example", extra={"note": "theirs"})

    async def write() -> None:
        house.store.put_record(DID, changed.to_json().encode())

    house.store.meanwhile = write
    await house.engine.refresh(DID)
    stored = await house.load()
    assert (stored.handle, dict(stored.extra)) == ("new.example", {"note": "theirs"})
    assert stored.refresh_jwt == "refresh-1"


async def test_a_spent_token_put_back_is_undone(house: House) -> None:
    """A foreign whole-record save of a used token is undone, and that token is never sent."""
    await house.make_due()
    old = await house.load()
    await house.engine.refresh(DID)
    house.store.put_record(DID, without_ours(old).to_json().encode())
    await house.engine.refresh(DID, force=True)
    assert (await house.load()).refresh_jwt != "refresh-0"
    assert house.server.sent.count("refresh-0") == 1
    assert house.server.replays == []
    assert "session.spent_token_undone" in house.events.names


@pytest.mark.parametrize("interrupted_commit", [True, False])
async def test_a_commit_that_was_cut_short_is_finished_and_blamed_on_nobody(
    house: House, interrupted_commit: bool
) -> None:
    """The record of before lies beside the state of after: the new tokens are published; who wrote it counts."""
    await house.make_due()
    old = await house.load()
    await house.engine.refresh(DID)
    house.store.put_record(DID, old.to_json().encode())
    house.store.interrupted_commit = interrupted_commit
    await house.engine.reconcile(DID)
    assert (await house.load()).refresh_jwt == "refresh-1"
    assert ("session.spent_token_undone" in house.events.names) is not interrupted_commit
    assert house.server.replays == []


async def test_an_earlier_logins_record_is_undone(house: House) -> None:
    """A foreign program that puts back the record of before a login destroys no login."""
    await house.make_due()
    old = await house.load()
    login = house.server.login(DID, key=OTHER_KEY)
    await house.store.save(login)
    await house.engine.reconcile(DID)
    house.store.put_record(DID, without_ours(old).to_json().encode())
    await house.engine.reconcile(DID)
    assert await house.load() == login
    assert "session.spent_token_undone" in house.events.names


async def test_dropped_pins_are_restored(house: House) -> None:
    """A foreign save that drops issuer and client does not unpin them."""
    await house.make_due()
    house.store.put_record(DID, without_ours(await house.load()).to_json().encode())
    await house.engine.refresh(DID)
    assert (await house.load()).issuer == "https://issuer.example"


@pytest.mark.parametrize(
    ("change", "cause"),
    [
        ({"issuer": "https://evil.example"}, "issuer_changed"),
        ({"client_id": "https://evil.example/client.json"}, "client_mismatch"),
    ],
)
async def test_a_record_that_contradicts_its_pins_is_not_sent(
    house: House, change: dict[str, str], cause: str
) -> None:
    """A token never goes to another issuer, nor in another client's name."""
    await house.make_due()
    house.store.put_record(DID, replace(await house.load(), **change).to_json().encode())  # type: ignore[arg-type]
    outcome = (await house.engine.refresh(DID)).outcome
    assert isinstance(outcome, Suspended)
    assert outcome.cause == cause
    assert house.server.sent == []


async def test_a_retry_waits_and_keeps_the_session(house: House) -> None:
    """A passing failure is counted, explained and planned; the tokens stay."""
    await house.make_due()
    house.server.before = answering(Retry("server_error", "try later", issuer_wide=True))
    attempt = await house.engine.refresh(DID)
    state = await house.state()
    assert isinstance(attempt.outcome, Retry)
    assert (state.state, state.attempts) == (State.RETRYING, 1)
    assert state.last_error is not None
    assert state.last_error.code == "server_error"
    assert attempt.due is not None
    assert attempt.due.at > house.clock.now()
    assert house.server.is_current(await house.load())


async def test_the_backoff_holds_for_everybody_but_force(house: House) -> None:
    """However many clients ask for a session in backoff, nothing is sent."""
    await house.make_due()
    house.server.before = answering(Retry("server_error", "try later"))
    await house.engine.refresh(DID)
    for _ in range(5):
        assert isinstance((await house.engine.refresh(DID, needed=True)).outcome, Retry)
    assert len(house.server.sent) == 1


REFUSED = Refused(Verdict.SESSION, Cause.REFRESH_TOKEN_UNKNOWN, "invalid_grant", "Invalid refresh token")
NO_CLIENT = Refused(Verdict.CLIENT, Cause.CLIENT_REFUSED, "invalid_client", "no metadata")


class TestRefusals:
    """A server refuses a session, and it is given up only when that has lasted."""

    async def attempts(self, house: House, answer: Answer, *, until: float) -> list[tuple[float, object]]:
        """Every attempt as it is planned, until a time: when it was made, and what it came to."""
        house.server.before = answering(answer)
        await house.make_due()
        made: list[tuple[float, object]] = []
        while True:
            attempt = await house.engine.refresh(DID)
            made.append((house.clock.now(), attempt.outcome))
            if attempt.due is None or attempt.due.at > until:
                return made
            house.clock.advance_to(attempt.due.at)

    async def test_a_refused_session_is_named_dead_once_its_access_token_is_refused_too(
        self, house: House
    ) -> None:
        """With minutes left: three refusals over two minutes, and the PDS is asked before the last."""
        house.server.probe_answer = Probe(AccessTokenStatus.REFUSED)
        made = await self.attempts(house, REFUSED, until=START + 3600)
        assert [type(outcome) for _, outcome in made] == [Retry] * (len(made) - 1) + [ReloginRequired]
        assert len(made) >= 3
        assert made[-1][0] - made[0][0] >= 120
        assert made[-1][0] < START + 3600
        state = await house.state()
        assert (state.state, state.cause) == (State.RELOGIN_REQUIRED, "refresh_token_unknown")
        assert house.server.probes == 1
        assert house.events.names[-1] == "session.relogin_required"

    @pytest.mark.parametrize("taken", [AccessTokenStatus.ACCEPTED, AccessTokenStatus.UNKNOWN])
    async def test_a_session_whose_access_token_lives_is_not_dead(
        self, house: House, taken: AccessTokenStatus
    ) -> None:
        """It is tried until the token's end, and shown: in which state, with which words, and since when."""
        house.server.probe_answer = Probe(taken)
        made = await self.attempts(house, REFUSED, until=START + 3599)
        assert {type(outcome) for _, outcome in made} == {Retry}
        assert 5 < len(made) < 40
        state = await house.state()
        assert (state.state, state.cause) == (State.RETRYING, "refresh_token_unknown")
        assert state.refused_since == made[0][0]
        assert state.last_error is not None
        assert state.last_error.message == "Invalid refresh token"

    async def test_it_is_named_soon_after_the_access_token_has_ended(self, house: House) -> None:
        """Nobody waits for ever: if the PDS can't say, the token's own end decides."""
        made = await self.attempts(house, REFUSED, until=START + 1e6)
        assert isinstance(made[-1][1], ReloginRequired)
        assert made[-1][0] < START + 3600 + 300

    async def test_a_pds_that_takes_the_token_for_ever_keeps_it_alive(self, house: House) -> None:
        """Whatever our clock says of the token's end; tried ever more rarely, hourly at last."""
        house.server.probe_answer = Probe(AccessTokenStatus.ACCEPTED)
        made = await self.attempts(house, REFUSED, until=START + 2 * DAY)
        assert {type(outcome) for _, outcome in made} == {Retry}
        assert len(made) < 120
        assert made[-1][0] - made[-2][0] > 1800

    async def test_a_fault_that_passes_costs_nothing(self, house: House) -> None:
        """A database that is locked for two minutes is refused with the same words; then all is well."""
        made = await self.attempts(house, REFUSED, until=house.clock.now() + 119)
        assert {type(outcome) for _, outcome in made} == {Retry}
        house.server.before = None
        assert isinstance((await house.engine.refresh(DID, force=True)).outcome, Refreshed)
        state = await house.state()
        assert (state.refusals, state.refused_since, state.cause) == (0, None, None)

    async def test_a_wait_that_is_asked_for_is_the_sessions_own(self, house: House) -> None:
        """It is kept, and the issuer's other sessions are not told to wait."""
        made = await self.attempts(house, replace(REFUSED, retry_after=400.0), until=house.clock.now())
        assert made[0][1] == Retry("invalid_grant", "Invalid refresh token")
        assert ((await house.state()).next_attempt_at or 0) >= made[0][0] + 400

    async def test_force_does_not_hurry_the_verdict(self, house: House) -> None:
        """However often somebody insists within two minutes."""
        await house.make_due()
        house.server.before = answering(REFUSED)
        house.server.probe_answer = Probe(AccessTokenStatus.REFUSED)
        outcomes = [(await house.engine.refresh(DID, force=True)).outcome for _ in range(9)]
        assert {type(outcome) for outcome in outcomes} == {Retry}

    @pytest.mark.parametrize(
        ("between", "ends"),
        [
            (Retry("http_503", "down", issuer_wide=True), True),
            (Ambiguous("reset", "reset"), True),
            (Retry("http_429", "slow", issuer_wide=True, rate_limited=True), False),
            (Retry("http_403", "page"), False),
        ],
    )
    async def test_a_server_in_trouble_ends_the_row(self, house: House, between: Answer, ends: bool) -> None:
        """What it said before its restart and what it says after it are not one verdict; a limit is no trouble."""
        await house.make_due()
        for answer in (REFUSED, REFUSED, between):
            house.server.before = answering(answer)
            await house.engine.refresh(DID, force=True)
        assert ((await house.state()).refused_since is None) is ends

    async def test_a_replay_of_our_own_is_known_at_once(self, house: House) -> None:
        """The note says that it was sent and never heard: the answer held the new tokens."""
        await house.make_due()

        async def lost(_answer: Answer) -> Answer:
            return Ambiguous("reset", "reset")

        house.server.after = lost
        await house.engine.refresh(DID)
        house.server.after = None
        house.clock.advance(4000)
        house.server.probe_answer = Probe(AccessTokenStatus.REFUSED, server_time=house.clock.now())
        outcome = (await house.engine.refresh(DID)).outcome
        assert isinstance(outcome, ReloginRequired)
        assert outcome.cause == "response_lost"

    async def test_a_refused_client_is_tried_while_the_token_lives(self, house: House) -> None:
        """Then it is suspended, and looked at hourly; it is never dead, and lives when the client is let in."""
        made = await self.attempts(house, NO_CLIENT, until=START + 3 * 3600)
        alive = [outcome for at, outcome in made if at < START + 3600]
        assert {type(outcome) for outcome in alive} <= {Retry, Suspended}
        assert all(isinstance(outcome, Retry) for outcome in alive[:3])
        assert all(isinstance(outcome, Suspended) for at, outcome in made if at > START + 3600 + 300)
        house.server.before = None
        house.clock.advance(3601)
        assert isinstance((await house.engine.refresh(DID)).outcome, Refreshed)

    async def test_the_next_attempt_is_never_beyond_the_end_of_a_living_token(self, house: House) -> None:
        """Whatever went wrong, by a server's word or by our own checks."""
        answers: list[Answer] = [
            REFUSED,
            NO_CLIENT,
            Retry("http_403", "page"),
            Retry("x", "y", issuer_wide=True),
        ]
        await house.make_due()
        for answer in answers:
            house.server.before = answering(answer)
            attempt = await house.engine.refresh(DID, force=True)
            assert attempt.due is not None
            assert house.clock.now() < attempt.due.at < START + 3600
        house.server.prepared = lambda _session: Suspended("issuer_changed", "issuer_changed", "moved")
        house.clock.advance_to(START + 3500)
        attempt = await house.engine.refresh(DID, force=True)
        assert attempt.due is not None
        assert attempt.due.at < START + 3600


class TestDead:
    """A session that was given up."""

    async def die(self, house: House) -> None:
        await house.make_due()
        house.server.before = answering(REFUSED)
        house.clock.advance_to(START + 4000)
        for _ in range(3):
            await house.engine.refresh(DID, force=True)
            house.clock.advance(61)
        assert (await house.state()).state is State.RELOGIN_REQUIRED
        house.server.sent.clear()

    async def test_it_is_left_alone(self, house: House) -> None:
        """It is not sent again, not even by force."""
        await self.die(house)
        attempt = await house.engine.refresh(DID, force=True)
        assert isinstance(attempt.outcome, ReloginRequired)
        assert attempt.due is None
        assert house.server.sent == []

    async def test_it_may_be_revived_on_purpose(self, house: House) -> None:
        """Once: if the server takes it, it is as fresh as any other."""
        await self.die(house)
        house.server.before = None
        attempt = await house.engine.refresh(DID, revive=True)
        assert isinstance(attempt.outcome, Refreshed)
        assert attempt.due is not None
        state = await house.state()
        assert (state.state, state.cause, state.refusals) == (State.FRESH, None, 0)

    @pytest.mark.parametrize(
        ("answer", "kind"),
        [
            (REFUSED, ReloginRequired),
            (NO_CLIENT, ReloginRequired),
            (Retry("http_503", "down", issuer_wide=True), Retry),
            (Ambiguous("reset", "reset"), Ambiguous),
        ],
    )
    async def test_if_that_fails_it_stays_dead(self, house: House, answer: Answer, kind: type) -> None:
        """With its cause, and with what was said last; nothing more is planned."""
        await self.die(house)
        house.server.before = answering(answer)
        attempt = await house.engine.refresh(DID, revive=True)
        assert isinstance(attempt.outcome, kind)
        assert attempt.due is None
        assert len(house.server.sent) == 1
        state = await house.state()
        assert (state.state, state.cause) == (State.RELOGIN_REQUIRED, "refresh_token_unknown")
        assert isinstance((await house.engine.refresh(DID, force=True)).outcome, ReloginRequired)

    async def test_a_rotated_token_is_not_sent_by_a_revival(self, house: House) -> None:
        """Its PDS is asked first, as after every answer that was lost: what it says is spent stays here."""
        await house.make_due()
        house.server.before = answering(Ambiguous("reset", "reset"))
        await house.engine.refresh(DID)
        for _ in range(3):
            house.clock.advance(61)
            house.server.probe_answer = Probe(AccessTokenStatus.REFUSED, server_time=house.clock.now())
            await house.engine.refresh(DID, force=True)
        assert (await house.state()).cause == "response_lost"
        house.server.sent.clear()
        house.server.before = None
        assert isinstance((await house.engine.refresh(DID, revive=True)).outcome, ReloginRequired)
        assert house.server.sent == []
        house.server.probe_answer = Probe(AccessTokenStatus.ACCEPTED)
        assert isinstance((await house.engine.refresh(DID, revive=True)).outcome, Refreshed)

    async def test_what_is_not_dead_is_not_revived(self, house: House) -> None:
        """It is refreshed if it is due, as always."""
        await house.engine.reconcile(DID)
        assert isinstance((await house.engine.refresh(DID, revive=True)).outcome, Current)


async def test_tokens_of_somebody_else_are_kept_and_not_published(house: House) -> None:
    """An answer with another `sub` is durable in the state, and the record stays."""
    await house.make_due()
    house.server.before = answering(
        Arrived(
            Tokens(access_jwt="a", refresh_jwt="other", issued_at="", expires_at=""), "sub is not the DID"
        )
    )
    outcome = (await house.engine.refresh(DID)).outcome
    state = await house.state()
    assert isinstance(outcome, Suspended)
    assert (await house.load()).refresh_jwt == "refresh-0"
    assert "other" in (state.withheld or "")
    assert isinstance((await house.engine.refresh(DID, force=True)).outcome, Suspended)
    assert len(house.server.sent) == 1, "a used token must not be sent again"


class TestALostAnswer:
    """The token was sent, the answer never came."""

    async def lose(self, house: House) -> None:
        await house.make_due()

        async def lost(_answer: Answer) -> Answer:
            return Ambiguous("reset", "connection reset")

        house.server.after = lost
        assert isinstance((await house.engine.refresh(DID)).outcome, Ambiguous)
        house.server.after = None

    async def test_nothing_happens_before_it_has_settled(self, house: House) -> None:
        """Within the settling time not even force sends or asks anything."""
        await self.lose(house)
        house.clock.advance(29)
        assert isinstance((await house.engine.refresh(DID, force=True)).outcome, Ambiguous)
        assert (len(house.server.sent), house.server.probes) == (1, 0)

    async def test_a_refused_access_token_means_that_it_was_rotated(self, house: House) -> None:
        """If the PDS refuses it three times over two minutes while it should live; nothing more is sent."""
        await self.lose(house)
        house.clock.advance(31)
        started, outcomes = house.clock.now(), []
        while True:
            house.server.probe_answer = Probe(AccessTokenStatus.REFUSED, server_time=house.clock.now())
            attempt = await house.engine.refresh(DID)
            outcomes.append(attempt.outcome)
            if attempt.due is None:
                break
            house.clock.advance_to(attempt.due.at)
        assert [type(outcome) for outcome in outcomes[:-1]] == [Retry] * (len(outcomes) - 1)
        assert isinstance(outcomes[-1], ReloginRequired)
        assert outcomes[-1].cause == "response_lost"
        assert 120 <= house.clock.now() - started < 240  # clients are without a token: no longer than needed
        assert (len(outcomes), len(house.server.sent)) == (house.server.probes, 1)

    async def test_a_pds_that_is_mistaken_for_a_moment_costs_nothing(self, house: House) -> None:
        """While its database is locked it calls every token invalid; then the token is sent again, and lives."""
        await house.make_due()
        house.server.before = answering(Ambiguous("reset", "connection reset"))
        await house.engine.refresh(DID)
        house.server.before = None
        house.clock.advance(31)
        house.server.probe_answer = Probe(AccessTokenStatus.REFUSED, server_time=house.clock.now())
        attempt = await house.engine.refresh(DID)
        assert isinstance(attempt.outcome, Retry)
        assert attempt.due is not None
        house.clock.advance_to(attempt.due.at)
        house.server.probe_answer = Probe(AccessTokenStatus.ACCEPTED, server_time=house.clock.now())
        assert isinstance((await house.engine.refresh(DID)).outcome, Refreshed)

    async def test_an_expired_access_token_proves_nothing(self, house: House) -> None:
        """After the access token's end by the server's clock, its refusal says nothing: send again."""
        await self.lose(house)
        house.clock.advance(31)
        house.server.probe_answer = Probe(AccessTokenStatus.REFUSED, server_time=START + 4000)
        outcome = (await house.engine.refresh(DID)).outcome
        assert isinstance(outcome, ReloginRequired)
        assert outcome.cause == "response_lost", "a replay of a lost rotation is not somebody's attack"
        assert len(house.server.sent) == 2

    @pytest.mark.parametrize("since", [0.0, -DAY], ids=["still ahead", "set right since"])
    async def test_a_clock_that_was_ahead_proves_nothing(self, house: House, since: float) -> None:
        """A token stamped by a clock a day ahead looks alive to the server's clock long after its end."""
        house.clock.advance(DAY)
        await house.store.save(house.server.login(DID))
        await house.make_due()
        house.server.before = answering(Ambiguous("reset", "connection reset"))
        house.server.probe_answer = Probe(AccessTokenStatus.ACCEPTED)  # it is the newest record
        await house.engine.refresh(DID)
        house.server.before = None
        house.clock.advance(2 * 3600 + since)
        house.server.probe_answer = Probe(AccessTokenStatus.REFUSED, server_time=START + 3 * 3600)
        await house.engine.refresh(DID, force=True)
        if since:  # by this clock the settling time is far away: a daemon brings it forward
            await house.engine.advance_next_attempt(DID, DAY)
            await house.engine.refresh(DID)
        assert len(house.server.sent) == 2

    async def test_a_taken_access_token_means_send_again(self, house: House) -> None:
        """If the request never arrived, sending again refreshes."""
        await house.make_due()
        house.server.before = answering(Ambiguous("reset", "connection reset"))
        await house.engine.refresh(DID)
        house.server.before = None
        house.clock.advance(31)
        house.server.probe_answer = Probe(AccessTokenStatus.ACCEPTED, server_time=house.clock.now())
        assert isinstance((await house.engine.refresh(DID)).outcome, Refreshed)

    async def test_no_verdict_waits(self, house: House) -> None:
        """A PDS that can't say leaves it open, and is asked again later."""
        await self.lose(house)
        house.clock.advance(31)
        attempt = await house.engine.refresh(DID)
        assert isinstance(attempt.outcome, Ambiguous)
        assert len(house.server.sent) == 1
        assert attempt.due is not None
        assert attempt.due.at > house.clock.now()

    async def test_a_crash_after_the_note_is_found_out_later(self, house: House) -> None:
        """A process that died between note and answer leaves what the next one needs to know."""
        await house.make_due()

        async def die(_session: OAuthSession) -> None:
            raise Died

        house.server.before = die
        with pytest.raises(Died):
            await house.engine.refresh(DID)
        house.server.before = None
        other = RefreshEngine(
            house.store, {"dpop": house.server}, planner=planner(), clock=house.clock, events=house.events
        )
        assert isinstance((await other.refresh(DID, force=True)).outcome, Ambiguous)
        house.clock.advance(31)
        house.server.probe_answer = Probe(AccessTokenStatus.ACCEPTED, server_time=house.clock.now())
        assert isinstance((await other.refresh(DID)).outcome, Refreshed)


async def test_a_removed_session_is_forgotten(house: House) -> None:
    """When a record stays away, what the state keeps of it goes too."""
    await house.engine.reconcile(DID)
    house.store._records.pop(DID)
    again = await house.engine.reconcile(DID)
    assert again.due is not None
    await anyio.sleep(STAYS_AWAY)
    assert (await house.engine.reconcile(DID)).due is None
    assert (await house.state()) == RefreshState()
    assert "session.removed" in house.events.names


async def test_a_used_token_that_is_put_back_before_the_plan_is_made(house: House) -> None:
    """A program saves tokens of its own, another the old ones: the session is undone, and planned."""
    await house.engine.reconcile(DID)
    old = await house.load()
    await house.store.save(old.with_tokens(house.server._tokens(DID)))
    house.store.put_record(DID, old.to_json().encode())
    assert await house.engine.reconcile(DID) is not None
    assert house.server.is_current(await house.load())


async def test_the_end_of_a_session_is_announced() -> None:
    """Near its absolute end a session is `ending`, tried once more at expiry, and said so."""
    clock, events = VirtualClock(), Recorder()
    store, server = MemoryStore(clock=clock), FakeServer(clock.now)
    engine = RefreshEngine(
        store, {"dpop": server}, planner=planner(session_life=3600), clock=clock, events=events
    )
    await store.save(replace(server.login(DID), session_started_at="2027-01-15T08:00:00Z"))
    due = (await engine.reconcile(DID)).due
    assert due is not None
    assert due.at == START + 3600
    assert (await store.read(DID)).state.ending
    assert "session.ending" in events.names


async def test_the_end_is_announced_three_times() -> None:
    """Below 72 hours, below 24 hours, and when no refresh can move it: once each, however often it is refreshed."""
    day, hour = 86_400.0, 3600.0
    clock, events = VirtualClock(), Recorder()
    store, server = MemoryStore(clock=clock), FakeServer(clock.now)
    engine = RefreshEngine(
        store, {"dpop": server}, planner=planner(session_life=14 * day), clock=clock, events=events
    )
    await store.save(replace(server.login(DID), session_started_at=rfc3339(START)))
    told = []
    for at in (0.0, 10.9 * day, 11 * day, 12.9 * day, 13.1 * day, 13.5 * day, 14 * day - hour, 14 * day - 60):
        clock.advance_to(START + at)
        await engine.refresh(DID, force=True)
        await engine.reconcile(DID)
        told += [(at, event) for event in events.of("session.ending")]
        events.events.clear()
    assert [at for at, _ in told] == [11 * day, 13.1 * day, 14 * day - hour]
    assert told[0][1] == SessionEnding(
        **about(server.login(DID)),
        session_deadline=rfc3339(START + 14 * day),
        at_latest=False,
        left=3 * day,
        action=f"idiolectd login {DID}",
    )


async def test_the_latest_end_of_a_session_of_unknown_start_is_announced() -> None:
    """Counted from when it was first seen: it is told, and changes no plan, whoever is right about it."""
    day = 86_400.0
    clock, events = VirtualClock(), Recorder()
    store, server = MemoryStore(clock=clock), FakeServer(clock.now)
    engine = RefreshEngine(
        store, {"dpop": server}, planner=planner(session_life=14 * day), clock=clock, events=events
    )
    await store.save(replace(server.login(DID), session_started_at=None))
    told: list[Event] = []
    for at in (0.0, 10.9 * day, 11 * day, 13.1 * day, 14 * day, 20 * day):
        clock.advance_to(START + at)
        await engine.refresh(DID, force=True)
        due = (await engine.reconcile(DID)).due
        assert due is not None
        assert due.at < clock.now() + 0.86 * server.life
        told += events.of("session.ending")
        events.events.clear()
    assert [(e.left, e.at_latest) for e in told if isinstance(e, SessionEnding)] == [
        (3 * day, True),
        (0.9 * day, True),
    ]
    assert not (await store.read(DID)).state.ending


async def test_a_legacy_session_has_no_absolute_end() -> None:
    """An app-password session of any age is refreshed in its window: each refresh brings a whole new life."""
    clock, events = VirtualClock(), Recorder()
    store, server = MemoryStore(clock=clock), FakeServer(clock.now, kind="bearer")
    engine = RefreshEngine(
        store, {"bearer": server}, planner=planner(session_life=86_400), clock=clock, events=events
    )
    await store.save(replace(server.login(DID), session_started_at=rfc3339(START - 30 * 86_400)))
    due = (await engine.reconcile(DID)).due
    assert due is not None
    assert due.at < START + 0.86 * server.life
    assert "session.ending" not in events.names


async def test_nobody_sends_a_paused_session(house: House) -> None:
    """Paused, a session has no line and is not sent, forced or not, whoever rotates or logs in; resumed, it is."""
    await house.make_due()
    assert await house.engine.pause(DID, paused=True) is None
    for login in (None, house.server.login(DID), house.server.login(DID, key=OTHER_KEY)):
        if login is not None:
            await house.store.save(login)
        assert (await house.engine.reconcile(DID)).due is None
        for force in (False, True):
            attempt = await house.engine.refresh(DID, force=force)
            assert isinstance(attempt.outcome, Suspended)
            assert (attempt.outcome.cause, attempt.due) == ("paused", None)
    assert house.server.sent == []
    house.server.probe_answer = Probe(AccessTokenStatus.ACCEPTED)  # the login is the newest record
    due = await house.engine.pause(DID, paused=False)
    assert due is not None
    house.clock.advance_to(due.at)
    assert isinstance((await house.engine.refresh(DID)).outcome, Refreshed)


async def test_only_what_is_stored_can_be_paused(house: House) -> None:
    """Pausing nobody is an error; a busy session is waited for, and then it is one too."""
    with pytest.raises(NoSessionError):
        await house.engine.pause(did(9), paused=True)
    async with house.store.claim(DID, patience=0):
        with pytest.raises(LockBusy):
            await house.engine.pause(DID, paused=True, patience=0.01)


async def test_identity_is_checked_after_a_refusal(house: House) -> None:
    """A refusal in unknown words makes the next attempt ask where the account lives."""
    await house.make_due()
    house.server.before = answering(REFUSED)
    await house.engine.refresh(DID)
    assert house.server.identity_checks == 0
    await house.engine.refresh(DID, force=True)
    assert house.server.identity_checks == 1
