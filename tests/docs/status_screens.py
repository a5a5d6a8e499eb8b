"""docs/status.md: what `status` shows of 1, 40 and 1,000 sessions on terminals of three widths."""

from collections.abc import Iterator
from dataclasses import replace

from idiolectd import __version__
from idiolectd.cli.status_page import page
from idiolectd.cli.status_report import DaemonStatus, StatusReport, StoreStatus, count_rows
from idiolectd.cli.status_rows import StatusRow, session_row, unreadable_row
from idiolectd.cli.status_text import Canvas
from idiolectd.clock import rfc3339
from idiolectd.config import load_config
from idiolectd.errors import RecordError
from idiolectd.ports import StoredSession
from idiolectd.remedy import PLAIN
from idiolectd.session import OAuthSession
from idiolectd.state import LastError, Pins, RefreshState, State

NOW = 1_800_000_000.0
CONFIGURATION = "/etc/idiolectd/config.toml"
STORE = "sqlite:///var/lib/idiolectd/sessions.sqlite"
WIDTHS = (60, 80, 120)
SIZES = (1, 40, 1000)
HOUR, DAY = 3600.0, 86_400.0

_CONFIG = load_config(None, {"HOME": "/nonexistent"})
_NAMES = ("garden", "weather", "trains", "news", "birds", "tides", "books", "music")

INTRODUCTION = """\
# What `status` shows

One line a session: its handle, how it is, when its access token **expires**, when its **next** refresh is due, and
when the **last** one was. What needs a person comes first; below the table stands what is wrong and, whole on lines of
their own, the commands that mend it. [The runbook](runbook.md) explains each word.

* Of more than 100 sessions only those that need a look are listed; `--all` lists all. A large SQLite store
  (more than 1,000) is not even read for it: its index knows.
* `?` behind a handle: nobody has confirmed yet that the account is called so.
* `overdue`: the access token has ended, and nobody has refreshed it.
* On a narrow terminal the columns LAST and NEXT are left out, on a wide one WHY is there. Into a pipe nothing is cut.
* `idiolectd status ACCOUNT` shows all that is known of one session.
* `idiolectd status --watch` shows the same live, with bars of the time that is left; `q` ends it.

For programs, `status --json` is one object:

| Field | What it holds |
|---|---|
| `daemon` | `running` (true, false; null: this user is not allowed to know), `pid`, `since`, `version`, `config`, `paused`, `unpersisted` |
| `store` | `url`, `config` (the file that was read), `exists` |
| `sessions` | an object each: what the table shows and more, `action` and `advice` among it; times in RFC 3339 |
| `totals` | `sessions`, `listed` (fewer for a large store without `--all`), `need_person`, `states` |

`status --exit-code` exits with 0 if all is well, with 1 if a session needs a person or its access token has ended,
and with 3 if no daemon runs. Without it the exit code is 0 whatever the states are.

The screens below are written by `make documents`, and compared by a test.
"""


def document() -> str:
    """The whole document."""
    parts = [INTRODUCTION]
    for size in SIZES:
        shown = f"{size:,} session{'' if size == 1 else 's'}"
        parts += [f"## {shown}\n"]
        for width in WIDTHS:
            parts += [f"{width} columns:\n", f"```text\n{screen(size, width)}\n```\n"]
    parts += ["## No daemon\n", f"```text\n{screen(3, 80, daemon=False)}\n```\n"]
    parts += ["## One account\n", f"```text\n{screen(40, 80, account='garden-0.example.com')}\n```\n"]
    return "\n".join(parts).replace(f"version {__version__}", "version X.Y.Z")


def screen(size: int, width: int, *, daemon: bool = True, account: str | None = None) -> str:
    """What `status` writes of that many sessions."""
    return "\n".join(
        line.plain
        for line in page(
            report(size, daemon=daemon, account=account),
            Canvas(width),
            start="systemctl start idiolectd",
            commands=PLAIN,
        )
    )


def report(size: int, *, daemon: bool = True, account: str | None = None) -> StatusReport:
    """A report of that many sessions, some of which need a person."""
    rows = sorted(_rows(size, late=0.0 if daemon else 2 * HOUR), key=lambda row: row.rank)
    if account is not None:
        rows = [row for row in rows if row.handle == account]
    since = rfc3339(NOW - 3 * DAY)
    running = DaemonStatus(running=True, pid=812, since=since, version=__version__)
    return StatusReport(
        at=NOW,
        account=account,
        state=None,
        daemon=running if daemon else DaemonStatus(running=False),
        store=StoreStatus(url=STORE, named_by=CONFIGURATION, config=CONFIGURATION, exists=True),
        sessions=rows,
        totals=count_rows(rows),
    )


def _rows(size: int, *, late: float) -> Iterator[StatusRow]:
    """One session is well. Of 40, seven are not."""
    special = dict(enumerate(_SPECIAL)) if size >= 40 else {}
    for number in range(size - bool(special)):
        life = 2 * HOUR
        age = life * ((number * 37) % 70) / 100 + late
        session = OAuthSession(
            did=f"did:plc:{number:024d}".replace("0", "a"),
            pds_url="https://pds.example.com",
            access_jwt="access",
            refresh_jwt="refresh",
            dpop_private_key_jwk="{}",
            token_type="DPoP",
            handle=(name := f"{_NAMES[number % 8]}-{number // 8}.example.com"),
            confirmed_handle=name,
            issuer="https://pds.example.com",
            issued_at=rfc3339(NOW - age),
            expires_at=rfc3339(NOW - age + life),
            session_started_at=rfc3339(NOW - DAY),
        )
        state = RefreshState(next_attempt_at=NOW - age + 0.75 * life, last_success_at=NOW - age)
        if number in special:
            session, state = special[number](session, state)
        state = replace(state, last_good=session.to_json(), pins=Pins.of(session))
        row = session_row(StoredSession(session, state), _CONFIG, NOW)
        assert row is not None
        yield row
    if special:
        place = "/var/lib/idiolectd/sessions.sqlite, row did:plc:zzzzzzzzzzzzzzzzzzzzzzzz"
        yield unreadable_row(RecordError(place, "not JSON", did="did:plc:zzzzzzzzzzzzzzzzzzzzzzzz"), PLAIN)


_Made = tuple[OAuthSession, RefreshState]


def _replayed(session: OAuthSession, state: RefreshState) -> _Made:
    error = LastError("invalid_grant", "Refresh token replayed", NOW - 5 * HOUR)
    ended = replace(session, issued_at=rfc3339(NOW - 7 * HOUR), expires_at=rfc3339(NOW - 5 * HOUR))
    return ended, replace(
        state,
        state=State.RELOGIN_REQUIRED,
        cause="replayed",
        last_error=error,
        attempts=3,
        next_attempt_at=None,
        last_success_at=NOW - 7 * HOUR,
    )


def _revoked(session: OAuthSession, state: RefreshState) -> _Made:
    error = LastError("ExpiredToken", "Token has been revoked", NOW - HOUR)
    bearer = replace(session, dpop_private_key_jwk=None, token_type="Bearer", issuer=None)
    return bearer, replace(
        state,
        state=State.RELOGIN_REQUIRED,
        cause="revoked",
        last_error=error,
        attempts=3,
        next_attempt_at=None,
    )


def _unknown_client(session: OAuthSession, state: RefreshState) -> _Made:
    error = LastError("client_unknown", "neither session nor token names a configured client", NOW - 60)
    named = replace(session, client_id="https://app.example.com/client-metadata.json")
    return named, replace(
        state,
        state=State.SUSPENDED,
        cause="client_unknown",
        last_error=error,
        attempts=1,
        next_attempt_at=NOW + HOUR,
    )


def _retrying(session: OAuthSession, state: RefreshState) -> _Made:
    error = LastError("connect_timeout", "pds.example.com did not answer in time", NOW - 40)
    return session, replace(
        state, state=State.RETRYING, last_error=error, attempts=4, next_attempt_at=NOW + 25
    )


def _ending(session: OAuthSession, state: RefreshState) -> _Made:
    old = replace(session, session_started_at=rfc3339(NOW - 12.5 * DAY))
    return old, replace(state, warned=72 * HOUR)


def _paused(session: OAuthSession, state: RefreshState) -> _Made:
    return session, replace(state, paused=True)


_SPECIAL = (_replayed, _revoked, _unknown_client, _retrying, _ending, _paused)
