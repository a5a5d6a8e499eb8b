"""What `status` makes of a stored session."""

import json
from dataclasses import asdict, fields, replace

from idiolectd.cli.status_rows import StatusRow, session_row, totals, unreadable_row
from idiolectd.clock import rfc3339
from idiolectd.config import load_config
from idiolectd.errors import RecordError
from idiolectd.ports import StoredSession
from idiolectd.remedy import PLAIN
from idiolectd.session import OAuthSession
from idiolectd.state import LastError, Pins, RefreshState, State

NOW = 1_800_000_000.0
CONFIG = load_config(None, {"HOME": "/"})
SESSION = OAuthSession(
    did="did:plc:a",
    pds_url="https://pds.example",
    access_jwt="access",
    refresh_jwt="refresh",
    dpop_private_key_jwk="{}",
    token_type="DPoP",
    handle="a.example",
    issuer="https://issuer.example",
    issued_at=rfc3339(NOW - 100),
    expires_at=rfc3339(NOW + 900),
    session_started_at=rfc3339(NOW - 86400),
)

# The interface: names and order are documented.
FIELDS = [
    "did",
    "handle",
    "handle_confirmed",
    "claimed_handle",
    "pds_url",
    "issuer",
    "kind",
    "account_status",
    "state",
    "cause",
    "action",
    "advice",
    "ending",
    "overdue",
    "held_by",
    "issued_at",
    "expires_at",
    "refresh_expires_at",
    "session_deadline",
    "deadline_is_latest",
    "next_attempt_at",
    "last_success_at",
    "attempts",
    "refused_since",
    "last_error",
    "withheld",
]


def known(**changes: object) -> RefreshState:
    """The state of a session that the daemon has planned."""
    state = RefreshState(last_good=SESSION.to_json(), pins=Pins.of(SESSION), next_attempt_at=NOW + 600)
    return replace(state, **changes)  # type: ignore[arg-type]


def row_of(state: RefreshState, session: OAuthSession = SESSION) -> StatusRow:
    row = session_row(StoredSession(session, state), CONFIG, NOW)
    assert row is not None
    return row


def test_fields() -> None:
    """A row becomes JSON with exactly the documented fields, in their order."""
    row = row_of(known())
    assert [field.name for field in fields(row)] == FIELDS
    found = json.loads(json.dumps(row.to_dict()))
    assert list(found) == [*FIELDS, "needs_person"]
    assert found["state"] == "fresh"
    assert found["kind"] == "dpop"
    assert found["session_deadline"] == rfc3339(NOW + 13 * 86400)
    assert found["next_attempt_at"] == rfc3339(NOW + 600)
    assert found["last_error"] is None


def test_no_secret() -> None:
    """A row holds no token and no key."""
    session = replace(SESSION, access_jwt="s3cret", refresh_jwt="s3cret", dpop_private_key_jwk="s3cret")
    assert "s3cret" not in repr(row_of(RefreshState(), session))


def test_due() -> None:
    """A fresh session whose time has come is due, although that is never stored."""
    assert row_of(known(next_attempt_at=NOW - 1)).state is State.DUE
    assert row_of(known(state=State.RETRYING, next_attempt_at=NOW - 1)).state is State.RETRYING


def test_not_planned_yet() -> None:
    """A session that the daemon has not seen shows when it will be refreshed."""
    row = row_of(RefreshState())
    assert row.state is State.FRESH
    at = row.next_attempt_at
    assert at is not None
    assert rfc3339(NOW + 600) <= at <= rfc3339(NOW + 750)


def test_foreign_writer_dropped_the_pins() -> None:
    """Fields that a foreign program dropped from the record are shown from the pins."""
    assert row_of(known(), replace(SESSION, issuer=None)).issuer == "https://issuer.example"


def test_last_error_and_action() -> None:
    """A dead session says why, when, and what to type."""
    error = LastError("invalid_grant", "Refresh token replayed", NOW - 60)
    row = row_of(
        known(
            state=State.RELOGIN_REQUIRED, cause="replayed", last_error=error, attempts=1, next_attempt_at=None
        )
    )
    assert row.action == "idiolectd login did:plc:a"
    assert row.cause == "replayed"
    assert row.next_attempt_at is None
    assert row.to_dict()["last_error"] == {
        "code": "invalid_grant",
        "message": "Refresh token replayed",
        "at": rfc3339(NOW - 60),
    }


def test_ending_asks_for_a_login() -> None:
    """A session near its absolute end works, and needs a login all the same."""
    row = row_of(known(ending=True))
    assert (row.state, row.ending, row.action) == (State.FRESH, True, "idiolectd login did:plc:a")
    assert row_of(known(warned=72 * 3600.0)).action == "idiolectd login did:plc:a"


def test_legacy_sessions_have_no_deadline() -> None:
    """An app-password session ends only if nobody refreshes it."""
    assert row_of(known(), replace(SESSION, dpop_private_key_jwk=None)).session_deadline is None


def test_a_session_of_unknown_start_ends_at_the_latest() -> None:
    """Counted from when it was first seen, and said to be the latest; of a known start nothing is guessed."""
    unknown = replace(SESSION, session_started_at=None)
    row = row_of(known(pins=Pins(), first_seen_at=NOW - 86400), unknown)
    assert (row.session_deadline, row.deadline_is_latest) == (rfc3339(NOW + 13 * 86400), True)
    assert not row_of(known(first_seen_at=NOW)).deadline_is_latest
    assert row_of(known(pins=Pins()), unknown).session_deadline is None


def test_a_paused_session_says_how_to_resume() -> None:
    """A paused session is suspended with that cause; what needs a person more is shown all the same."""
    row = row_of(known(paused=True))
    assert (row.state, row.cause, row.action) == (State.SUSPENDED, "paused", "idiolectd resume did:plc:a")
    assert row.next_attempt_at is None
    assert row_of(known(paused=True, state=State.RELOGIN_REQUIRED)).state is State.RELOGIN_REQUIRED


def test_unreadable_times() -> None:
    """A record without readable times shows none."""
    row = row_of(
        RefreshState(), replace(SESSION, expires_at="soon", refresh_expires_at="later", issued_at="")
    )
    assert (row.expires_at, row.refresh_expires_at) == (None, None)


def test_nothing_stored() -> None:
    """What is not stored has no row."""
    assert session_row(StoredSession(None, RefreshState()), CONFIG, NOW) is None


def test_unreadable_record() -> None:
    """An unreadable record is quarantined, and says where it is."""
    row = unreadable_row(RecordError("/srv/did_plc_a.json", "not JSON", did="did:plc:a"), PLAIN)
    assert (row.did, row.state, row.action) == (
        "did:plc:a",
        State.QUARANTINED,
        "idiolectd logout did:plc:a --local",
    )
    assert row.advice == "repair it where it lies, or log in again, which replaces it, or remove it"
    assert row.last_error is not None
    assert row.last_error.message == "/srv/did_plc_a.json: not JSON"


def test_worst_first() -> None:
    """Rows sort by how much they need a person; totals count in the same order."""
    rows = [row_of(known(state=state)) for state in State]
    rows.append(row_of(known(ending=True)))
    ordered = sorted(rows, key=lambda row: row.rank)
    assert ordered[0].state is State.RELOGIN_REQUIRED
    assert [row.word for row in ordered[-3:]] == ["ending", "due", "fresh"]
    assert next(iter(totals(rows).items())) == ("relogin_required", 1)
    assert (totals(rows)["fresh"], totals(rows)["ending"]) == (1, 1)
    assert "retrying" not in totals([row_of(known())])


def test_withheld_tokens_are_shown() -> None:
    """Tokens that arrived and are not used stand in `status`, with what to do; their text does not."""
    arrived = replace(SESSION, access_jwt="new-access", refresh_jwt="new-refresh", issued_at=rfc3339(NOW - 5))
    asked = known(state=State.RETRYING, withheld=arrived.to_json(), unconfirmed="the answer came without sub")
    denied = known(state=State.SUSPENDED, cause="answer_misfit", withheld=arrived.to_json())
    rows = [row_of(asked), row_of(denied)]
    assert [row.withheld and asdict(row.withheld) for row in rows] == [
        {
            "reason": "unconfirmed",
            "issued_at": rfc3339(NOW - 5),
            "todo": "the account's PDS is asked whether they are this session's",
        },
        {
            "reason": "mismatch",
            "issued_at": rfc3339(NOW - 5),
            "todo": "log in again, then end the unknown session in the account's settings at its server",
        },
    ]
    assert rows[1].action == "idiolectd login did:plc:a"
    assert row_of(known()).withheld is None
    assert "new-" not in json.dumps([row.to_dict() for row in rows])
