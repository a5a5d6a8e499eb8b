"""The timing: pure functions, checked over their whole range."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from idiolectd import policy
from idiolectd.jose import token_hash
from idiolectd.policy import Policy

lives = st.floats(0, 1e8)
hashes = st.text(min_size=1)


@given(lives, hashes)
def test_due_lies_in_the_window(life: float, name: str) -> None:
    """Between 70 and 85 % of the life, and a minute before the end of all but the shortest."""
    due = policy.due_at(Policy(), issued_at=0.0, expires_at=life, token_hash=name)
    assert 0.70 * life <= due <= 0.85 * life
    if life >= 240:
        assert due <= life - 60 or due == 0.70 * life


def test_due_is_spread_evenly() -> None:
    """The draws of many tokens fill the window: no two halves differ much."""
    draws = [policy.draw(token_hash(str(n))) for n in range(4000)]
    assert abs(sum(draw < 0.5 for draw in draws) - 2000) < 200
    assert max(draws) > 0.99
    assert min(draws) < 0.01


def test_due_is_the_same_everywhere() -> None:
    """The draw belongs to the token, not to the process: this number is part of the format."""
    assert policy.draw("abc") == pytest.approx(0.7403589, abs=1e-6)


@given(
    st.integers(1, 10_000),
    st.floats(-1e9, 1e9),
    st.floats(0, 1, exclude_max=True),
    st.none() | st.floats(0, 1e5),
)
def test_a_retry_waits_as_long_as_it_should(
    attempts: int, left: float, luck: float, retry_after: float | None
) -> None:
    """At least a second, at least what the server asked, else at most five minutes and a quarter of what is left."""
    delay = policy.retry_delay(attempts=attempts, left=left, luck=luck, retry_after=retry_after)
    assert delay >= max(1.0, retry_after or 0.0)
    longest = min(300.0, 2.0 ** min(attempts, 16), left / 4 if left > 0 else 300.0)
    assert delay <= max(1.0, retry_after or 0.0, longest)


def test_a_retry_backs_off() -> None:
    """The delay grows with the attempts: a thrown-away backoff would be seen here."""
    delays = [policy.retry_delay(attempts=n, left=1e9, luck=0.99) for n in range(1, 12)]
    assert delays == sorted(delays)
    assert delays[-1] > 100 * delays[0]


@pytest.mark.parametrize(
    ("life", "left", "needed"),
    [(3600, 60, True), (3600, 60.1, False), (20, 3, True), (20, 3.1, False), (0, 0, True), (3600, -5, True)],
)
def test_when_a_client_needs_a_refresh(life: float, left: float, needed: bool) -> None:
    """Within a minute of the end, or within 15 % of a short life."""
    assert policy.is_needed(issued_at=0, expires_at=life, now=life - left) is needed


@pytest.mark.parametrize(
    ("expires_at", "deadline", "ending"),
    [(100, None, False), (100, 161, False), (100, 160, True), (100, 100, True)],
)
def test_when_a_session_is_ending(expires_at: float, deadline: float | None, ending: bool) -> None:
    """When the access token ends within a minute of the session's absolute end."""
    assert policy.is_ending(expires_at=expires_at, deadline=deadline) is ending


@pytest.mark.parametrize(
    ("left", "life", "warning"),
    [
        (72.1, 336, None),
        (72.0, 336, 72),
        (24.1, 336, 72),
        (24.0, 336, 24),
        (-1.0, 336, 24),
        (60.0, 100, None),  # a life of four days: three of them are no time to warn
        (24.0, 100, 24),
        (1.0, 47, None),
    ],
)
def test_when_people_are_told_that_a_session_ends(left: float, life: float, warning: float | None) -> None:
    """Below 72 and below 24 hours, if that is not most of its life."""
    told = policy.end_warning(left=left * 3600, lifetime=life * 3600)
    assert told == (None if warning is None else warning * 3600)
