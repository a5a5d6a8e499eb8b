"""Good news are counted, everything else passes."""

from dataclasses import replace

from idiolectd.events import IssuerResumed, SessionFound, SessionRefreshed, SessionsFound, SessionsRefreshed
from idiolectd.log import RefreshSummary
from tests.support import Recorder, did

_REFRESHED = SessionRefreshed(
    did=did(1),
    issuer="https://a.example",
    attempt=1,
    due=None,
    lateness=0.5,
    duration=0.25,
    expires_at="2027-01-15T08:00:00.000Z",
    next_attempt_at=None,
)
_FOUND = SessionFound(did=did(1), issuer=None, pds_url="https://pds.example", next_attempt_at=None)


def test_each_passes_unless_it_is_on() -> None:
    """A household of accounts has a line for each refresh."""
    told = Recorder()
    summary = RefreshSummary(told)
    summary(_REFRESHED)
    summary(_FOUND)
    summary.flush()
    assert told.events == [_REFRESHED, _FOUND]


def test_good_news_are_counted_by_issuer() -> None:
    """One line says how many, where, and how late the latest was; the next counts anew; bad news pass at once."""
    told = Recorder()
    summary = RefreshSummary(told)
    summary.is_on = True
    trouble = IssuerResumed(issuer="https://a.example")
    for number in range(30):
        summary(replace(_REFRESHED, issuer=f"https://{number // 2}.example", lateness=float(number)))
    summary(trouble)
    summary(_FOUND)
    assert told.events == [trouble]
    summary.flush()
    found, refreshed = told.events[1:]
    assert found == SessionsFound(found=1, issuers={"https://pds.example": 1})
    assert isinstance(refreshed, SessionsRefreshed)
    assert (refreshed.refreshed, refreshed.latest, refreshed.slowest) == (30, 29.0, 0.25)
    assert len(refreshed.issuers) == 11
    assert refreshed.issuers["others"] == 10
    summary.flush()
    assert len(told.events) == 3
