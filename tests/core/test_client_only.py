"""A program that has only the distribution without extras, and one HTTP library: the rest can't be imported."""

import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]

# By what they are imported as.
_MODULES = {"dnspython": "dns", "inotify-simple": "inotify_simple"}

_REFUSE = """
import sys

class Refuse:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in sys.argv[1].split(","):
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)

sys.meta_path.insert(0, Refuse())
"""

_USE = """
from idiolectd import IdiolectError, SessionAuth, auth_headers, load_session
from idiolectd.testing import FakePds, MemoryStore, write_session
from pathlib import Path
from tempfile import TemporaryDirectory

with TemporaryDirectory() as folder, FakePds() as pds:
    alice = pds.add_account("alice.test")
    url = f"{pds.url}/xrpc/com.atproto.server.getSession"
    store = write_session(Path(folder), alice.session)
    assert load_session(store, "alice.test").did == alice.did
"""

_LIBRARIES = {
    "httpx": """
    import httpx
    with httpx.Client(auth=SessionAuth(store, alice.did), trust_env=False) as http:
        assert http.get(url).is_success
        alice.rotate()
        write_session(Path(folder), alice.session)
        assert http.get(url).is_success
        alice.expire()
        http.auth = SessionAuth(store, alice.did, patience=0)
        try:
            http.get(url)
        except IdiolectError as error:
            assert "No idiolectd runs" in str(error), error
        else:
            raise AssertionError
""",
    "httpx2": """
    import asyncio
    import httpx2
    from idiolectd.adapters.httpx2 import SessionAuth
    async def main():
        async with httpx2.AsyncClient(auth=SessionAuth(store, alice.did), trust_env=False) as http:
            assert (await http.get(url)).is_success
    asyncio.run(main())
""",
    "requests": """
    import requests
    from idiolectd.adapters.requests import SessionAuth
    assert requests.get(url, auth=SessionAuth(MemoryStore(alice.session), alice.did)).ok
""",
    "aiohttp": """
    import aiohttp, asyncio
    from idiolectd.adapters.aiohttp import SessionAuth
    async def main():
        async with aiohttp.ClientSession(middlewares=[SessionAuth(store, alice.did)]) as http:
            async with http.get(url) as answer:
                assert answer.ok
    asyncio.run(main())
""",
}


def of_the_daemon() -> list[str]:
    """The modules that only ``idiolectd[daemon]`` brings."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    names = [spec.partition(">")[0].strip() for spec in project["optional-dependencies"]["daemon"]]
    return [_MODULES.get(name, name) for name in names]


def run(program: str, refused: list[str]) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [sys.executable, "-c", _REFUSE + program, ",".join(refused)],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


@pytest.mark.parametrize("library", _LIBRARIES)
def test_a_client_program_runs(library: str) -> None:
    """With that library and none of the others, but for httpx, which is always there."""
    others = [name for name in _LIBRARIES if name not in (library, "httpx")]
    done = run(_USE + _LIBRARIES[library], of_the_daemon() + others)
    assert done.returncode == 0, done.stderr


def test_what_is_missing_is_said() -> None:
    """The command ends with 2, and a name of the package with what to type."""
    done = run("import runpy\nrunpy.run_module('idiolectd', run_name='__main__')", of_the_daemon())
    assert done.returncode == 2
    assert "pip install 'idiolectd[daemon]'" in done.stderr
    assert "Traceback" not in done.stderr
    done = run("from idiolectd import open_store", of_the_daemon())
    assert "ImportError: idiolectd.open_store can't be used" in done.stderr
    assert "pip install 'idiolectd[daemon]'" in done.stderr
    refreshing = "from idiolectd import SessionAuth\nSessionAuth('file:///srv/x', 'did:plc:x', refresh=True)"
    done = run(refreshing, of_the_daemon())
    assert "ConfigError: refresh=True can't be used" in done.stderr
