"""The top of the package: what client programs import, and what they don't pay for."""

import subprocess
import sys
from pathlib import Path

import idiolectd


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


def test_a_client_pays_for_nothing_of_the_daemon() -> None:
    """A program that uses `SessionAuth` imports HTTP and cryptography, and no refresher, store or log."""
    program = (
        "import sys\n"
        "from idiolectd import SessionAuth\n"
        "SessionAuth(sys.argv[1], 'did:plc:x')\n"
        "print([m for m in sys.argv[2:] if m in sys.modules])\n"
    )
    heavy = ["aiosqlite", "structlog", "inotify_simple", "idiolectd.store.sqlite.sqlite_store"]
    heavy += [
        f"idiolectd.{room}" for room in ("cli", "config", "daemon", "log", "parts", "refresh", "scheduler")
    ]
    done = subprocess.run(
        [sys.executable, "-c", program, "sqlite:///nowhere/s.sqlite", *heavy],
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout == "[]\n"
