"""The durable state: its transitions, its text, and what it makes of a record that changed."""

import json
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from idiolectd.clock import rfc3339
from idiolectd.errors import SessionError
from idiolectd.jose import b64url_encode
from idiolectd.session import OAuthSession
from idiolectd.state import (
    LastError,
    Note,
    Pins,
    RecordChange,
    RefreshState,
    State,
    TokenTimes,
    last_good,
    reconcile,
    reconcile_login,
    tokens_of,
)
from tests.clock import START
from tests.support import OTHER_KEY, FakeServer, did, without_ours

optional_times = st.none() | st.floats(0, 4e9)
states = st.builds(
    RefreshState,
    state=st.sampled_from(State),
    cause=st.none() | st.text(),
    attempts=st.integers(0, 99),
    refusals=st.integers(0, 3),
    refused_since=optional_times,
    refused_as=st.none() | st.text(),
    last_success_at=optional_times,
    last_error=st.none() | st.builds(LastError, st.text(), st.text(), st.floats(0, 4e9)),
    next_attempt_at=optional_times,
    note=st.none() | st.builds(Note, st.text(), st.floats(0, 4e9), st.integers(0, 5)),
    spent=st.lists(st.text(), max_size=5).map(tuple),
    last_good=st.none() | st.text(),
    withheld=st.none() | st.text(),
    displaced=st.none() | st.text(),
    pins=st.builds(Pins, issuer=st.none() | st.text(), client_id=st.none() | st.text()),
    token_seen_at=optional_times,
    ending=st.booleans(),
    warned=optional_times,
    paused=st.booleans(),
)


@given(states)
def test_what_is_stored_comes_back(state: RefreshState) -> None:
    """Every state survives its text."""
    assert RefreshState.from_json(state.to_json()) == state


@given(states, st.dictionaries(st.text(), st.integers()))
def test_fields_of_a_later_version_are_ignored(state: RefreshState, more: dict[str, int]) -> None:
    """A state with fields that this version does not know is still read."""
    known = json.loads(state.to_json())
    assert RefreshState.from_json(json.dumps({**{f"x-{k}": v for k, v in more.items()}, **known})) == state


@pytest.mark.parametrize(
    "text",
    ["", "{}", "[]", "null", '{"version":2}', '{"version":1,"state":"odd"}', '{"version":1,"note":{"x":1}}'],
)
def test_a_damaged_state_is_an_error_of_one_kind(text: str) -> None:
    """What can't be read raises `SessionError`, whatever is wrong with it."""
    with pytest.raises(SessionError):
        RefreshState.from_json(text)


def test_no_token_in_repr() -> None:
    """The last good record and withheld tokens do not show."""
    state = RefreshState(last_good="SECRET", withheld="SECRET", displaced="SECRET")
    assert "SECRET" not in repr(state)


def make_jwt(claims: dict[str, object]) -> str:
    """A token that says something of itself; nobody here verifies it."""
    return f"eyJ9.{b64url_encode(json.dumps(claims).encode())}.c2ln"


class TestAdopt:
    """What a record that somebody wrote means."""

    def setup_method(self) -> None:
        self.server = FakeServer(lambda: START)
        self.first = self.server.login(did(1))
        self.known = reconcile(self.first, RefreshState(), START).state
        self.second = self.first.with_tokens(tokens_of(self.server.login(did(1))))
        self.rotated = self.known.rotated(self.first, self.second, START)

    def test_first_sight_is_a_login(self) -> None:
        """A record never seen is a new session, pinned to what it names."""
        adopted = reconcile(self.first, RefreshState(), START)
        assert adopted.change is RecordChange.LOGIN
        assert adopted.state.pins == Pins.of(self.first)

    def test_the_same_record_is_no_change(self) -> None:
        """Nothing changed: the state stays."""
        assert reconcile(self.second, self.rotated, START + 9).change is RecordChange.NONE
        assert reconcile(self.second, self.rotated, START + 9).state == self.rotated

    def test_dropped_fields_are_put_back(self) -> None:
        """A foreign save without our fields is the same session, with its pins."""
        adopted = reconcile(without_ours(self.second), self.rotated, START)
        assert (adopted.change, adopted.session) == (RecordChange.NONE, self.second)

    def test_a_spent_token_is_replaced_by_the_last_good_one(self) -> None:
        """A used token that somebody put back is not believed."""
        adopted = reconcile(without_ours(self.first), self.rotated, START)
        assert adopted.change is RecordChange.SPENT
        assert adopted.session == self.second

    def test_an_earlier_logins_record_is_replaced_whole(self) -> None:
        """A record of the session before the last login, key and all, is not believed either."""
        login = self.server.login(did(1), key=OTHER_KEY)
        state = reconcile(login, self.rotated, START).state
        adopted = reconcile(self.second, state, START)
        assert (adopted.change, adopted.session, adopted.state) == (RecordChange.SPENT, login, state)

    def test_a_token_of_another_program_counts(self) -> None:
        """The same key with a token we did not bring is the same session, and ours is spent."""
        theirs = self.second.with_tokens(tokens_of(self.server.login(did(1))))
        adopted = reconcile(theirs, self.rotated, START)
        assert adopted.change is RecordChange.ROTATED
        assert self.second.refresh_token_hash in adopted.state.spent
        assert reconcile(self.second, adopted.state, START).change is RecordChange.SPENT

    def test_another_key_is_another_session(self) -> None:
        """A record with another DPoP key is a new login: no pin, note or error is carried over."""
        login = replace(self.server.login(did(1), key=OTHER_KEY), issuer="https://other.example")
        dead = replace(self.rotated, state=State.RELOGIN_REQUIRED, cause="replayed", attempts=7)
        adopted = reconcile(login, dead, START)
        assert adopted.change is RecordChange.LOGIN
        assert (adopted.state.state, adopted.state.attempts) == (State.FRESH, 0)
        assert adopted.state.pins.issuer == "https://other.example"
        assert self.second.refresh_token_hash in adopted.state.spent

    def test_an_old_copy_never_wins(self) -> None:
        """However many rotations old, and whatever list of used-up tokens has forgotten it."""
        state, newest = self.rotated, self.second
        for n in range(1, 100):
            tokens = tokens_of(self.server.login(did(1)))
            after = replace(newest.with_tokens(tokens), issued_at=rfc3339(START + 60 * n))
            state, newest = state.rotated(newest, after, START + 60 * n), after
        adopted = reconcile(self.first, state, START + 6000)
        assert (adopted.change, adopted.session) == (RecordChange.SPENT, newest)
        # No server's time says so, and clocks can be set: the other one is kept until one has proved to live.
        assert adopted.state.displaced == self.first.to_json()

    def test_the_servers_times_decide(self) -> None:
        """A copy with an older `iat` is old for good: there is nothing left to prove."""
        old = replace(self.first, access_jwt=make_jwt({"iat": START}), issued_at=rfc3339(START))
        new = replace(
            self.second, access_jwt=make_jwt({"iat": START + 3000}), issued_at=rfc3339(START + 3000)
        )
        state = self.known.rotated(self.first, new, START + 3000)
        state = replace(state, spent=())
        adopted = reconcile(old, state, START + 6000)
        assert (adopted.change, adopted.session, adopted.state.displaced) == (RecordChange.SPENT, new, None)

    def test_what_replaces_a_session_unproven_displaces_it(self) -> None:
        """The last good record survives until the newer one has brought tokens."""
        theirs = self.second.with_tokens(tokens_of(self.server.login(did(1))))
        adopted = reconcile(theirs, self.rotated, START)
        assert adopted.state.displaced == self.second.to_json()
        assert adopted.state.rotated(theirs, self.server.login(did(1)), START).displaced is None

    def test_a_login_after_a_death_displaces_nothing(self) -> None:
        """What the server has ended is nothing to go back to."""
        dead = replace(self.rotated, state=State.RELOGIN_REQUIRED)
        assert reconcile(self.server.login(did(1), key=OTHER_KEY), dead, START).state.displaced is None

    def test_a_clock_that_was_set_back_keeps_nobody_from_logging_in(self) -> None:
        """A saved login counts even if our clock calls it older; a copy that the server's time calls older doesn't."""
        login = replace(self.server.login(did(1), key=OTHER_KEY), issued_at=rfc3339(START - 9999))
        assert reconcile_login(login, self.rotated, START - 9999).change is RecordChange.LOGIN
        assert reconcile(login, self.rotated, START - 9999).change is RecordChange.SPENT
        claims = {"iss": "https://pds.example", "iat": START - 9999}
        now = replace(self.second, access_jwt=make_jwt(claims | {"iat": START}))
        state = self.known.rotated(self.first, now, START)
        copy = replace(login, access_jwt=make_jwt(claims))
        assert reconcile_login(copy, state, START).change is RecordChange.SPENT

    def test_an_issuer_is_never_repinned(self) -> None:
        """A record that names another issuer under the same key contradicts its pin."""
        adopted = reconcile(replace(self.second, issuer="https://evil.example"), self.rotated, START)
        assert adopted.state.pins.contradiction(adopted.session) == "issuer"


def test_a_note_counts_while_its_token_is_stored() -> None:
    """A rotation makes an old note meaningless, without anybody clearing it."""
    server = FakeServer(lambda: START)
    first, second = server.login(did(1)), server.login(did(1))
    state = RefreshState().noting(first, START)
    assert state.note_on(first) == Note(first.refresh_token_hash, START, 1)
    assert state.note_on(second) is None
    assert state.noting(first, START + 1).note_on(first) == Note(first.refresh_token_hash, START + 1, 2)
    assert state.noting(second, START + 1).note_on(second) == Note(second.refresh_token_hash, START + 1, 1)


def test_a_row_of_refusals() -> None:
    """It keeps its beginning and its first words; a rotation, trouble, or other words end it; a clock set back has no say."""
    row = RefreshState().refused("revoked", START).refused("refused", START + 9)
    assert (row.refusals, row.refused_since, row.refused_as) == (2, START, "revoked")
    assert row.refused("x", START - 100).refused_since == START - 100
    assert row.unrefused() == RefreshState()
    assert row.refused("x", START + 10, anew=True) == RefreshState().refused("x", START + 10)
    session = FakeServer(lambda: START).login(did(1))
    assert row.rotated(session, session, START).refused_since is None


def test_a_row_of_an_earlier_version_begins_now() -> None:
    """It had counted, and kept no time."""
    state = RefreshState.from_json('{"version":1,"state":"retrying","refusals":2}')
    assert state.refused("refused", START).refusals == 1


def test_an_answer_that_rotates_nothing_spends_nothing() -> None:
    """A server that keeps the refresh token (RFC 6749, section 6) has not used it up."""
    session = FakeServer(lambda: START).login(did(1))
    again = replace(session, access_jwt="new")
    state = RefreshState().rotated(session, again, START)
    assert state.spent == ()
    assert last_good(state) == again


def test_the_list_of_spent_tokens_is_bounded() -> None:
    """A session that lives for years does not grow its state."""
    server, state = FakeServer(lambda: START), RefreshState()
    session = server.login(did(1))
    for _ in range(100):
        after = session.with_tokens(tokens_of(server.login(did(1))))
        state, session = state.rotated(session, after, START), after
    assert len(state.spent) == 16
    assert len(state.to_json()) < 4000


@pytest.mark.parametrize(
    ("issued_at", "expires_at", "seen", "life"),
    [
        ("2027-01-15T08:00:00Z", "2027-01-15T09:00:00Z", None, 3600),
        ("", "2027-01-15T09:00:00Z", START + 600, 3000),
        ("2027-01-15T10:00:00Z", "2027-01-15T09:00:00Z", START, 3600),
        ("2027-01-15T08:00:00Z", "", START, 0),
        ("junk", "junk", None, 0),
    ],
)
def test_the_life_of_a_token(issued_at: str, expires_at: str, seen: float | None, life: float) -> None:
    """From the record, else from first sight; without a readable end there is none."""
    session: OAuthSession = replace(
        FakeServer(lambda: START).login(did(1)), issued_at=issued_at, expires_at=expires_at
    )
    times = TokenTimes.of(session, RefreshState(token_seen_at=seen), START)
    assert times.expires_at - times.issued_at == life
