"""The daemon against servers that speak otherwise: an older PDS, and an authorization server of others.

And against the reference PDS in the moment in which it says of a living token that it is invalid.
"""

import hashlib
import json
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import anyio
import pytest

from idiolectd import OAuthSession, open_store
from tests.daemon_process import DaemonProcess, environment
from tests.jose import b64u, new_jwk
from tests.real_pds.client import Record, get_session, revoke, stamp
from tests.real_pds.harness import OLDER_RELEASE, OidcProvider, RealPds
from tests.real_pds.login import create_app_password, legacy_login, loopback_client_id, oauth_login
from tests.real_pds.marks import needs_pds
from tests.real_pds.proofs import public_half

pytestmark = needs_pds(seconds=300)

LIFE = 8
ROTATIONS = 2


class Store:
    """A database of sessions and the environment in which a daemon keeps them alive."""

    def __init__(self, folder: Path, plc_url: str, *, confirm: str = "4s") -> None:
        self.url = f"sqlite://{folder}/sessions.sqlite"
        self.log = folder / "daemon.log"
        self.env = environment(
            self.url,
            IDIOLECTD_IDENTITY__PLC_DIRECTORY_URL=plc_url,
            IDIOLECTD_REFRESH__SETTLE="2s",
            IDIOLECTD_REFRESH__CONFIRM=confirm,
        )

    def save(self, record: Record) -> str:
        async def save() -> None:
            async with open_store(self.url) as store:
                await store.save(OAuthSession.from_json(json.dumps(record)))

        anyio.run(save)
        return record["did"]

    def load(self, did: str) -> Record:
        async def load() -> OAuthSession:
            async with open_store(self.url) as store:
                session = await store.load(did)
                assert session is not None
                return session

        record: Record = json.loads(anyio.run(load).to_json())
        return record


def wait_rotated(store: Store, daemon: DaemonProcess, records: list[Record], times: int) -> None:
    """Until each session's access token has changed so often; each new one is tried at the PDS."""
    end = time.monotonic() + 30 + 3 * LIFE * times
    last = {record["did"]: record["accessJwt"] for record in records}
    counts = dict.fromkeys(last, 0)
    while min(counts.values()) < times:
        assert time.monotonic() < end, f"{counts}; the log ends:\n{daemon.log.read_text()[-3000:]}"
        for did, access_jwt in last.items():
            record = store.load(did)
            if record["accessJwt"] != access_jwt:
                assert get_session(record).status_code == 200
                last[did] = record["accessJwt"]
                counts[did] += 1
        time.sleep(0.2)


@pytest.fixture
def older(tmp_path: Path) -> Iterator[RealPds]:
    options = {"access_life": LIFE, "legacy_access_exp": f"{LIFE}s"}
    with RealPds(tmp_path / "pds", accounts=3, package=OLDER_RELEASE, **options) as pds:  # type: ignore[arg-type]
        yield pds


def test_an_older_pds(older: RealPds, tmp_path: Path) -> None:
    """Both kinds of session live on; one that was revoked elsewhere is named, with the server's words."""
    store = Store(tmp_path, older.plc_url)
    first, second, third = older.accounts
    records = [
        oauth_login(older.url, first.handle, first.password),
        legacy_login(
            older.url, second.handle, create_app_password(older.url, second.handle, second.password, "a")
        ),
        oauth_login(older.url, third.handle, third.password),
    ]
    for record in records:
        store.save(record)
    with DaemonProcess(store.env, store.log) as daemon:
        wait_rotated(store, daemon, records, ROTATIONS)
        assert revoke(store.load(third.did)).status_code == 200
        named = daemon.wait_event("session.relogin_required", did=third.did, timeout=60)
        assert named["code"] == "invalid_grant"
        assert {event["did"] for event in daemon.events("session.relogin_required")} == {third.did}
        assert daemon.stop() == 0


def oidc_record(server: OidcProvider, did: str) -> Record:
    """A session at the other authorization server, as a login there would have stored it."""
    key, client_id = new_jwk(), loopback_client_id()
    members = json.dumps(public_half(key), sort_keys=True, separators=(",", ":"))  # RFC 7638
    made = server.make_session(did, client_id, b64u(hashlib.sha256(members.encode()).digest()))
    now = datetime.now(UTC)
    return {
        "did": did,
        "pdsUrl": server.pds_url,
        "accessJwt": made["accessToken"],
        "refreshJwt": made["refreshToken"],
        "dpopPrivateKeyJwk": key,
        "tokenType": "DPoP",
        "scope": "atproto offline_access",
        "issuedAt": stamp(now),
        "expiresAt": stamp(now + timedelta(seconds=made["expiresIn"])),
        "issuer": server.issuer,
        "clientId": client_id,
        "clientAuthMethod": "none",
        "sessionStartedAt": stamp(now),
    }


@pytest.mark.parametrize("rotates", [True, False], ids=["rotating", "keeping"])
def test_an_authorization_server_of_others(rotates: bool, tmp_path: Path) -> None:
    """Its answers name no account and its refusals have words of their own; some keep the refresh token."""
    with OidcProvider(tmp_path / "oidc", access_life=LIFE, rotates=rotates) as server:
        store = Store(tmp_path, server.plc_url)
        records = [oidc_record(server, f"did:plc:{letter * 24}") for letter in "ab"]
        for record in records:
            store.save(record)
        with DaemonProcess(store.env, store.log) as daemon:
            wait_rotated(store, daemon, records, ROTATIONS)
            assert (store.load(records[0]["did"])["refreshJwt"] != records[0]["refreshJwt"]) is rotates
            server.revoke(store.load(records[1]["did"])["refreshJwt"])
            named = daemon.wait_event("session.relogin_required", did=records[1]["did"], timeout=60)
            assert named["error"].endswith("grant request is invalid")
            wait_rotated(store, daemon, [store.load(records[0]["did"])], 1)
            assert daemon.events("session.suspended") == []
            assert daemon.stop() == 0


@pytest.mark.torture
def test_a_locked_database_is_no_verdict(tmp_path: Path) -> None:
    """The PDS calls a living token invalid while it can't read its database: both kinds of session outlive that."""
    with RealPds(tmp_path / "pds", accounts=2, access_life=24, legacy_access_exp="24s") as pds:
        store = Store(tmp_path, pds.plc_url, confirm="60s")
        first, second = pds.accounts
        records = [
            oauth_login(pds.url, first.handle, first.password),
            legacy_login(pds.url, second.handle, second.password),
        ]
        for record in records:
            store.save(record)
        with DaemonProcess(store.env, store.log) as daemon:
            daemon.wait_event("daemon.ready")
            with pds.database_locked():
                refused = daemon.wait_event("session.retrying", did=first.did, timeout=60)
                assert refused["error"].endswith("Invalid refresh token")
            wait_rotated(store, daemon, records, 1)
            assert daemon.events("session.relogin_required") == []
            assert daemon.stop() == 0
