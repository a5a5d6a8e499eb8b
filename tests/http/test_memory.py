"""What is remembered of servers: nonces and clocks."""

from email.utils import formatdate

import httpx
import pytest

from idiolectd.events import ClockSkewed, Event
from idiolectd.http import Response, judge_refusal, retry_after, safe_text
from idiolectd.http.error_response import ErrorResponse
from idiolectd.http.origin_state import ByOrigin, Nonces, Skews
from tests.clock import START
from tests.http.support import house

NOW = START
PDS = "https://pds.test"


@pytest.mark.parametrize(
    ("date", "sent_at", "received_at", "expected"),
    [
        (NOW, NOW, NOW, 0.0),
        (NOW + 5, NOW, NOW, 0.0),  # 5 to 6 s ahead: no more than 5 is certain
        (NOW + 6, NOW, NOW, 6.5),
        (NOW - 6, NOW, NOW, 0.0),  # 5 to 6 s behind, because Date is cut to the second
        (NOW - 7, NOW, NOW, -6.5),
        (NOW + 100, NOW, NOW + 2, 99.5),
        (NOW - 15, NOW - 30, NOW, 0.0),  # the answer took 30 s: all of it may be on the way
        (NOW + 3600, NOW + 5, NOW, 0.0),  # our clock was set back meanwhile
    ],
)
def test_skew_is_what_is_certain(date: float, sent_at: float, received_at: float, expected: float) -> None:
    """Neither the second that Date is cut to nor the time of the answer makes a skew."""
    skews = Skews(lambda _: None)
    skews.take(PDS, date, sent_at=sent_at, received_at=received_at)
    assert skews.of(PDS) == pytest.approx(expected)


def test_a_skewed_clock_is_reported_once() -> None:
    """Not for every answer, and again only when it has changed by much."""
    events: list[Event] = []
    skews = Skews(events.append)
    for ahead in (20, 40, 45, 60, 71, 20, 0, 40):
        skews.take(PDS, NOW + ahead, sent_at=NOW, received_at=NOW)
    assert [e.seconds for e in events if isinstance(e, ClockSkewed)] == [40.5, 71.5, 40.5]
    skews.take(PDS, NOW, sent_at=NOW, received_at=NOW)
    assert skews.of(PDS) == 0.0


@pytest.mark.anyio
async def test_the_client_learns_from_every_answer() -> None:
    """A refusal brings a date as well as a success; a cache's answer brings none."""
    headers = [
        {"Date": formatdate(NOW + 120, usegmt=True)},
        {"Date": formatdate(NOW + 999, usegmt=True), "Age": "7"},
        {"Date": "yesterday"},
    ]
    answers = [httpx.Response(status, headers=h) for status, h in zip((400, 200, 500), headers, strict=True)]
    async with house(httpx.MockTransport(lambda _: answers.pop(0))) as w:
        await w.client.request("GET", PDS + "/a")
        assert w.client.skew(PDS) == 120.5
        assert w.client.server_now("https://pds.test:443/b") == w.clock.now() + 120.5
        await w.client.request("GET", "https://PDS.test/b")
        assert w.client.skew(PDS) == 120.5
        await w.client.request("GET", PDS)
        assert w.client.skew(PDS) == 120.5
        assert w.client.skew("https://other.test") == 0.0
    assert [event.name for event in w.events] == ["clock.skewed"]


def test_unusable_nonces_are_not_kept() -> None:
    """A nonce goes into a header again."""
    nonces = Nonces()
    for nonce in (None, "", "a\nb", "é", "x" * 5000):
        nonces.take(PDS, nonce)
    assert nonces.get(PDS) is None


def test_origins_are_forgotten_in_the_order_of_writing() -> None:
    """Servers can't fill our memory by having many names."""
    kept: ByOrigin[int] = ByOrigin(limit=2)
    for n, name in enumerate("abac"):
        kept.put(name, n)
    assert [kept.get(name) for name in "abc"] == [2, None, 3]


@pytest.mark.parametrize(
    ("headers", "status", "date", "expected"),
    [
        ({}, 429, None, None),
        ({"retry-after": "7"}, 503, None, 7.0),
        ({"retry-after": "-7"}, 503, None, 0.0),
        ({"retry-after": "1e300"}, 503, None, 86_400.0),
        ({"retry-after": "nan"}, 503, None, None),
        ({"retry-after": "soon"}, 503, None, None),
        ({"retry-after": formatdate(NOW + 30, usegmt=True)}, 503, None, 30.0),
        ({"retry-after": formatdate(NOW + 30, usegmt=True)}, 503, NOW + 20, 10.0),
        ({"ratelimit-reset": str(NOW + 50)}, 429, None, 50.0),
        ({"ratelimit-reset": str(NOW + 50)}, 429, NOW + 10, 40.0),
        ({"ratelimit-reset": str(NOW + 50)}, 503, None, None),
        ({"retry-after": "3", "ratelimit-reset": str(NOW + 50)}, 429, None, 3.0),
        ({"ratelimit-reset": str(NOW - 50)}, 429, None, 0.0),
    ],
)
def test_retry_after_in_all_its_forms(
    headers: dict[str, str], status: int, date: float | None, expected: float | None
) -> None:
    """Seconds, dates and epochs all become seconds from now, by the server's own clock."""
    assert retry_after(Response(status, headers, b"", date), NOW) == expected


@pytest.mark.parametrize(
    "body",
    [b"", b"[]", b'"x"', b"<html>", b'{"a":', b"\xff\xfe{}", b"[" * 100_000, b"null", b"{} {}"],
)
def test_what_is_no_json_object(body: bytes) -> None:
    """Anything else than an object is None and never an exception."""
    assert Response(200, {}, body).json_object() is None


def test_a_byte_order_mark_is_no_obstacle() -> None:
    """Some servers write one."""
    assert Response(200, {}, b'\xef\xbb\xbf{"a":1}').json_object() == {"a": 1}


def test_texts_of_servers_are_made_safe() -> None:
    """No control characters, no end, no token; one that is cut in two included."""
    jwt = "eyJhbGciOiJFUzI1NiJ9.eyJzdWIiOiJ4In0.c2ln"
    token = "ref-" + "0" * 300
    shown = safe_text(f"bad\x1b[31m token\n{token} and {jwt}\u202e", [token, ""])
    assert shown == "bad [31m token … and … "
    assert len(safe_text("x" * 1000)) == 200
    assert "0" not in safe_text("y" * 190 + token, [token])


def test_a_refusal_never_repeats_what_was_sent() -> None:
    """Servers quote; messages are logged."""
    body = b'{"error": "SECRET-token", "error_description": "SECRET-token is bad"}'
    response = Response(400, {}, body)
    refusal = ErrorResponse.found(response)
    answer = judge_refusal("dpop", response, refusal, now=NOW, secrets=["SECRET-token"])
    assert "SECRET" not in repr(answer)
