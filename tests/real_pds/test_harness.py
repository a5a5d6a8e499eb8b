"""The harness itself: a real PDS starts, gives sessions, and keeps them over a restart."""

import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path

import pytest

from tests.real_pds.client import (
    Record,
    create_record,
    get_session,
    refresh_and_hang_up,
    refresh_raw,
    refreshed,
    revoke,
)
from tests.real_pds.harness import Account, PdsFailedError, RealPds
from tests.real_pds.login import create_app_password, legacy_login, oauth_login
from tests.real_pds.marks import needs_pds
from tests.real_pds.proofs import ConfidentialClient

pytestmark = needs_pds(seconds=400)

CLIENT = ConfidentialClient()
KINDS = ["public", "secp256k1", "confidential", "legacy", "app password"]


@pytest.fixture(scope="module")
def pds(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RealPds]:
    docs = {CLIENT.client_id: CLIENT.metadata()}
    with RealPds(tmp_path_factory.mktemp("pds"), accounts=4, access_life=900, client_docs=docs) as server:
        yield server


def log_in(pds: RealPds, kind: str, account: Account) -> Record:
    who = (pds.url, account.handle, account.password)
    if kind == "legacy":
        return legacy_login(*who)
    if kind == "app password":
        return legacy_login(pds.url, account.handle, create_app_password(*who, "test"))
    client = CLIENT if kind == "confidential" else None
    return oauth_login(*who, client=client, crv="secp256k1" if kind == "secp256k1" else "P-256")


@pytest.mark.parametrize("kind", KINDS)
def test_a_session_of_every_kind_writes_and_refreshes(pds: RealPds, kind: str) -> None:
    """Each kind of login gives a record whose tokens write, refresh, and write again."""
    account = pds.accounts[0]
    client = CLIENT if kind == "confidential" else None
    record = log_in(pds, kind, account)
    assert record["did"] == account.did
    assert all(type(value) is str for value in record.values())
    assert create_record(record, "before").status_code == 200
    newer = refreshed(record, refresh_raw(record, client=client))
    assert newer["refreshJwt"] != record["refreshJwt"]
    assert create_record(newer, "after").status_code == 200
    assert get_session(newer).json()["did"] == account.did


@pytest.mark.parametrize("kind", ["public", "confidential", "legacy"])
def test_a_revoked_session_cannot_be_refreshed(pds: RealPds, kind: str) -> None:
    """After revocation (deleteSession for a legacy session) the refresh token is refused."""
    record = log_in(pds, kind, pds.accounts[0])
    client = CLIENT if kind == "confidential" else None
    assert revoke(record, client=client).status_code == 200
    assert refresh_raw(record, client=client).status_code == 400


def test_a_restart_keeps_accounts_and_sessions(pds: RealPds) -> None:
    """After a restart the addresses are the same, and sessions from before go on."""
    before = {kind: log_in(pds, kind, pds.accounts[0]) for kind in ("public", "confidential", "legacy")}
    was, pid = (pds.url, pds.plc_url, pds.accounts), pds.pid
    pds.restart()
    assert (pds.url, pds.plc_url, pds.accounts) == was
    assert pds.pid != pid
    for kind, record in before.items():
        assert create_record(record, "still here").status_code == 200
        client = CLIENT if kind == "confidential" else None
        assert refresh_raw(record, client=client).status_code == 200


def test_a_killed_server_comes_back(pds: RealPds) -> None:
    """A crash loses no session either."""
    record = log_in(pds, "public", pds.accounts[0])
    pds.kill()
    pds.start()
    assert refresh_raw(record).status_code == 200


def test_a_lost_answer_kills_an_oauth_session(pds: RealPds) -> None:
    """A refresh whose answer nobody read took effect: the retry is a replay."""
    record = log_in(pds, "public", pds.accounts[0])
    refresh_and_hang_up(record)
    # The server may still be at it: only when the old access token is refused has it rotated.
    wait_until(lambda: get_session(record).status_code == 401)
    answer = refresh_raw(record)
    assert (answer.status_code, answer.json()["error_description"]) == (400, "Refresh token replayed")


def test_an_old_session_expires(pds: RealPds) -> None:
    """A public client's session of more than 14 days is over."""
    account = pds.accounts[3]
    record = log_in(pds, "public", account)
    assert pds.age_sessions(account.did, timedelta(days=15), idle=False) == 1
    answer = refresh_raw(record)
    assert (answer.status_code, answer.json()["error_description"]) == (400, "Session expired")


def test_an_admin_takes_down_reinstates_and_deletes(pds: RealPds) -> None:
    """Takedown and deletion show in the answer to a refresh; a reinstated account is let in again."""
    account = pds.accounts[1]
    record = log_in(pds, "legacy", account)
    pds.deactivate(account.did)
    assert refresh_raw(record).json()["active"] is False
    pds.activate(account.did)
    pds.takedown(account.did)
    assert refresh_raw(record).json()["error"] == "AccountTakedown"
    pds.reinstate(account.did)
    record = log_in(pds, "legacy", account)
    assert refresh_raw(record).status_code == 200
    pds.delete_account(account.did)
    assert refresh_raw(record).status_code == 400


def test_a_failed_start_says_why(pds: RealPds, tmp_path: Path) -> None:
    """When the port is taken, the exception carries what the server wrote."""
    second = RealPds(tmp_path)
    second._options |= {name: pds._options[name] for name in ("PORT", "PLC_PORT")}
    with pytest.raises(PdsFailedError, match="EADDRINUSE"):
        second.start()


def test_it_stops_when_frozen(tmp_path: Path) -> None:
    """A server that does not react to SIGTERM is ended by force."""
    with RealPds(tmp_path) as server:
        pid = server.pid
        server.pause()
        server.stop()
        with pytest.raises(ProcessLookupError):
            os.kill(pid, 0)


def test_the_server_ends_with_its_owner(tmp_path: Path) -> None:
    """When the process that started it dies without a word, the server stops by itself."""
    program = (
        "import os, pathlib, sys\n"
        "from tests.real_pds.harness import RealPds\n"
        "server = RealPds(pathlib.Path(sys.argv[1]), accounts=0)\n"
        "server.start()\n"
        "print(server.pid, flush=True)\n"
        "os._exit(0)\n"
    )
    root = Path(__file__).resolve().parents[2]
    command = [sys.executable, "-c", program, str(tmp_path)]
    pid = int(subprocess.run(command, cwd=root, check=True, capture_output=True, timeout=90).stdout)
    wait_until(lambda: not runs(pid))


def wait_until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def runs(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return False
    return state != "Z"
