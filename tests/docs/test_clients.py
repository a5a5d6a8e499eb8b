"""The programs of docs/clients.md and of the README as a reader types them: each runs, over a fake PDS."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from idiolectd.testing import FakePds, write_session

pytest_plugins = ["pytester"]

ROOT = Path(__file__).parents[2]
TEXT = (ROOT / "docs/clients.md").read_text()
PROGRAMS = {
    section.partition("\n")[0]: program
    for section in TEXT.split("\n## ")[1:]
    for program in re.findall(r"```python\n(.*?)```", section, re.DOTALL)
}
STORE = "sqlite:///var/lib/idiolectd/sessions.sqlite"
WRITING = ("httpx", "httpx2", "requests", "aiohttp", "The atproto SDK")


@pytest.fixture
def pds() -> Iterator[FakePds]:
    with FakePds() as made:
        yield made


def test_every_program_is_typed() -> None:
    """No block is left out."""
    assert set(PROGRAMS) == {*WRITING, "Anything else", "Tests of a program"}
    assert TEXT.count("```python\n") == len(PROGRAMS)


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=pytest.mark.slow) if "SDK" in name else name for name in WRITING]
)
def test_a_program_writes_its_record(name: str, pds: FakePds, tmp_path: Path) -> None:
    """As it stands there, but for the place of the store."""
    alice = pds.add_account("alice.example")
    names: dict[str, Any] = {"__name__": "typed"}
    exec(PROGRAMS[name].replace(STORE, write_session(tmp_path, alice.session)), names)
    if "bot" in names:
        names["bot"].request.close()  # a bot runs for as long as its process
    assert [record["text"] for record in alice.records] == ["Hello!"]


def test_the_readmes_program_runs(pds: FakePds, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Three lines, complete."""
    alice = pds.add_account("alice.example")
    (program,) = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)
    exec(program.replace('"~/.config/idiolect/sessions/"', repr(write_session(tmp_path, alice.session))), {})
    assert alice.did in capsys.readouterr().out


def test_headers_are_made(pds: FakePds, tmp_path: Path) -> None:
    """Those of one request, with a proof."""
    alice = pds.add_account("alice.example")
    names: dict[str, Any] = {}
    exec(PROGRAMS["Anything else"].replace(STORE, write_session(tmp_path, alice.session)), names)
    assert set(names["headers"]) == {"Authorization", "DPoP"}


def test_a_test_of_a_program_passes() -> None:
    """The one that is shown."""
    exec(PROGRAMS["Tests of a program"], {})


def test_the_fixtures_are_found(pytester: pytest.Pytester) -> None:
    """By the line for a conftest.py that is shown."""
    (line,) = re.findall(r"`(pytest_plugins = .*?)`", TEXT)
    pytester.makeconftest(line)
    pytester.makepyfile(
        """
        import httpx
        from idiolectd import SessionAuth, load_session

        def test_it(fake_pds, fake_account, session_store, session_store_url):
            with httpx.Client(auth=SessionAuth(session_store, fake_account.did), trust_env=False) as http:
                url = f"{fake_pds.url}/xrpc/com.atproto.server.getSession"
                assert http.get(url).json()["handle"] == "alice.test"
            assert load_session(session_store_url, "alice.test") == fake_account.session
        """
    )
    pytester.runpytest_subprocess("-p", "no:cacheprovider").assert_outcomes(passed=1)
