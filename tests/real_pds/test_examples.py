"""The programs in `examples/` against the real PDS: each writes a record, which is read back."""

import json
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import anyio
import pytest

from idiolectd import OAuthSession, open_store
from tests.daemon_process import environment, idiolectd
from tests.real_pds.client import Record, loopback
from tests.real_pds.harness import RealPds
from tests.real_pds.login import legacy_login, oauth_login
from tests.real_pds.marks import needs_pds

pytestmark = needs_pds(seconds=300)

EXAMPLES = Path(__file__).parents[2] / "examples"
NAMES = sorted(path.name for path in EXAMPLES.glob("*.py"))


@dataclass
class Stored:
    """A PDS, and a store with one session of each kind."""

    pds: RealPds
    store: str
    dids: dict[str, str]


@pytest.fixture(scope="module")
def stored(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stored]:
    folder = tmp_path_factory.mktemp("examples")
    url = f"sqlite://{folder}/sessions.sqlite"
    with RealPds(folder / "pds", accounts=2) as pds:
        first, second = pds.accounts
        records = {
            "dpop": oauth_login(pds.url, first.handle, first.password),
            "bearer": legacy_login(pds.url, second.handle, second.password),
        }
        anyio.run(partial(_save, url, list(records.values())))
        yield Stored(pds, url, {kind: record["did"] for kind, record in records.items()})


async def _save(url: str, records: list[Record]) -> None:
    async with open_store(url) as store:
        for record in records:
            await store.save(OAuthSession.from_json(json.dumps(record)))


def _text_of(pds: RealPds, uri: str) -> str:
    repo, collection, rkey = uri.removeprefix("at://").split("/")
    with loopback() as http:
        answer = http.get(
            f"{pds.url}/xrpc/com.atproto.repo.getRecord",
            params={"repo": repo, "collection": collection, "rkey": rkey},
        )
    text: str = answer.raise_for_status().json()["value"]["text"]
    return text


@pytest.mark.parametrize("kind", ["dpop", "bearer"])
@pytest.mark.parametrize("name", NAMES)
def test_an_example_writes_a_record(stored: Stored, name: str, kind: str) -> None:
    """With a DPoP session and with an app-password one."""
    text = f"{name} {kind}"
    done = subprocess.run(
        [sys.executable, str(EXAMPLES / name), stored.store, stored.dids[kind], text],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert _text_of(stored.pds, done.stdout.strip()) == text


@pytest.mark.parametrize("kind", ["dpop", "bearer"])
def test_curl_writes_a_record(stored: Stored, kind: str, tmp_path: Path) -> None:
    """``idiolectd headers`` gives curl's ``-H @FILE`` all that the PDS wants."""
    did = stored.dids[kind]
    url = f"{stored.pds.url}/xrpc/com.atproto.repo.createRecord"
    made = idiolectd("headers", did, "-X", "POST", "--url", url, env=environment(stored.store))
    assert made.returncode == 0, made.stderr
    headers = tmp_path / "headers"
    headers.write_text(made.stdout)
    post = {"$type": "app.bsky.feed.post", "text": f"curl {kind}", "createdAt": "2024-01-01T00:00:00Z"}
    body = json.dumps({"repo": did, "collection": "app.bsky.feed.post", "record": post})
    try:
        done = subprocess.run(
            ["curl", "-sS", "-H", f"@{headers}", "-H", "Content-Type: application/json", "-d", body, url],
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
    except FileNotFoundError:
        pytest.skip("curl is not installed")
    assert _text_of(stored.pds, json.loads(done.stdout)["uri"]) == f"curl {kind}"
