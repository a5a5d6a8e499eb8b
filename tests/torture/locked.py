"""The real PDS while its database is locked: it calls good refresh tokens invalid, and access tokens too.

A process holds every lock of `account.sqlite`'s shared memory for 20 s, as a backup or a hung program
does, while the daemon refreshes sessions of both kinds. Then it lets go, and all is well again.

Shown: the server does refuse in words that elsewhere mean a dead session, and no session is given up;
each is refreshed after the fault and works. Not shown: faults that last longer than `refresh.confirm`.
"""

import json
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Any

from tests.daemon_process import DaemonProcess, environment, idiolectd
from tests.real_pds.client import get_session
from tests.real_pds.harness import RealPds, why_not
from tests.real_pds.login import legacy_login, oauth_login
from tests.torture.common import Promises, options
from tests.torture.stores import StorePlace

_LOCKED = 20.0
_LIFE = 120
_ROUNDS = {False: 2, True: 10}
_WELL_AGAIN = 180.0

# Each session is due within half a minute: the daemon meets the fault too.
_WINDOW = "[0.1, 0.25]"


class Trial:
    """One daemon and four sessions on one PDS."""

    def __init__(self, pds: RealPds, place: StorePlace) -> None:
        self._pds = pds
        self._place = place
        self._env = environment(
            place.url,
            IDIOLECTD_STORE__SPILL_DIR=str(place.spill),
            IDIOLECTD_IDENTITY__PLC_DIRECTORY_URL=pds.plc_url,
            IDIOLECTD_REFRESH__WINDOW=_WINDOW,
            IDIOLECTD_REFRESH__SETTLE="5s",
        )

    def run(self, rounds: int) -> int:
        """Locks the database so many times; returns the exit code."""
        for number, account in enumerate(self._pds.accounts):
            login = oauth_login if number % 2 else legacy_login
            self._place.seed(login(self._pds.url, account.handle, account.password))
        slowest, said, oauth = 0.0, Counter[str](), self._pds.accounts[1].did
        with DaemonProcess(self._env, self._place.folder / "daemon.log") as daemon:
            daemon.wait_event("daemon.ready", timeout=60)
            for _ in range(rounds):
                with self._pds.database_locked():
                    until = time.monotonic() + _LOCKED
                    # The server waits 10 s for its database, one request at a time: this is the first.
                    said += self._force(oauth)
                    time.sleep(max(0.0, until - time.monotonic()))
                slowest = max(slowest, self._wait_well_again(time.time()))
            events = daemon.events()
            code = daemon.stop()
        given_up = [event for event in events if event["event"] == "session.relogin_required"]
        dids = [account.did for account in self._pds.accounts]
        working = sum(get_session(self._place.upstream_record(did)).status_code == 200 for did in dids)
        said += Counter(event["code"] for event in events if "code" in event)
        print(f"  well again after at most {slowest:.0f} s; meanwhile: {dict(said)}")
        promises = Promises()
        promises.expect("sessions given up", len(given_up), 0)
        promises.expect("sessions that work", working, len(dids))
        promises.expect("exit code", code, 0)
        promises.expect_at_least("times that a good token was called invalid", said["invalid_grant"], rounds)
        return promises.conclude()

    def _force(self, did: str) -> Counter[str]:
        done = idiolectd("refresh", "--force", did, "--json", env=self._env)
        return Counter(line["code"] for line in json.loads(done.stdout) if line["code"] is not None)

    def _wait_well_again(self, since: float) -> float:
        """Waits until every session was refreshed after the fault; returns how long that took."""
        while True:
            shown = idiolectd("status", "--json", env=self._env).stdout
            rows: list[dict[str, Any]] = json.loads(shown)["sessions"]
            begun = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(since))
            if all(
                (row["last_success_at"] or "") > begun and row["state"] in ("fresh", "due") for row in rows
            ):
                return time.time() - since
            if time.time() - since > _WELL_AGAIN:
                raise TimeoutError(f"not well again: {json.dumps(rows, indent=1)}")
            time.sleep(1.0)


def run(folder: Path, *, full: bool) -> int:
    """Everything; returns the exit code."""
    place = StorePlace("sqlite", folder / "store")
    place.folder.mkdir(parents=True)
    pds = RealPds(folder / "pds", accounts=2, access_life=_LIFE, legacy_access_exp=f"{_LIFE}s")
    with pds:
        return Trial(pds, place).run(_ROUNDS[full])


def main() -> int:
    """The command line; returns the exit code."""
    given = options("locks the real PDS's database for 20 s, twice; with --full ten times").parse_args()
    reason = why_not()
    if reason is not None:
        print(f"skipped: {reason}")
        return 0
    with tempfile.TemporaryDirectory() as folder:
        return run(Path(folder), full=given.full)


if __name__ == "__main__":
    sys.exit(main())
