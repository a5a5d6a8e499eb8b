"""One case, one kind of session: the trouble, the recovery, and what came of it."""

import json
from dataclasses import dataclass, field, replace
from itertools import pairwise
from typing import Any

import anyio
import httpx

from idiolectd.session import Kind, OAuthSession
from idiolectd.state import RefreshState, State
from tests.servers.cases import LIFE, Case, Fate
from tests.servers.house import House, house
from tests.servers.misbehaviour import ELSEWHERE, Misbehaving, at_refresh
from tests.servers.traffic import broken_rules


@dataclass
class Row:
    """A line of the table.

    Attributes:
        case: what happened.
        kind: to which kind of session.
        meanwhile: the states and causes that the sessions were in when it ended.
        requests: how many carried a refresh token, all sessions together.
        allowed: how many the policy allows.
        alive: how many of the sessions are alive at the server at the end.
        known: how many of them we know to be alive, with tokens that work.
        problems: what is not as promised.
    """

    case: Case
    kind: Kind
    meanwhile: str = ""
    requests: int = 0
    allowed: int = 0
    alive: int = 0
    known: int = 0
    problems: list[str] = field(default_factory=list)

    def __str__(self) -> str:
        verdict = "; ".join(self.problems) if self.problems else "ok"
        return (
            f"{self.kind:7}{self.case.name:34.34}{self.meanwhile:38.38}{self.requests:6}/{self.allowed:<6}"
            f"{self.alive:>4}{self.known:>6}   {verdict}"
        )


HEADER = f"{'kind':7}{'case':34}{'meanwhile':38}{'sent':>6}/{'most':6}{'alive':>4}{'known':>6}   verdict"


def allowed(case: Case) -> int:
    """How many requests with a refresh token the policy allows for a case, all sessions together.

    The backoff, half of its range drawn each time: seconds at first, shorter again when the access
    token is about to end (the last quarter, the last quarter of that, ...), then 150 s. A wish of the
    server's is the shortest pause.
    """
    one = 60 + case.lasts / 150 + case.lasts / (0.7 * case.life)
    if case.pause:
        one = 1 + case.lasts / case.pause
    return case.factor * case.sessions * int(one)


async def try_out(case: Case, kind: Kind) -> Row:
    """Runs one case on a virtual clock; see `Row`."""
    row = Row(case, kind, allowed=0 if case.no_token else allowed(case))
    made: list[Misbehaving] = []

    def wrap(inner: httpx.AsyncBaseTransport) -> httpx.AsyncBaseTransport:
        made.append(Misbehaving(inner, anyio.current_time))
        return made[0]

    async with house(wrap, access_life=LIFE, legacy_access_life=LIFE) as h:
        misbehaving = made[0]
        misbehaving._now = h.clock.true  # the house's clock exists only now
        sessions = [await _login(h, case, kind) for _ in range(case.sessions)]
        async with h.running():
            misbehaving.act, misbehaving.where = case.act, case.where
            await anyio.sleep(case.lasts)
            await _meanwhile(row, h, sessions)
            misbehaving.act = None
            await anyio.sleep(case.recovery)
        for session in sessions:
            await _afterwards(row, h, session)
        _in_general(row, h)
    return row


async def _login(h: House, case: Case, kind: Kind) -> OAuthSession:
    session = await h.login(kind=kind)
    if case.unpinned:
        await h.store.delete(session.did)
        session = replace(session, issuer=None)
        await h.store.save(session)
    return session


async def _meanwhile(row: Row, h: House, sessions: list[OAuthSession]) -> None:
    states = [(await h.entry(session.did)).state for session in sessions]
    row.meanwhile = ", ".join(sorted({_shown(state) for state in states}))
    expected = row.case.states
    if expected and {str(state.state) for state in states} - expected:
        row.problems.append(f"expected {' or '.join(sorted(expected))}")
    sent = h.traffic.refreshes()
    row.requests = len(sent)
    if row.requests > row.allowed:
        row.problems.append("more requests than allowed")
    if not (h.traffic.sent if row.case.where is not at_refresh else sent):
        row.problems.append("nothing was sent at all: the case shows nothing")
    if row.case.pause:
        # Each session obeys for itself: what the server asks of one it need not mean for the others.
        times = [[one.at for one in sent if one.token == token] for token in {one.token for one in sent}]
        gaps = [later - earlier for ones in times for earlier, later in pairwise(ones)]
        # Those that were on their way when the first refusal came are not held against it.
        if any(1.0 < gap < row.case.pause - 1.0 for gap in gaps):
            row.problems.append(f"asked again after {min(g for g in gaps if g > 1.0):.0f} s")


async def _afterwards(row: Row, h: House, seen: OAuthSession) -> None:
    entry = await h.entry(seen.did)
    if entry.session is None:
        row.problems.append("the record is gone")
        return
    state, fate = entry.state, row.case.fate(row.kind)
    honoured, works = h.honoured(entry.session), h.works(entry.session)
    info = h.sim.session_of(entry.session.refresh_jwt)
    row.alive += info is not None and info.consumable
    row.known += (state.state is State.FRESH and works) or _holds_newest(h, state)
    if state.state is State.RELOGIN_REQUIRED and honoured:
        row.problems.append("given up, and the server still honours it")
    good = False
    match fate:
        case Fate.LIVES:
            good = honoured and (works or row.case.deaf) and state.state is State.FRESH
        case Fate.LOST:
            good = (state.state, state.cause) == (State.RELOGIN_REQUIRED, "response_lost")
        case Fate.KEPT:
            good = state.state is State.SUSPENDED and _holds_newest(h, state)
        case Fate.ENDS:
            good = state.state is State.RELOGIN_REQUIRED
    if not good:
        row.problems.append(f"{_shown(state)} afterwards; expected: {fate.value}")


def _holds_newest(h: House, state: RefreshState) -> bool:
    """Whether tokens that were withheld are the ones that the server honours."""
    return state.withheld is not None and h.honoured(OAuthSession.from_json(state.withheld))


def _in_general(row: Row, h: House) -> None:
    row.problems += broken_rules(h.traffic.sent, settle=h.settle)[:2]
    killed = h.sim.counters.sessions_killed
    if killed and row.case.fate(row.kind) is not Fate.ENDS:
        row.problems.append(f"{killed} sessions were ended by what we sent")
    if h.traffic.to(httpx.URL(ELSEWHERE).host):
        row.problems.append("a request went to another host")
    if "session.crashed" in h.events.names:
        row.problems.append("our own code crashed")
    said = json.dumps([vars(event) for event in h.events.events], default=str)
    if any(secret in said for secret in secrets_of(h)):
        row.problems.append("an event holds a token")


def secrets_of(h: House) -> set[str]:
    """Every token that the servers ever gave."""
    tokens: set[Any] = {*h.sim.state.refresh_tokens, *h.sim.state.access_tokens, *h.sim.state.legacy_tokens}
    return tokens


def _shown(state: RefreshState) -> str:
    code = state.last_error.code if state.last_error and state.state is not State.FRESH else ""
    cause = state.cause or code
    return f"{state.state} ({cause})" if cause else str(state.state)
