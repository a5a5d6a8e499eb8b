"""Other offsets, daylight saving, other zones of the process: the same moments all the same."""

import json
import os
import time
from collections.abc import Iterator
from dataclasses import replace
from datetime import datetime, timedelta, timezone
from typing import Any
from zoneinfo import ZoneInfo

import anyio
import pytest

from idiolectd.clock import parse_rfc3339, rfc3339
from idiolectd.http import Response, retry_after
from idiolectd.http.response import http_date
from idiolectd.session import OAuthSession
from idiolectd.state import RefreshState, TokenTimes
from tests.servers.house import house
from tests.support import planner
from tests.times.watching import LIFE, all_well, observe

ZONES = ["UTC", "Europe/Berlin", "America/New_York", "Asia/Kathmandu", "Pacific/Kiritimati"]

# The hour that happens twice in Berlin, and the one that does not happen.
TWICE = datetime(2026, 10, 25, 0, 30, tzinfo=timezone.utc).timestamp()  # noqa: UP017 - beside timedelta zones
NEVER = datetime(2027, 3, 28, 0, 30, tzinfo=timezone.utc).timestamp()  # noqa: UP017


@pytest.fixture(params=ZONES)
def zone(request: pytest.FixtureRequest) -> Iterator[str]:
    """The process's own zone, as a user's shell sets it."""
    before = os.environ.get("TZ")
    os.environ["TZ"] = request.param
    time.tzset()
    yield str(request.param)
    if before is None:
        del os.environ["TZ"]
    else:
        os.environ["TZ"] = before
    time.tzset()


def _spellings(moment: float) -> list[str]:
    zones = [
        timezone(timedelta(hours=h, minutes=m))
        for h, m in ((0, 0), (2, 0), (-5, -30), (14, 0), (-12, 0), (5, 45))
    ]
    texts = [datetime.fromtimestamp(moment, zone).isoformat() for zone in zones]
    texts += [
        datetime.fromtimestamp(moment, ZoneInfo(name)).isoformat(timespec="microseconds") for name in ZONES
    ]
    texts += [rfc3339(moment), rfc3339(moment).lower(), rfc3339(moment).replace("T", " ")]
    return texts


@pytest.mark.parametrize("moment", [TWICE, TWICE + 1800, NEVER, NEVER + 1800, 1_800_000_000.0], ids=str)
def test_a_moment_is_the_same_in_every_spelling(zone: str, moment: float) -> None:
    """Whatever the offset, the process's zone and the season: the same second."""
    assert {parse_rfc3339(text) for text in _spellings(moment)} == {moment}


def test_due_times_do_not_depend_on_the_spelling(zone: str) -> None:
    """One token, its times spelt in many ways: one due time."""
    due = set()
    for issued, expires in zip(_spellings(TWICE), reversed(_spellings(TWICE + LIFE)), strict=True):
        session = OAuthSession(
            did="did:plc:aaaaaaaaaaaaaaaaaaaaaaaa",
            pds_url="https://pds.example",
            access_jwt="a",
            refresh_jwt="r",
            issued_at=issued,
            expires_at=expires,
        )
        times = TokenTimes.of(session, RefreshState(), TWICE)
        due.add(planner().due_at(session, times))
    assert len(due) == 1


@pytest.mark.parametrize(
    "text",
    [
        "Sun, 06 Nov 1994 08:49:37 GMT",
        "Sunday, 06-Nov-94 08:49:37 GMT",
        "Sun Nov  6 08:49:37 1994",
        "Sun, 06 Nov 1994 08:49:37 -0000",
        "Sun, 06 Nov 1994 03:49:37 -0500",
    ],
)
def test_http_dates_are_utc(zone: str, text: str) -> None:
    """All three forms of RFC 9110, section 5.6.7, mean UTC, wherever we are."""
    assert http_date(text) == 784_111_777


def test_a_wish_as_a_date_is_a_number_of_seconds(zone: str) -> None:
    """Retry-After as a date, compared with the answer's own Date in another form."""
    headers = {"retry-after": "Sun Nov  6 08:50:37 1994"}
    answer = Response(503, headers, b"", date=http_date("Sun, 06 Nov 1994 08:49:37 GMT"))
    assert retry_after(answer, now=0.0) == 60.0


@pytest.mark.anyio
@pytest.mark.parametrize("hours", [0, 2, -5, 14])
async def test_records_in_other_offsets_are_refreshed_in_time(hours: int) -> None:
    """Records as a program in another zone writes them: none runs out, each is refreshed once a life."""
    offset = timezone(timedelta(hours=hours))
    async with house(access_life=LIFE) as h:
        for _ in range(5):
            session = await h.login()
            there: dict[str, Any] = {
                name: datetime.fromtimestamp(parse_rfc3339(getattr(session, name)) or 0, offset).isoformat()
                for name in ("issued_at", "expires_at", "refresh_expires_at", "session_started_at")
            }
            h.store.put_record(session.did, replace(session, **there).to_json().encode())
        async with h.running():
            seen = await observe(h, 3 * 3600)
            assert await all_well(h)
        assert seen.dead == {}
        assert seen.requests <= 5 * 5 + 4


@pytest.mark.anyio
@pytest.mark.parametrize(
    "text", ["", "2027-01-15T08:00:00", "tomorrow", "2027-01-15", "9999-99-99T00:00:00Z"]
)
async def test_an_unreadable_end_is_refreshed_once(text: str) -> None:
    """A record whose times can't be read counts as ended: it is refreshed once, and is well from then on."""
    async with house(access_life=LIFE) as h:
        session = await h.login()
        record = json.loads(session.to_json()) | {"expiresAt": text, "issuedAt": text}
        h.store.put_record(session.did, json.dumps(record).encode())
        async with h.running():
            await anyio.sleep(60)
            assert 1 <= len(h.traffic.refreshes()) <= 2  # twice for the nonce
            assert await all_well(h)
