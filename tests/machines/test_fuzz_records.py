"""Whatever lies in a store: a session, a state, or the documented error, and never a secret in it."""

import json
import string
from dataclasses import fields, replace
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from idiolectd.clock import parse_rfc3339
from idiolectd.errors import RecordError, SessionError
from idiolectd.jose import claimed_life, numeric_claim, peek_claims, token_hash
from idiolectd.session import OAuthSession
from idiolectd.state import RefreshState, State, TokenTimes, last_good, reconcile, session_deadline
from idiolectd.store.merge import decode_state
from idiolectd.store.record_text import decode_record
from idiolectd.store.sealing import NO_KEYS
from tests.machines.profiles import runs
from tests.store.support import NOW, session
from tests.support import planner

SECRET = "s3cr3t-do-not-tell"

FIELDS = [
    "did",
    "pdsUrl",
    "pds_url",
    "accessJwt",
    "refreshJwt",
    "dpopPrivateKeyJwk",
    "dpopNonce",
    "tokenType",
    "scope",
    "handle",
    "issuedAt",
    "expiresAt",
    "refreshExpiresAt",
    "issuer",
    "clientId",
    "clientAuthMethod",
    "clientKeyId",
    "sessionStartedAt",
    "theirs",
]

times = st.sampled_from(
    [
        "",
        "2027-01-15T08:00:00Z",
        "0001-01-01T00:00:00+14:00",
        "9999-12-31T23:59:59-14:00",
        "2027-01-15",
        "soon",
    ]
)
# Everything that JSON can say, and strings that mean something somewhere.
scalars = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(),
    st.text(max_size=20),
    times,
    st.sampled_from(
        [SECRET, f"a.{SECRET}.b", "did:plc:aaaaaaaaaaaaaaaaaaaaaaaa", "\ud800", "\0", "x" * 3000]
    ),
)
values = st.recursive(
    scalars,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)

# A good record, some members of it replaced or gone: nearer to what is met than pure noise.
GOOD = json.loads(session(extra={"theirs": {"a": [1]}}).to_json()) | {
    "accessJwt": SECRET,
    "refreshJwt": SECRET,
    "dpopPrivateKeyJwk": json.dumps({"kty": "EC", "crv": "P-256", "x": "a", "y": "b", "d": SECRET}),
}
bent_records = st.builds(
    lambda changes, gone: {name: value for name, value in (GOOD | changes).items() if name not in gone},
    st.dictionaries(
        st.sampled_from([f for f in FIELDS if f != "did"]) | st.text(max_size=5), values, max_size=4
    ),
    st.sets(st.sampled_from(FIELDS), max_size=2),
)
texts = st.one_of(
    st.binary(max_size=300),
    st.text(max_size=300),
    values.map(json.dumps),
    bent_records.map(json.dumps),
    st.builds(lambda record, cut: json.dumps(record)[:cut], bent_records, st.integers(0, 900)),
)


@given(text=texts)
@example(text="[" * 100_000)
@example(text="9" * 5000)
@example(text=b'{"did":"\xff"}')
@example(text=json.dumps(GOOD | {"expiresAt": None}) + "\0")
@example(text=json.dumps(GOOD | {"pds_url": None}))
@runs(400)
def test_a_record_is_a_session_or_a_session_error(text: str | bytes) -> None:
    """Whatever is read is a session that survives writing, or a `SessionError` that shows no secret."""
    try:
        found = OAuthSession.from_json(text)
    except SessionError as error:
        assert SECRET not in _all_texts(error)
        return
    assert OAuthSession.from_json(found.to_json()) == found
    assert SECRET not in repr(found) or SECRET in _shown_fields(found)
    # What the rest of the house asks of it never raises either.
    assert found.kind in ("dpop", "bearer")
    _ = (found.refresh_token_hash, found.dpop_thumbprint)
    adopted = reconcile(found, RefreshState(), NOW)
    planned = planner().fresh(adopted.session, adopted.state, NOW)
    assert planned.next_attempt_at is not None
    assert RefreshState.from_json(planned.to_json()) == planned


@given(text=texts)
@runs(150)
def test_a_store_reads_it_or_says_which_record(text: str | bytes) -> None:
    """`decode_record` gives the session of that DID, or a `RecordError` that names the place and no secret."""
    did = "did:plc:aaaaaaaaaaaaaaaaaaaaaaaa"
    try:
        assert decode_record(text, place="/srv/x.json", did=did, keys=NO_KEYS).did == did
    except RecordError as error:
        assert "/srv/x.json" in str(error)
        assert SECRET not in _all_texts(error)


STATE_FIELDS = [f.name for f in fields(RefreshState)] + ["version", "unknown"]
_note = st.fixed_dictionaries({"token_hash": st.text(max_size=9), "at": scalars, "unclear": scalars})
GOOD_STATE = json.loads(
    replace(
        reconcile(session(), RefreshState(), NOW).state,
        state=State.RETRYING,
        attempts=2,
        spent=("a", "b"),
        next_attempt_at=NOW,
        previous_refresh_token=SECRET,
    ).to_json()
)
bent_states = st.builds(
    lambda changes: GOOD_STATE | changes,
    st.dictionaries(st.sampled_from(STATE_FIELDS), values | _note, max_size=3),
)


@given(text=st.one_of(st.binary(max_size=200), values.map(json.dumps), bent_states.map(json.dumps)))
@example(text=json.dumps(GOOD_STATE | {"attempts": "many"}))
@example(text=json.dumps(GOOD_STATE | {"spent": "abc"}))
@example(text=json.dumps(GOOD_STATE | {"next_attempt_at": [1]}))
@example(
    text=json.dumps(
        GOOD_STATE | {"note": {"token_hash": token_hash("refresh-1"), "at": "x", "unclear": None}}
    )
)
@example(text=json.dumps(GOOD_STATE | {"last_error": {"code": 1, "message": 2, "at": 3}}))
@example(text=json.dumps(GOOD_STATE | {"pins": {"issuer": 1}}))
@example(text=json.dumps(GOOD_STATE | {"next_attempt_at": float("nan")}))
@runs(400)
def test_a_state_is_usable_or_a_session_error(text: str | bytes) -> None:
    """Whatever is read as a state can be worked with, or is refused: a damaged one must not block its session."""
    try:
        state = RefreshState.from_json(text)
    except SessionError as error:
        assert SECRET not in _all_texts(error)
        return
    _is_usable(state)


@given(text=st.one_of(st.none(), st.binary(max_size=200), bent_states.map(json.dumps)))
@runs(100)
def test_a_stored_state_never_blocks_its_session(text: str | bytes | None) -> None:
    """`decode_state` gives a usable state for anything."""
    _is_usable(decode_state(text, NOW, did="did:plc:aaaaaaaaaaaaaaaaaaaaaaaa", keys=NO_KEYS))


def _is_usable(state: RefreshState) -> None:
    """All that the house does with a state: none of it may raise."""
    found = session()
    assert RefreshState.from_json(state.to_json()) == state
    last_good(state)
    adopted = reconcile(found, state, NOW)
    state = adopted.state
    plan = planner()
    plan.fresh(adopted.session, state, NOW)
    noted = state.noting(found, NOW)
    plan.settle_or_retry(found, noted, NOW)
    plan.retry(found, noted.answered().failed(State.RETRYING, "code", "text", NOW), NOW)
    state.pins.contradiction(found)
    state.rotated(found, found, NOW)
    assert state.next_attempt_at is None or state.next_attempt_at <= NOW or state.next_attempt_at > NOW
    assert found.refresh_token_hash in state.spent or found.refresh_token_hash not in state.spent
    assert SECRET not in repr(state)


@given(
    text=st.one_of(st.text(max_size=60), times, scalars.filter(lambda v: isinstance(v, str))),
    token=st.text(max_size=80),
)
@example(text="2027-01-15T08:00:00Z", token=f"a.{'eyJleHAiOjFlOTk5fQ'}.c")
@example(text="2027-01-15T08:00:60Z", token="a.eyJpYXQiOi0xLCJleHAiOk5hTn0.c")
@runs(300)
def test_times_and_claims_are_numbers_or_nothing(text: Any, token: str) -> None:
    """Timestamps and JWTs of any shape give a number, or None."""
    moment = parse_rfc3339(text)
    assert moment is None or isinstance(moment, float)
    assert numeric_claim(peek_claims(token), "exp") is None or claimed_life(token) is not None or True
    found = session(issued_at=text, expires_at=text, session_started_at=text, access_jwt=token or "x")
    assert TokenTimes.of(found, RefreshState(), NOW).expires_at is not None
    session_deadline(found, 1e9)


def _all_texts(error: BaseException) -> str:
    """The error and what it was raised from, as a traceback would print them."""
    texts, seen = [], error
    while seen is not None:
        texts.append(repr(seen))
        if seen.__suppress_context__ and seen.__cause__ is None:
            break
        seen = seen.__cause__ or seen.__context__  # type: ignore[assignment]
    return "".join(texts)


def _shown_fields(found: OAuthSession) -> str:
    """The fields that `repr` may show: a fuzzed one may hold the secret's text itself."""
    return str([getattr(found, f.name) for f in fields(found) if f.repr])


pytestmark = pytest.mark.filterwarnings("ignore::hypothesis.errors.NonInteractiveExampleWarning")
_ = string
