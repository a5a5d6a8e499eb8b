"""The page of `status`: whole commands, each once, and lines that fit."""

import re
from dataclasses import replace

import pytest
from rich.cells import cell_len

from idiolectd.cli.status_page import MOST_LINES, page
from idiolectd.cli.status_report import DaemonStatus, StatusReport, count_rows
from idiolectd.cli.status_rows import unreadable_row
from idiolectd.cli.status_text import Canvas
from idiolectd.errors import RecordError
from idiolectd.remedy import Commands, remedy_for
from idiolectd.session import OAuthSession
from idiolectd.state import State
from tests.cli.test_rows import SESSION
from tests.docs.status_screens import report

COMMANDS = Commands(("--store", "file:///srv/my sessions"))


def lines_of(shown: StatusReport, canvas: Canvas, *, everything: bool = False) -> list[str]:
    found = page(shown, canvas, start="systemctl start idiolectd", commands=COMMANDS, everything=everything)
    return [line.plain for line in found]


@pytest.mark.parametrize("width", [60, 80, 120])
@pytest.mark.parametrize("size", [1, 40, 1000])
def test_a_session_is_one_line_and_a_command_is_whole(size: int, width: int) -> None:
    """No line is wider than the terminal except a command; each command stands alone, and once."""
    shown = report(size)
    lines = lines_of(shown, Canvas(width))
    commands = [line.strip() for line in lines if line.startswith("    ")]
    assert all(cell_len(line) <= width for line in lines if not line.startswith("    "))
    assert sorted(commands) == sorted({row.action for row in shown.sessions if row.action})
    listed = lines[next(at for at, line in enumerate(lines) if line.startswith("HANDLE")) + 1 :]
    expected = size if size <= MOST_LINES else sum(row.needs_a_look for row in shown.sessions)
    assert listed.index("") - any("--all" in line for line in listed) == expected


def test_problems_come_first() -> None:
    """The sessions that need a person are above those that are well, and what to do is below all."""
    shown = report(40)
    well = [row.needs_a_look for row in shown.sessions]
    assert well == sorted(well, reverse=True)
    lines = lines_of(shown, Canvas(80))
    assert max(at for at, line in enumerate(lines) if " fresh " in line) < min(
        at for at, line in enumerate(lines) if line.startswith("    ")
    )


def test_overdue_without_a_daemon_is_red() -> None:
    """Nothing is green that nobody refreshes; what starts the daemon is said once."""
    found = list(
        page(report(3, daemon=False), Canvas(80), start="systemctl start idiolectd", commands=COMMANDS)
    )
    for line in found:
        if "overdue" in line.plain:
            assert [str(span.style) for span in line.spans] == ["bold red"]
        assert "green" not in str(line.style)
    assert [line.plain for line in found].count("    systemctl start idiolectd") == 1


def test_not_running_and_not_allowed_to_know_are_two_things() -> None:
    """Who may not know is told whom to ask, and not that nobody refreshes."""
    shown = replace(report(1), daemon=DaemonStatus(running=None))
    text = "\n".join(lines_of(shown, Canvas(80)))
    assert "daemon: not allowed to know" in text
    assert "sudo idiolectd status --store 'file:///srv/my sessions'" in text
    assert "nobody refreshes" not in text


def test_an_empty_store() -> None:
    """It says so, and how a session gets in; no table, no word of a daemon that has nothing to do."""
    shown = report(1, daemon=False)
    shown = replace(shown, sessions=[], totals=count_rows([]))
    lines = lines_of(shown, Canvas(80))
    assert "no sessions" in lines
    assert lines[-1] == "    idiolectd login ACCOUNT --store 'file:///srv/my sessions'"
    assert not any("HANDLE" in line or "nobody" in line for line in lines)


def test_nothing_in_a_state_is_no_empty_store() -> None:
    """Who asks for one state is not told to log in."""
    shown = replace(report(40), state=State.AMBIGUOUS, sessions=[], totals=count_rows([]))
    lines = lines_of(shown, Canvas(80))
    assert "no sessions that are ambiguous" in lines
    assert not any("login" in line for line in lines)


def test_each_unreadable_record_is_named() -> None:
    """However many there are: each file, and the command that removes it."""
    errors = [RecordError(f"/srv/{at}.json", "not JSON", did=f"did:plc:{at}") for at in range(3)]
    rows = [unreadable_row(error, COMMANDS) for error in errors]
    text = "\n".join(lines_of(replace(report(1), sessions=rows, totals=count_rows(rows)), Canvas(80)))
    assert all(f"/srv/{at}.json" in text and f"logout did:plc:{at} --local" in text for at in range(3))


def test_many_alike_are_one_paragraph() -> None:
    """A thousand sessions with the same trouble fill no screen: some commands, and how to get all."""
    row = next(row for row in report(40).sessions if row.cause == "replayed")
    rows = [replace(row, did=f"did:plc:{at}", action=f"idiolectd login did:plc:{at}") for at in range(1000)]
    shown = replace(report(40), sessions=rows, totals=count_rows(rows))
    lines = lines_of(shown, Canvas(80))
    commands = [line for line in lines if line.startswith("    idiolectd login")]
    assert len(commands) == 20
    assert "  and 980 more; to list them all:" in lines
    assert any("--state relogin_required --json" in line for line in lines)
    assert len(lines) < MOST_LINES + 50
    assert sum("1,000 need a person" in line for line in lines) == 1


def test_only_ascii() -> None:
    """A terminal without other characters gets none."""
    shown = report(40)
    rows = [replace(row, handle="a" * 200 + ".example") for row in shown.sessions]
    lines = lines_of(replace(shown, sessions=rows), Canvas(80, ascii_only=True))
    assert all(line.isascii() for line in lines)
    assert any("~" in line for line in lines)


def test_one_account_is_shown_with_all_that_is_known() -> None:
    """Its times whole, its error, and what to do."""
    lines = lines_of(report(40, account="garden-0.example.com"), Canvas(80))
    found = dict(re.split(r"  +", line, maxsplit=1) for line in lines if re.match(r"\w[\w ]{0,9}  +\S", line))
    assert found["state"] == "relogin_required"
    assert found["last error"].startswith("Refresh token replayed (invalid_grant")
    assert (
        "    idiolectd refresh --revive did:plc:aaaaaaaaaaaaaaaaaaaaaaaa --store 'file:///srv/my sessions'"
        in lines
    )
    assert re.fullmatch(r"5h ago \(20\d\d-.*Z\)", found["expires"])


@pytest.mark.parametrize("kind", ["dpop", "bearer"])
def test_a_login_is_of_the_session_s_kind(kind: str) -> None:
    """What an app password began is not sent to a browser."""
    session: OAuthSession = SESSION if kind == "dpop" else replace(SESSION, dpop_private_key_jwk=None)
    todo = remedy_for(session.did, State.RELOGIN_REQUIRED, "revoked", session=session, commands=COMMANDS)
    assert todo is not None
    option = " --app-password" if kind == "bearer" else ""
    assert todo.command == f"idiolectd login did:plc:a{option} --store 'file:///srv/my sessions'"


@pytest.mark.parametrize(
    ("cause", "words"),
    [
        ("client_unknown", "set oauth.client_id to https://app.example/client.json"),
        ("client_key_missing", "add the key k1 to oauth.clients for https://app.example/client.json"),
        ("account_taken_down", "the server has taken the account down"),
        ("pds_refused", "allow https://pds.example"),
    ],
)
def test_advice_names_what_the_session_names(cause: str, words: str) -> None:
    """What has to be done before the command is told with the session's own client, key and PDS."""
    session = replace(SESSION, client_id="https://app.example/client.json", client_key_id="k1")
    todo = remedy_for(session.did, State.SUSPENDED, cause, session=session)
    assert todo is not None
    assert todo.advice is not None
    assert todo.advice.startswith(words)
    assert todo.command == "idiolectd refresh --force did:plc:a"
