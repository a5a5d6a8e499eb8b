"""What a newcomer types: help, wrong stores and addresses, logins that fail, sign-in codes, a long batch."""

import os
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import click
import pytest

from idiolectd import cli
from idiolectd.cli.help_sections import SectionedCommand, SectionedGroup
from tests.cli.conftest import Pds, Run

# Help -----------------------------------------------------------------------------------------------


def commands(command: click.Command, *names: str) -> Iterator[tuple[tuple[str, ...], click.Command]]:
    """Every command below one, with its name."""
    yield names, command
    if isinstance(command, click.Group):
        for name, below in command.commands.items():
            yield from commands(below, *names, name)


COMMANDS = dict(commands(cli.group))


@pytest.mark.parametrize(
    "group", [name for name, found in COMMANDS.items() if isinstance(found, click.Group)]
)
def test_a_bare_group_is_its_help(run: Run, group: tuple[str, ...]) -> None:
    """Without a command the help is the result: on standard output, exit 0, as with --help."""
    bare, asked = run(*group), run(*group, "--help")
    assert (bare.code, bare.err) == (0, "")
    assert bare.out == asked.out


def examples(command: click.Command) -> Iterator[list[str]]:
    """The words of each command of idiolectd in a command's examples, without what belongs to the shell."""
    assert isinstance(command, SectionedCommand | SectionedGroup)
    for title in ("Start here", "Examples"):
        for text, _ in command.sections.get(title, ()):
            for found in re.findall(r"idiolectd ([^|&>)]*)", text):
                yield shlex.split(found)


@pytest.mark.parametrize("name", COMMANDS, ids=" ".join)
def test_examples_can_be_typed(
    name: tuple[str, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each example of a command's help has only options that there are."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "sessions.backup").touch()  # the file that `restore` reads
    command = COMMANDS[name]
    for words in examples(command):
        depth = max(n for n in range(len(words) + 1) if tuple(words[:n]) in COMMANDS)
        typed = COMMANDS[tuple(words[:depth])]
        typed.make_context(words[depth - 1] if depth else "idiolectd", words[depth:]).close()


def test_placeholders_say_what_to_type(run: Run) -> None:
    """HANDLE typed as it stands in the help, and a name out of a document, are told to be no handles."""
    assert "as in NAME.bsky.social" in run("login", "HANDLE", "--browser").err
    assert "nobody's handle" in run("login", "alice.example", "--browser").err


# Stores and addresses -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "url", ["", " ", "postgres://user:secret@db.test/sessions", "SQLITE:///x", "sqlite:x", "memory:x"]
)
def test_what_is_no_store(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, url: str) -> None:
    """It is refused by option and by variable, with what a store is, and no file of that name is made."""
    monkeypatch.chdir(tmp_path)
    before = sorted(tmp_path.rglob("*"))
    named = run("status", "--store", url)
    monkeypatch.setenv("IDIOLECTD_STORE__URL", url)
    for done in (named, run("status")):
        assert (done.code, "expected sqlite:///PATH" in done.err) == (2, True), done.err
        assert "secret" not in done.err
    assert sorted(tmp_path.rglob("*")) == before


def test_an_address_without_https(run: Run, pds: Pds, monkeypatch: pytest.MonkeyPatch) -> None:
    """--pds-url is completed; plain http to another host is refused with what to type."""
    monkeypatch.setenv("ATPROTO_APP_PASSWORD", "pass-word")
    completed = run("login", "me@mail.test", "--pds-url", "nowhere.invalid")
    assert "the PDS can't be asked: nowhere.invalid: the name does not resolve" in completed.err
    plain = run("login", "me@mail.test", "--pds-url", "http://pds.test")
    assert (plain.code, "https://pds.test" in plain.err) == (2, True)
    for wrong in ("https://", "pds", ""):
        assert run("login", "me@mail.test", "--pds-url", wrong).code == 2


@pytest.mark.parametrize(
    ("variable", "role"),
    [
        ("IDIOLECTD_IDENTITY__PLC_DIRECTORY_URL", "the PLC directory"),
        ("IDIOLECTD_IDENTITY__HANDLE_RESOLVER_URL", "the handle resolver"),
    ],
)
def test_an_address_says_whose_it_is(
    run: Run, pds: Pds, monkeypatch: pytest.MonkeyPatch, variable: str, role: str
) -> None:
    """What can't be reached is named by what it is, not by its address alone."""
    pds.account("role.test")
    monkeypatch.setenv(variable, "http://127.0.0.1:9")
    done = run("login", "role.test", "--browser")
    assert (done.code, f"{role} can't be asked: http://127.0.0.1:9" in done.err) == (75, True), done.err


# Logins ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("url", ["sqlite://{}/deep/er/s.sqlite", "file://{}/deep/er/sessions"])
def test_a_failed_login_leaves_nothing(
    run: Run, pds: Pds, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, url: str
) -> None:
    """Neither a store nor a folder; the one that works then makes both, and says who keeps it alive."""
    pds.account("first.test")
    monkeypatch.setenv("IDIOLECTD_STORE__URL", url.format(tmp_path))
    for account, password in (("first.test", "wrong"), ("nobody.test", "pass-word")):
        monkeypatch.setenv("ATPROTO_APP_PASSWORD", password)
        assert run("login", account).code == 1
        assert not (tmp_path / "deep").exists()
    batch = tmp_path / "accounts.txt"
    batch.touch(0o600)
    batch.write_text("first.test wrong\n")
    assert run("login", "--batch", str(batch)).code == 1
    assert not (tmp_path / "deep").exists()
    monkeypatch.setenv("ATPROTO_APP_PASSWORD", "pass-word")
    done = run("login", "first.test")
    assert (done.code, "no daemon runs on this store" in done.err) == (0, True), done.err
    assert f"run: idiolectd run --store {url.format(tmp_path)}" in done.err
    assert "first.test" in run("list").out


def test_a_missing_session_names_the_login_with_its_store(run: Run, store: Path) -> None:
    """Typed as it stands, the command stores the session where it was looked for."""
    did = "did:plc:ewvi7nxzyoun6zhxrhs64oiz"
    done = run("headers", did, "--url", "https://pds.test/", "--store", f"file://{store}")
    assert f"no session is stored for {did}; run: idiolectd login {did} --store file://{store}" in done.err


def test_no_session_begins_where_none_can_be_stored(
    run: Run, pds: Pds, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A store that can't be made is found out before the PDS starts a session."""
    did = pds.account("unstored.test")["did"]
    monkeypatch.setenv("ATPROTO_APP_PASSWORD", "pass-word")
    (tmp_path / "file").touch()
    done = run("login", "unstored.test", "--store", f"{tmp_path}/file/store/")
    assert (done.code, pds.living(did)) == (1, 0), done.err


def test_a_sign_in_code_by_option_and_variable(
    run: Run, pds: Pds, store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The PDS has sent a code by e-mail: a program is told how to give it, and gives it; it is shown nowhere."""
    pds.call("accounts", {"handle": "mailed.test", "password": "pass-word", "email_code": "ABCDE-12345"})
    monkeypatch.setenv("ATPROTO_APP_PASSWORD", "pass-word")
    asked = run("login", "mailed.test")
    assert asked.code == 1
    for told in (
        "A sign in code has been sent",
        "--auth-factor-token",
        "$ATPROTO_AUTH_FACTOR_TOKEN",
        "app password",
    ):
        assert told in asked.err
    wrong = run("login", "mailed.test", "--auth-factor-token", "FGHIJ-67890")
    assert (wrong.code, "Token is invalid" in wrong.err) == (1, True)
    done = run("login", "mailed.test", "--auth-factor-token", "ABCDE-12345")
    assert (done.code, "12345" in done.out + done.err) == (0, False), done.err
    monkeypatch.setenv("ATPROTO_AUTH_FACTOR_TOKEN", "ABCDE-12345")
    assert run("login", "mailed.test").code == 0


# On a terminal --------------------------------------------------------------------------------------


@contextmanager
def terminal() -> Iterator[tuple[int, int]]:
    """The two ends of a terminal: what a person types on and sees, and what the program takes and closes."""
    person, program = os.openpty()
    try:
        yield person, program
    finally:
        os.close(person)


def seen(person: int, until: str | None = None) -> str:
    """What the terminal shows, until a text comes or the program has closed it."""
    text = b""
    while until is None or until.encode() not in text:
        try:
            data = os.read(person, 65_536)
        except OSError:  # EIO: nobody has the other end
            break
        if not data:
            break
        text += data
    return text.decode()


def in_terminal(
    environ: Mapping[str, str], program: int, *arguments: str, stdout: int | None = None
) -> "subprocess.Popen[bytes]":
    """A command whose streams are a terminal; `stdout`: not that one."""
    process = subprocess.Popen(
        [sys.executable, "-m", "idiolectd", *arguments],
        env={**environ, "TERM": "xterm", "COLUMNS": "100"},
        stdin=program,
        stdout=program if stdout is None else stdout,
        stderr=program,
    )
    os.close(program)
    return process


def test_a_sign_in_code_is_asked_for(environ: dict[str, str], pds: Pds) -> None:
    """On a terminal the login asks for the code and goes on with it."""
    pds.call("accounts", {"handle": "prompted.test", "password": "pass-word", "email_code": "ABCDE-12345"})
    with terminal() as (person, program):
        process = in_terminal(
            environ | {"ATPROTO_APP_PASSWORD": "pass-word"}, program, "login", "prompted.test"
        )
        assert "has been sent to your email address" in seen(person, "sign-in code: ")
        os.write(person, b"ABCDE-12345\n")
        assert "logged in: prompted.test" in seen(person)
        assert process.wait(30) == 0


def test_a_batch_shows_a_bar(environ: dict[str, str], pds: Pds, tmp_path: Path) -> None:
    """On a terminal, on standard error; the results on standard output stay lines."""
    batch, results = tmp_path / "accounts.txt", tmp_path / "results.txt"
    batch.touch(0o600)
    handles = [f"bar{number}.test" for number in range(3)]
    batch.write_text("".join(f"{handle} pass-word\n" for handle in handles))
    for handle in handles:
        pds.account(handle)
    with terminal() as (person, program), results.open("wb") as out:
        process = in_terminal(environ, program, "login", "--batch", str(batch), stdout=out.fileno())
        shown = seen(person)
        assert process.wait(30) == 0
    assert "3/3" in shown
    assert "3 accounts: 3 logged_in" in shown
    assert sorted(results.read_text().splitlines()) == [f"{handle}: logged_in" for handle in handles]


# The start ------------------------------------------------------------------------------------------


def test_the_version_loads_little() -> None:
    """No command, no log, no network: what each of them loads costs several times as much as the answer."""
    heavy = {"trio", "anyio", "httpx", "rich", "structlog", "cryptography", "dns", "asyncio", "sqlite3"}
    code = (
        "import sys; from idiolectd.cli import main; code = main(['--version'])\n"
        f"print(code, sorted({heavy!r} & {{name.partition('.')[0] for name in sys.modules}}))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=30, check=True
    )
    assert done.stdout.splitlines()[-1] == "0 []"
