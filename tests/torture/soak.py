"""Every foreign habit at once, on both stores, beside a real PDS whose tokens live 30 s.

A daemon works on each store, with sessions of both kinds. Meanwhile others rewrite every record each
second, put old copies back, hold claims and write locks, take permissions away, remove our folders and
SQLite's side files, and replace the database (`soak_habits`). An observer that knows nothing of ours reads
the records and asks the PDS whether it takes their access tokens.

Shown: a session whose stored access token is refused for longer than a token lives was named in the log by
then; at the end every session is taken by the PDS and refreshes once more, or was named dead; the log tells
a trouble once, not every second; the daemon ends with exit code 0.

Not shown: what dies with the folder that tells old from new. If our states are removed *and* an old copy is
put back, its token is sent, and the server ends the session: such deaths are named and counted, and the
person who reads the log logs in again.
"""

import ctypes
import json
import os
import shutil
import sqlite3
import sys
import tempfile
import threading
import time
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import pairwise
from pathlib import Path
from typing import Any

import httpx

from tests.daemon_process import DaemonProcess, environment, idiolectd
from tests.real_pds.client import get_session, refresh_raw, refreshed
from tests.real_pds.harness import Account, RealPds, why_not
from tests.real_pds.login import LoginFailedError, legacy_login, oauth_login
from tests.torture.common import Promises, Record, options, print_table
from tests.torture.soak_habits import Habits
from tests.torture.stores import STORE_KINDS, StorePlace, TornError

# Seconds an access token lives.
LIFE = 30.0

# Seconds of habits.
SHORT, FULL = 150.0, 1800.0

# Of each store, half of each kind.
_SESSIONS = 6

# Early, so that a short run too has copies that are 30 rotations old; the habits hold things for longer.
_WINDOW = "[0.1, 0.25]"
_SETTLE = "3s"
_CONFIRM = "20s"

# Seconds between two looks of the observer, and between two logins of a person who reads the log.
_LOOK = 3.0
_PERSON = 10.0

# Within this, after the habits, all is well again: a hold that was just let go, a settling time, a confirmation.
_WELL_AGAIN = 3 * LIFE

# What tells that a session is in trouble. `store.unavailable` tells it of all of them.
_NAMING = {
    "session.ambiguous",
    "session.crashed",
    "session.overdue",
    "session.quarantined",
    "session.relogin_required",
    "session.retrying",
    "session.suspended",
    "session.unpersisted",
}
_OF_ALL = {"store.unavailable", "spill.unreadable"}
_DEAD = "session.relogin_required"

# Lines of one event about one session within one token's life: many troubles come and go in that time, but
# what is told each second is told thirty times.
_MOST_LINES = 10

# capabilities(7): with them root reads what nobody may read, and chmod is no trouble.
_PR_CAPBSET_DROP = 24
_CAP_DAC_OVERRIDE, _CAP_DAC_READ_SEARCH = 1, 2
_DROPPED = "SOAK_WITHOUT_ROOT_POWERS"


@dataclass
class Refusal:
    """A span of time in which the PDS did not take what was stored of a session, or nothing was readable.

    Attributes:
        did: whose.
        good: when it was last taken; seconds since the epoch.
        since: when it was first seen refused.
        until: when it was taken again, or seen last.
    """

    did: str
    good: float
    since: float
    until: float


class Observer:
    """Asks the PDS about each stored session, again and again, in a thread of its own."""

    def __init__(self, place: StorePlace, dids: Iterable[str]) -> None:
        self._place = place
        self._good = dict.fromkeys(dids, time.time())
        self._open: dict[str, Refusal] = {}
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run)
        self.looks = 0
        self.refusals: list[Refusal] = []

    def __enter__(self) -> "Observer":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def is_well(self, did: str, since: float) -> bool:
        """Whether the session was taken at the last look, and that was since then."""
        return did not in self._open and self._good[did] > since

    def _run(self) -> None:
        while not self._stop.wait(_LOOK):
            for did in self._good:
                self._look(did)

    def _look(self, did: str) -> None:
        now = time.time()
        try:
            taken = self._is_taken(did)
        except httpx.HTTPError:  # the server is busy, which says nothing
            return
        self.looks += 1
        if taken:
            self._good[did] = now
            self._open.pop(did, None)
            return
        refusal = self._open.get(did)
        if refusal is None:
            refusal = self._open[did] = Refusal(did, self._good[did], now, now)
            self.refusals.append(refusal)
        refusal.until = now

    def _is_taken(self, did: str) -> bool:
        """A token that was replaced while we asked gets another try."""
        for _ in range(3):
            try:
                record = self._place.upstream_record(did)
                if get_session(record).status_code == 200:
                    return True
            except (OSError, TornError):
                pass
            if self._stop.wait(0.3):
                break
        return False


class Trial:
    """One store, its daemon, its sessions."""

    def __init__(self, pds: RealPds, place: StorePlace, accounts: tuple[Account, ...], seed: int) -> None:
        self._pds = pds
        self._place = place
        self._seed = seed
        self._accounts = {account.did: account for account in accounts}
        self._logins = {
            account.did: oauth_login if number % 2 else legacy_login
            for number, account in enumerate(accounts)
        }
        self._env = environment(
            place.url,
            IDIOLECTD_STORE__SPILL_DIR=str(place.spill),
            IDIOLECTD_IDENTITY__PLC_DIRECTORY_URL=pds.plc_url,
            IDIOLECTD_REFRESH__WINDOW=_WINDOW,
            IDIOLECTD_REFRESH__SETTLE=_SETTLE,
            IDIOLECTD_REFRESH__CONFIRM=_CONFIRM,
        )
        self._next_login: dict[str, float] = {}
        self.counts: Counter[str] = Counter()
        self.problems: list[str] = []
        self.done: Counter[str] = Counter()
        self.lines: list[list[object]] = []

    @property
    def name(self) -> str:
        """Which store it is."""
        return self._place.kind

    def run(self, seconds: float) -> None:
        """From the logins to the last refresh."""
        self._place.folder.mkdir(parents=True)
        for did in self._accounts:
            self._place.seed(self._log_in(did))
        log = self._place.folder.with_name(f"{self.name}.log")
        observer = Observer(self._place, self._accounts)
        with DaemonProcess(self._env, log) as daemon:
            daemon.wait_event("daemon.ready", timeout=60)
            with observer:
                with Habits(self._place, tuple(self._accounts), self._seed) as habits:
                    end = time.monotonic() + seconds
                    while time.monotonic() < end and daemon.process.poll() is None:
                        time.sleep(2.0)
                        self._log_in_again(daemon)
                self.done = Counter(done.what for done in habits.done)
                journal = [f"{_stamp(done.began)} {_stamp(done.ended)} {done.what}" for done in habits.done]
                log.with_suffix(".habits.log").write_text("\n".join(journal))
                self._wait_well_again(daemon, observer)
            self.counts["exit code"] = daemon.stop()
            events = daemon.events()
        self._count(events, observer)
        self._look_for_silence(events, observer.refusals)
        self._look_for_floods(events)
        self._use(events)

    def _log_in(self, did: str) -> Record:
        account = self._accounts[did]
        record: Record = self._logins[did](self._pds.url, account.handle, account.password)
        return record

    def _log_in_again(self, daemon: DaemonProcess) -> None:
        """What a person does who reads in the log that a session is dead."""
        for did in self._dead(daemon.events()):
            if time.monotonic() < self._next_login.get(did, 0.0):
                continue
            self._next_login[did] = time.monotonic() + _PERSON
            try:
                self._place.put(self._log_in(did), "renamed")
            except (OSError, sqlite3.Error, httpx.HTTPError, LoginFailedError):  # tried again
                continue
            self.counts["logged in again"] += 1

    def _dead(self, events: Iterable[Mapping[str, Any]]) -> set[str]:
        """Who is named dead, and nothing good was said since."""
        last = {
            event["did"]: event["event"]
            for event in events
            if event["event"] in (_DEAD, "session.refreshed", "session.found")
        }
        return {did for did, event in last.items() if event == _DEAD}

    def _wait_well_again(self, daemon: DaemonProcess, observer: Observer) -> None:
        """Waits until every session that is not dead was refreshed once more, and taken after that."""
        since = time.time()
        while time.time() - since < _WELL_AGAIN and daemon.process.poll() is None:
            events = daemon.events("session.refreshed")
            refreshed_at = {event["did"]: _time(event) for event in events if _time(event) > since}
            well = {did for did, at in refreshed_at.items() if observer.is_well(did, at)}
            if well | self._dead(daemon.events()) >= self._accounts.keys():
                break
            time.sleep(1.0)
        self.counts["s until well again"] = round(time.time() - since)

    # Judging ---------------------------------------------------------------------------------

    def _count(self, events: list[dict[str, Any]], observer: Observer) -> None:
        names = Counter(event["event"] for event in events)
        self.counts["refreshed"] = names["session.refreshed"]
        self.counts["named dead"] = names[_DEAD]
        self.counts["looks"] = observer.looks
        self.counts["refusals"] = len(observer.refusals)

    def _look_for_silence(self, events: list[dict[str, Any]], refusals: Iterable[Refusal]) -> None:
        for refusal in refusals:
            if refusal.until - refusal.since < LIFE:
                continue
            self.counts["refused longer than a token lives"] += 1
            named = [
                event["event"]
                for event in events
                if refusal.good - LIFE <= _time(event) <= refusal.since + LIFE
                and (
                    event["event"] in _OF_ALL
                    or (event["event"] in _NAMING and event.get("did") == refusal.did)
                )
            ]
            if not named:
                self.counts["silent"] += 1
                self.problems.append(
                    f"nothing was said of {refusal.did}, refused {refusal.since:.0f} to {refusal.until:.0f}"
                )

    def _look_for_floods(self, events: list[dict[str, Any]]) -> None:
        times: defaultdict[tuple[str, str], list[float]] = defaultdict(list)
        overdue: defaultdict[tuple[str, str], list[float]] = defaultdict(list)
        for event in events:
            times[event["event"], event.get("did") or ""].append(_time(event))
            if event["event"] == "session.overdue":
                overdue[event["did"], event["expires_at"]].append(_time(event))
        most: Counter[str] = Counter()
        for (name, did), moments in times.items():
            within = max(sum(first <= at < first + LIFE for at in moments) for first in moments)
            most[name] = max(most[name], within)
            if within > _MOST_LINES:
                self.counts["floods"] += 1
                self.problems.append(f"{within} lines {name} about {did or 'all'} within {LIFE:.0f} s")
        for (did, expires_at), moments in overdue.items():
            # The same token later may have been put back, when nobody knew any more that it is spent.
            if any(second - first < LIFE for first, second in pairwise(moments)):
                self.counts["floods"] += 1
                self.problems.append(f"session.overdue again about {did}'s token until {expires_at}")
        lines = Counter(event["event"] for event in events)
        self.lines = [[name, self.name, lines[name], most[name]] for name in sorted(lines)]

    def _use(self, events: list[dict[str, Any]]) -> None:
        """Each session that was not named dead is taken, and refreshes once more."""
        dead = self._dead(events)
        refused = {did: why for did in self._accounts.keys() - dead if (why := self._refusal(did))}
        status = idiolectd("status", "--json", env=self._env)
        states = {row["did"]: row["state"] for row in json.loads(status.stdout)["sessions"]}
        self.counts["alive at the end"] = len(self._accounts) - len(dead) - len(refused)
        self.counts["dead at the end"] = len(dead)
        for did, why in refused.items():
            self.problems.append(f"{did} is {states.get(did)} by its status, and refused: {why}")
        for did in dead:
            if states.get(did) != "relogin_required":
                self.problems.append(f"{did} is named dead, and {states.get(did)} by its status")

    def _refusal(self, did: str) -> str:
        """What the PDS says against the access token, the refresh token or what comes for it; "" if nothing."""
        record = self._place.upstream_record(did)
        for answer in (get_session(record), refresh := refresh_raw(record)):
            if answer.status_code != 200:
                return f"{answer.status_code} {answer.text[:200]}"
        last = get_session(refreshed(record, refresh))
        return "" if last.status_code == 200 else f"{last.status_code} {last.text[:200]}"


def _stamp(moment: float) -> str:
    """A moment as the daemon's log writes it."""
    return datetime.fromtimestamp(moment, UTC).isoformat(timespec="milliseconds")


def _time(event: Mapping[str, Any]) -> float:
    return datetime.fromisoformat(event["time"]).timestamp()


def run(folder: Path, seconds: float, seed: int) -> int:
    """Both stores side by side on one PDS; returns the exit code."""
    pds = RealPds(
        folder / "pds",
        accounts=_SESSIONS * len(STORE_KINDS),
        access_life=LIFE,
        legacy_access_exp=f"{LIFE:.0f}s",
    )
    with ExitStack() as stack:
        stack.enter_context(pds)
        trials = [
            Trial(
                pds,
                StorePlace(kind, folder / kind),
                pds.accounts[number * _SESSIONS : (number + 1) * _SESSIONS],
                seed,
            )
            for number, kind in enumerate(STORE_KINDS)
        ]
        _side_by_side(trials, seconds)
    return _conclude(trials)


def _side_by_side(trials: list[Trial], seconds: float) -> None:
    errors: list[BaseException] = []

    def work(trial: Trial) -> None:
        try:
            trial.run(seconds)
        except BaseException as error:  # noqa: BLE001 - told by the main thread
            errors.append(error)

    threads = [threading.Thread(target=work, args=(trial,)) for trial in trials]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if errors:
        raise errors[0]


def _conclude(trials: list[Trial]) -> int:
    print_table(
        ["done", "store", "times"], [[what, t.name, n] for t in trials for what, n in sorted(t.done.items())]
    )
    print_table(
        ["logged", "store", "lines", "most in a token's life"], [line for t in trials for line in t.lines]
    )
    print_table(
        ["found", "store", ""], [[what, t.name, n] for t in trials for what, n in sorted(t.counts.items())]
    )
    for trial in trials:
        for problem in trial.problems[:20]:
            print(f"  {trial.name}: {problem}")
    promises = Promises()
    for trial in trials:
        counts = trial.counts
        promises.expect(f"{trial.name}: exit code", counts["exit code"], 0)
        promises.expect(f"{trial.name}: expired in silence", counts["silent"], 0)
        promises.expect(f"{trial.name}: told again and again", counts["floods"], 0)
        promises.expect(
            f"{trial.name}: sessions that live, or are named dead",
            counts["alive at the end"] + counts["dead at the end"],
            _SESSIONS,
        )
        promises.expect(f"{trial.name}: problems", len(trial.problems), 0)
        promises.expect_at_least(f"{trial.name}: refreshed", counts["refreshed"], _SESSIONS)
    return promises.conclude()


def main() -> int:
    """The command line; returns the exit code."""
    parser = options("every foreign habit at once, on both stores, beside the real PDS; --full: half an hour")
    parser.add_argument("--seconds", type=float, help="how long the habits go on")
    parser.add_argument("--keep", type=Path, help="a folder for the logs of daemons and habits")
    given = parser.parse_args()
    reason = why_not()
    if reason is not None:
        print(f"skipped: {reason}")
        return 0
    _without_root_powers()
    with tempfile.TemporaryDirectory(prefix="idiolectd-soak-") as folder:
        try:
            return run(Path(folder), given.seconds or (FULL if given.full else SHORT), given.seed)
        finally:
            if given.keep:
                given.keep.mkdir(parents=True, exist_ok=True)
                for log in Path(folder).glob("*.log"):
                    shutil.copy(log, given.keep)


def _without_root_powers() -> None:
    """Starts this program again so that root too has only the permissions that a file gives him."""
    if os.geteuid() != 0 or _DROPPED in os.environ:
        return
    for capability in (_CAP_DAC_OVERRIDE, _CAP_DAC_READ_SEARCH):
        if ctypes.CDLL(None, use_errno=True).prctl(_PR_CAPBSET_DROP, capability, 0, 0, 0):
            raise OSError(ctypes.get_errno(), "root can't give up his powers over files")
    command = [sys.executable, "-m", "tests.torture.soak", *sys.argv[1:]]
    os.execve(sys.executable, command, {**os.environ, _DROPPED: "1"})


if __name__ == "__main__":
    sys.exit(main())
