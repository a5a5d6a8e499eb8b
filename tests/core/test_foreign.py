"""What others wrote, read at the border: nothing comes out that fails later."""

import json
import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from idiolectd.clock import EARLIEST, LATEST, parse_rfc3339, rfc3339
from idiolectd.foreign import json_object, json_text, number, printable, storable, without
from idiolectd.http import Response, retry_after
from idiolectd.http.response import http_date
from idiolectd.jose import b64url_encode, claimed_life, numeric_claim, peek_claims
from idiolectd.session import OAuthSession

ANY_TEXT = st.text(st.characters())  # lone surrogates too
ANY_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | ANY_TEXT,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(ANY_TEXT, inner, max_size=4),
    max_leaves=10,
)


@pytest.mark.parametrize(
    "text",
    [
        "9999-12-31T23:59:59-01:00",
        "0001-01-01T00:00:00+01:00",
        "9999-12-31T23:59:60Z",
        "\uff12026-01-01T00:00:00Z",
        "2026-01-01T00:00:00+24:00",
        "\ud800",
        "",
        None,
    ],
)
def test_a_time_that_cant_be_written_is_none(text: str | None) -> None:
    """An offset leads beyond the calendar, and everything that shows it would fail."""
    assert parse_rfc3339(text) is None


@pytest.mark.parametrize("time", [math.inf, -math.inf, math.nan, 1e300, -1e300, 10**400, LATEST + 1])
def test_a_time_is_always_written(time: float) -> None:
    """Arithmetic leads beyond the calendar too."""
    assert parse_rfc3339(rfc3339(time)) in (EARLIEST, LATEST)


@given(
    ANY_TEXT
    | st.from_regex(r"\d{4}-\d\d-\d\d[Tt ]\d\d:\d\d:\d\d(\.\d+)?([Zz]|[+-]\d\d:\d\d)", fullmatch=True)
)
def test_what_is_read_as_a_time_can_be_written(text: str) -> None:
    """Whatever a record holds."""
    found = parse_rfc3339(text)
    if found is not None:
        assert abs((parse_rfc3339(rfc3339(found)) or 0.0) - found) < 0.002


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (3600, 3600.0),
        ("3600", 3600.0),
        (0.5, 0.5),
        (10**400, None),
        ("9" * 5000, None),
        ("1e400", None),
        (math.nan, None),
        (math.inf, None),
        ("nan", None),
        (-1, None),
        (10**9, None),
        (True, None),
        (None, None),
        ([1], None),
        ("\ud800", None),
    ],
)
def test_numbers_have_bounds(value: object, expected: float | None) -> None:
    """What is no finite number within them is none."""
    assert number(value, 0.0, 1e8) == expected


def test_a_number_of_any_length_costs_no_answer() -> None:
    """Python reads no integer of more than 4,300 digits, and the tokens stand beside it."""
    body = b'{"access_token": "a", "expires_in": ' + b"9" * 5000 + b"}"
    assert (json_object(body) or {})["access_token"] == "a"


def test_bytes_that_are_no_text_cost_no_answer() -> None:
    """A server's error text in Latin-1 stands beside its code."""
    assert json_object('{"a": "b", "c": "ü"}'.encode("latin-1")) == {
        "a": "b",
        "c": "\N{REPLACEMENT CHARACTER}",
    }


@given(ANY_JSON)
def test_whatever_json_holds_can_be_stored_and_shown(value: Any) -> None:
    """JSON may hold lone surrogates, by escape; UTF-8 can't."""
    found = json_object(json.dumps({"x": value, "y\ud800": 1}).encode())
    assert found is not None
    json.dumps(found, ensure_ascii=False).encode()
    text = json_text(found)
    assert text.isascii()
    assert text.isprintable()


@given(st.binary() | ANY_JSON.map(lambda value: json.dumps(value).encode()))
def test_nothing_fails_on_what_a_server_sends(body: bytes) -> None:
    """Bodies, headers and tokens are anybody's bytes."""
    text = body.decode("latin-1")
    for token in (text, f"a.{b64url_encode(body)}.c"):
        claims = peek_claims(token)
        numeric_claim(claims, "exp")
        claimed_life(token)
    http_date(text)
    answer = Response(429, {"retry-after": text, "ratelimit-reset": text}, body)
    answer.json_object()
    assert 0.0 <= (retry_after(answer, 0.0) or 0.0) <= 86_400.0


@given(ANY_TEXT)
def test_text_for_people_moves_nothing(text: str) -> None:
    """No control character, no change of direction, one line."""
    assert printable(text).isprintable()
    storable(text).encode()
    assert printable("ü \N{SNOWMAN}") == "ü \N{SNOWMAN}"


SECRET = "ref-0123456789abcdef0123456789abcdef0123456789abcdef"


@pytest.mark.parametrize("quoted", [SECRET, SECRET[:20], SECRET[7:25], SECRET[-12:]])
def test_a_secret_is_masked_however_little_of_it_is_quoted(quoted: str) -> None:
    """A server that shortens what it quotes says enough for somebody who guesses the rest."""
    assert without(f"bad token '{quoted}...' given", [SECRET, "x", ""]) == "bad token '…...' given"
    assert without("hunter2 is wrong", ["hunter2"]) == "… is wrong"
    assert without(f"not {SECRET[:11]}", [SECRET]) == f"not {SECRET[:11]}"


@given(st.text("ab", max_size=40), st.text("ab", min_size=12, max_size=30))
def test_nothing_telling_is_left(text: str, secret: str) -> None:
    """No dozen characters of a secret stand in what is shown."""
    shown = without(text, [secret])
    assert not any(secret[start : start + 12] in shown for start in range(len(secret) - 11))


@given(ANY_TEXT, ANY_TEXT, ANY_TEXT)
def test_a_record_with_any_text_in_it_is_read_or_refused(times: str, pds_url: str, issuer: str) -> None:
    """What is read can be planned, shown and written."""
    from idiolectd.errors import SessionError
    from idiolectd.refresh.planner import server_to_ask
    from idiolectd.state import RefreshState, TokenTimes

    record = {"did": "did:plc:a", "pdsUrl": pds_url, "accessJwt": "a", "refreshJwt": "b", "expiresAt": times}
    try:
        session = OAuthSession.from_json(json.dumps({**record, "issuer": issuer, "issuedAt": times}))
    except SessionError:
        return
    server_to_ask(session, RefreshState())
    rfc3339(TokenTimes.of(session, RefreshState(), 1e9).expires_at)
    session.to_json().encode()
