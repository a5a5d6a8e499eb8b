"""When refusals are a verdict: the pure decision, over its whole range."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from idiolectd import policy
from idiolectd.clock import rfc3339
from idiolectd.outcome import Cause, Verdict
from idiolectd.policy import Policy
from idiolectd.ports import AccessTokenStatus, Refused
from idiolectd.refresh import verdict
from idiolectd.state import RefreshState, State
from tests.clock import START
from tests.support import FakeServer, did

RULES = Policy()
SESSION = FakeServer(lambda: START).login(did(1))
END = START + 3600
LIFE = 14 * 86_400.0


def refused(kind: Verdict = Verdict.SESSION) -> Refused:
    cause = Cause.CLIENT_REFUSED if kind is Verdict.CLIENT else Cause.REFUSED
    return Refused(kind, cause, "invalid_grant", "no")


def decided(
    *,
    kind: Verdict = Verdict.SESSION,
    refusals: int = 3,
    span: float = 120.0,
    now: float = END + 1,
    access_token: AccessTokenStatus | None = AccessTokenStatus.UNKNOWN,
    unclear: int = 0,
    started: float | None = None,
) -> State:
    state = RefreshState(refusals=refusals, refused_since=now - span, refused_as="refused")
    if unclear:
        state = state.noting(SESSION, now)
    session = SESSION if started is None else replace(SESSION, session_started_at=rfc3339(started))
    return verdict.decided(
        refused(kind),
        state,
        rules=RULES,
        session=session,
        session_life=LIFE,
        access_token=access_token,
        now=now,
    )


@given(
    kind=st.sampled_from([Verdict.SESSION, Verdict.EXPIRED, Verdict.REPLAYED, Verdict.CLIENT]),
    refusals=st.integers(1, 50),
    span=st.floats(0, 1e6),
    now=st.floats(START, END + 1e6),
    access_token=st.none() | st.sampled_from(AccessTokenStatus),
)
def test_no_words_end_a_session_too_soon(
    kind: Verdict, refusals: int, span: float, now: float, access_token: AccessTokenStatus | None
) -> None:
    """Only when heard three times over two minutes, and only if the access token is over or refused."""
    state = decided(kind=kind, refusals=refusals, span=span, now=now, access_token=access_token)
    if state is State.RELOGIN_REQUIRED:
        assert refusals >= 3
        assert span >= 119.9
        assert access_token is AccessTokenStatus.REFUSED or (
            now >= END and access_token in (AccessTokenStatus.UNKNOWN, AccessTokenStatus.NOT_CHECKABLE)
        )
        assert kind is not Verdict.CLIENT
    if state is State.SUSPENDED:
        assert kind is Verdict.CLIENT


@given(
    refusals=st.integers(3, 50),
    span=st.floats(120.1, 1e6),
    access_token=st.sampled_from([AccessTokenStatus.REFUSED, AccessTokenStatus.UNKNOWN]),
)
def test_nobody_waits_for_ever(refusals: int, span: float, access_token: AccessTokenStatus) -> None:
    """Refused often and long enough after its access token has ended: dead, in any words."""
    assert decided(refusals=refusals, span=span, access_token=access_token) is State.RELOGIN_REQUIRED


def test_a_living_access_token_keeps_a_session_alive() -> None:
    """However often it is refused; and if nobody can say whether it lives, its own end decides."""
    for access_token in (AccessTokenStatus.ACCEPTED, AccessTokenStatus.UNKNOWN, None):
        assert decided(refusals=99, span=3000, now=END - 60, access_token=access_token) is State.RETRYING
    assert (
        decided(refusals=99, span=3000, now=END + 60, access_token=AccessTokenStatus.ACCEPTED)
        is State.RETRYING
    )
    assert decided(now=END - 60, access_token=AccessTokenStatus.REFUSED) is State.RELOGIN_REQUIRED


def test_a_replay_that_our_own_note_proves_is_believed_at_once() -> None:
    """And without the note it is a refusal like any other."""
    at_once = {"refusals": 1, "span": 0.0, "now": START + 60, "access_token": None}
    assert decided(kind=Verdict.REPLAYED, unclear=1, **at_once) is State.RELOGIN_REQUIRED  # type: ignore[arg-type]
    assert decided(kind=Verdict.REPLAYED, **at_once) is State.RETRYING  # type: ignore[arg-type]
    assert decided(kind=Verdict.SESSION, unclear=1, **at_once) is State.RETRYING  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("age", "state"),
    [(LIFE + 1, State.RELOGIN_REQUIRED), (LIFE - 30, State.RELOGIN_REQUIRED), (LIFE - 3600, State.RETRYING)],
)
def test_words_of_expiry_are_believed_if_we_know_of_the_end(age: float, state: State) -> None:
    """Two that agree are no mistake."""
    now = END + 5
    found = decided(kind=Verdict.EXPIRED, refusals=1, span=0.0, now=now, started=now - age, access_token=None)
    assert found is state


def test_a_client_that_is_refused_for_long_needs_a_person() -> None:
    """After its access token's end, or a quarter of an hour; it is never dead."""
    assert decided(kind=Verdict.CLIENT, span=130, now=END - 600) is State.RETRYING
    assert decided(kind=Verdict.CLIENT, span=901, now=END - 600) is State.SUSPENDED
    assert (
        decided(kind=Verdict.CLIENT, span=130, now=END + 1, access_token=AccessTokenStatus.REFUSED)
        is State.SUSPENDED
    )


def test_without_a_time_for_confirmation_the_first_refusal_is_believed() -> None:
    """For tests that have no two minutes."""
    state = RefreshState().refused("refused", START)
    for kind, expected in ((Verdict.SESSION, State.RELOGIN_REQUIRED), (Verdict.CLIENT, State.SUSPENDED)):
        found = verdict.decided(
            refused(kind),
            state,
            rules=Policy(confirm=0),
            session=SESSION,
            session_life=LIFE,
            access_token=None,
            now=START,
        )
        assert found is expected


def test_client_and_session_have_rows_of_their_own() -> None:
    """What refuses the one says nothing of the other; other words of the same kind go on counting."""
    state = RefreshState()
    for kind in (Verdict.SESSION, Verdict.EXPIRED, Verdict.REPLAYED):
        state = verdict.counted(refused(kind), state, START)
    assert state.refusals == 3
    state = verdict.counted(refused(Verdict.CLIENT), state, START + 9)
    assert (state.refusals, state.refused_since, state.refused_as) == (1, START + 9, "client_refused")
    assert verdict.counted(refused(), state, START + 10).refusals == 1


@given(st.floats(0, 1e6), st.floats(-1e6, 1e6), st.floats(0, 1, exclude_max=True))
def test_refused_sessions_are_tried_in_time(age: float, left: float, luck: float) -> None:
    """Never beyond the end of a living token, never in a rush, never rarer than once an hour."""
    delay = policy.refusal_delay(RULES, age=age, left=left, luck=luck)
    assert 1.0 <= delay <= 3600.0
    if left > 0:
        assert delay <= max(1.0, left / 2)
    if left > 60:
        assert delay >= min(left / 4, 225.0)


@pytest.mark.parametrize("left", [3540.0, 900.0, 60.0, -1.0])
@pytest.mark.parametrize("luck", [0.0, 0.99])
def test_confirmations_are_spread(left: float, luck: float) -> None:
    """From the first refusal to a verdict: at least two minutes, few requests, and not long after the token's end."""
    at, count, times = 0.0, 1, [0.0]
    while not policy.is_confirmed(RULES, refusals=count, since=0.0, now=at):
        at += policy.refusal_delay(RULES, age=at, left=left - at, luck=luck)
        count += 1
        times.append(at)
    assert 120.0 <= at <= max(left, 0.0) + 240.0
    assert count <= 25
    assert sum(time < 5 for time in times) == 1


@given(st.floats(-1e6, 1e6))
def test_what_a_person_must_mend_is_looked_at_before_the_token_ends(left: float) -> None:
    """Hourly, and more often towards the end of a living token."""
    delay = policy.slow_delay(pause=3600.0, left=left)
    assert delay == 3600.0 if left <= 0 else delay <= max(1.0, min(3600.0, left / 4))
