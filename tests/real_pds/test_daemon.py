"""The daemon against the real PDS: every kind of session, over many rotations, a restart in between."""

import json
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import anyio
import pytest

from idiolectd import OAuthSession, open_store
from tests.daemon_process import DaemonProcess, environment, idiolectd
from tests.real_pds.client import Record, create_record, refresh_raw
from tests.real_pds.harness import RealPds
from tests.real_pds.login import oauth_login
from tests.real_pds.marks import needs_pds
from tests.real_pds.proofs import ConfidentialClient

pytestmark = needs_pds(seconds=300)

LIFE = 20
ROTATIONS = 4
CLIENT = ConfidentialClient()


@dataclass
class Host:
    """A PDS, a store, and the environment in which commands find both."""

    pds: RealPds
    store_url: str
    env: dict[str, str]
    folder: Path

    def save(self, record: Record) -> str:
        anyio.run(self._save, OAuthSession.from_json(json.dumps(record)))
        return record["did"]

    async def _save(self, session: OAuthSession) -> None:
        async with open_store(self.store_url) as store:
            await store.save(session)

    def records(self) -> dict[str, Record]:
        return anyio.run(self._records)

    async def _records(self) -> dict[str, Record]:
        async with open_store(self.store_url) as store:
            sessions = [await store.load(did) for did in await store.list_dids()]
        return {session.did: json.loads(session.to_json()) for session in sessions if session is not None}


@pytest.fixture(params=["sqlite", "files"])
def host(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Host]:
    docs = {CLIENT.client_id: CLIENT.metadata()}
    options = {"access_life": LIFE, "legacy_access_exp": f"{LIFE}s", "dpop_rotation": 5}
    with RealPds(tmp_path / "pds", accounts=4, client_docs=docs, **options) as pds:  # type: ignore[arg-type]
        place = tmp_path / "store"
        place.mkdir()
        store_url = f"sqlite://{place}/sessions.sqlite" if request.param == "sqlite" else f"file://{place}"
        config = tmp_path / "config.toml"
        keys = f'[{{ kid = "{CLIENT.key_id}", env = "CLIENT_KEY" }}]'
        config.write_text(f'[[oauth.clients]]\nclient_id = "{CLIENT.client_id}"\nkeys = {keys}\n')
        env = environment(
            store_url,
            IDIOLECTD_CONFIG=str(config),
            CLIENT_KEY=CLIENT.private_jwk,
            IDIOLECTD_IDENTITY__PLC_DIRECTORY_URL=pds.plc_url,
            IDIOLECTD_IDENTITY__HANDLE_RESOLVER_URL=pds.url,
            IDIOLECTD_REFRESH__SETTLE="2s",
        )
        yield Host(pds, store_url, env, tmp_path)


def test_every_kind_of_session_stays_alive(host: Host) -> None:
    """Four rotations each over a PDS restart and nonce changes; the stored tokens write records all the time."""
    pds = host.pds
    first, second, third, fourth = pds.accounts
    logged_in = idiolectd("login", fourth.handle, env={**host.env, "ATPROTO_APP_PASSWORD": fourth.password})
    assert logged_in.returncode == 0, logged_in.stderr
    host.save(oauth_login(pds.url, first.handle, first.password))
    with DaemonProcess(host.env, host.folder / "daemon.log") as daemon:
        daemon.wait_event("daemon.ready")
        # These two come while it runs, and are noticed.
        host.save(oauth_login(pds.url, second.handle, second.password, client=CLIENT))
        host.save(oauth_login(pds.url, third.handle, third.password, crv="secp256k1"))
        for account in (second, third):
            daemon.wait_event("session.found", did=account.did)
        rotations = _use_until(host, daemon, ROTATIONS)
        assert daemon.stop() == 0
    assert set(rotations) == {account.did for account in pds.accounts}
    assert daemon.events("session.relogin_required") == []
    assert daemon.events("session.suspended") == []
    assert "eyJ" not in daemon.log.read_text()
    shown = json.loads(idiolectd("status", "--json", env=host.env).stdout)["sessions"]
    assert {(row["state"], row["kind"]) for row in shown} <= {
        ("fresh", "dpop"),
        ("fresh", "bearer"),
        ("due", "dpop"),
        ("due", "bearer"),
    }
    _log_out(host, first.did)
    _log_out(host, fourth.did)


def _use_until(host: Host, daemon: DaemonProcess, rotations: int) -> dict[str, int]:
    """Writes a record with each rotation's tokens until every session had that many."""
    seen = {did: record["refreshJwt"] for did, record in host.records().items()}
    counts = dict.fromkeys(seen, 0)
    restarted = False
    end = time.monotonic() + 40 + LIFE * rotations * 1.5
    while min(counts.values()) < rotations:
        assert time.monotonic() < end, f"{counts}; the log ends:\n{daemon.log.read_text()[-3000:]}"
        if not restarted and min(counts.values()) >= 1:
            host.pds.restart()
            restarted = True
        for did, record in host.records().items():
            if record["refreshJwt"] != seen[did]:
                seen[did] = record["refreshJwt"]
                counts[did] += 1
                answer = create_record(record, f"rotation {counts[did]}")
                assert answer.status_code == 200, answer.text
        time.sleep(0.2)
    return counts


def _log_out(host: Host, did: str) -> None:
    """`idiolectd logout` ends the session at the server, not only here."""
    record = host.records()[did]
    done = idiolectd("logout", did, env=host.env)
    assert done.returncode == 0, done.stderr
    assert did not in host.records()
    refused = refresh_raw(record)
    assert refused.status_code == 400
    assert refused.json()["error"] in ("invalid_grant", "ExpiredToken")
