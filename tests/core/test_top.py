"""The top of the package: what client programs import, and what they don't pay for."""

import subprocess
import sys
from pathlib import Path

import idiolectd
from idiolectd.testing import FakePds, write_session


def test_every_public_name_is_there() -> None:
    """All documented names can be imported, and nothing else pretends to exist."""
    for name in idiolectd.__all__:
        assert getattr(idiolectd, name) is not None
    assert not hasattr(idiolectd, "nonsense")
    assert set(idiolectd.__all__) < set(dir(idiolectd))


def test_a_reader_pays_for_nothing_of_the_daemon(tmp_path: Path) -> None:
    """A program that loads from a file store imports no HTTP, no trio, no log, no command line."""
    program = (
        "import sys, asyncio, idiolectd\n"
        "async def main():\n"
        "    async with idiolectd.open_store(sys.argv[1]) as store:\n"
        "        print(await store.list_dids())\n"
        "asyncio.run(main())\n"
        "print([m for m in sys.argv[2:] if m in sys.modules])\n"
    )
    heavy = ["httpx", "trio", "structlog", "click", "rich", "dns", "idiolectd.daemon", "idiolectd.log"]
    done = subprocess.run(
        [sys.executable, "-c", program, f"{tmp_path}/", *heavy],
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout == "[]\n[]\n"


def loaded(program: str) -> set[str]:
    """The modules that a program has loaded, but for those that ``import httpx`` loads in this environment."""
    shown = "\nimport sys; print(*sys.modules)"
    httpx, all_of_it = (
        set(
            subprocess.run(
                [sys.executable, "-c", each + shown], capture_output=True, text=True, check=True
            ).stdout.split()
        )
        for each in ("import httpx", program)
    )
    return all_of_it - httpx


def test_a_client_pays_for_nothing_of_the_daemon() -> None:
    """A program that uses `SessionAuth` loads the reading of records and cryptography: no event loop, no state."""
    found = loaded(
        "from idiolectd import SessionAuth\nSessionAuth('sqlite:///nowhere/s.sqlite', 'did:plc:x')"
    )
    heavy = {
        "aiosqlite",
        "structlog",
        "inotify_simple",
        "dns",
        "trio",
        "anyio",
        "asyncio",
        "h11",
        "click",
        "rich",
    }
    heavy |= {
        f"idiolectd.{room}" for room in ("cli", "config", "daemon", "events", "log", "outcome", "parts")
    }
    heavy |= {f"idiolectd.{room}" for room in ("ports", "refresh", "scheduler", "state", "testing", "xrpc")}
    heavy |= {
        "idiolectd.store.sqlite.reader",
        "idiolectd.store.memory",
        "idiolectd.oauth.authorization_request",
    }
    assert found.isdisjoint(heavy), found & heavy
    assert sum(name.startswith("idiolectd") for name in found) <= 50


def test_the_version_pays_for_no_command() -> None:
    """``idiolectd --version`` loads click, and neither the configuration nor a command or its libraries."""
    found = loaded("from idiolectd import cli\nassert cli.main(['--version']) == 0")
    heavy = {"aiosqlite", "structlog", "cryptography", "dns", "trio", "anyio", "asyncio", "httpx", "rich"}
    heavy |= {f"idiolectd.{room}" for room in ("config", "events", "log", "parts", "store", "http", "oauth")}
    heavy |= {f"idiolectd.cli.{name}" for name in ("run", "login", "status", "headers", "client", "check")}
    assert found.isdisjoint(heavy), found & heavy


def test_headers_pay_for_no_event_loop(tmp_path: Path) -> None:
    """``idiolectd headers`` reads the record in place; only to ask for a nonce does it send anything."""
    with FakePds() as pds:
        alice = pds.add_account("alice.test")
    command = ["headers", alice.did, "--store", write_session(tmp_path, alice.session)]
    command += ["--url", f"{pds.url}/xrpc/x", "--nonce", "n"]
    found = loaded(f"from idiolectd import cli\nassert cli.main({command}) == 0")
    heavy = {"aiosqlite", "structlog", "dns", "trio", "anyio", "asyncio", "httpx", "h11", "rich"}
    heavy |= {f"idiolectd.{room}" for room in ("events", "parts", "refresh", "xrpc", "identity", "hosting")}
    assert found.isdisjoint(heavy), found & heavy
