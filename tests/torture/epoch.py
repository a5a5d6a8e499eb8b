"""One server, one store, many daemons that die on it; then the reckoning. See `kills`."""

import json
import random
import signal
import time
from collections import Counter
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from tests.daemon_process import DaemonProcess, environment, idiolectd
from tests.simulator import Request
from tests.torture.common import SESSION_KINDS, Server, call_works, send, server
from tests.torture.findings import Findings
from tests.torture.nursery import Daemon, open_nursery
from tests.torture.observer import Observer
from tests.torture.stores import StorePlace, token_hash

# How many sessions of each kind are kept alive by new logins.
_SESSIONS = {"dpop": 24, "bearer": 12}

# Seconds the server waits before and after it serves, at most. What is under way when the daemon dies
# has to be over before `_SETTLE`, with much to spare for a machine that is busy.
_BEFORE, _AFTER = 0.08, 0.25
_ALL_SERVED = 0.6
_SETTLE = 1.5

_CALM_LIMIT = 60.0

# Events that no kill excuses: nobody must be sent looking for a foreign program either.
_NEVER = {
    "daemon.failed",
    "session.crashed",
    "session.quarantined",
    "session.removed",
    "session.rotated_elsewhere",
    "session.spent_token_undone",
    "session.suspended",
    "session.unpersisted",
    "store.unavailable",
}

# How a round ends, and how often.
ENDS = {"kill": 70, "early kill": 8, "frozen, then killed": 12, "killed while frozen": 4}
POLITE_ENDS = {"stop": 8, "killed while stopping": 6}


@dataclass(frozen=True)
class Lives:
    """How long access tokens live, and when in their life they are refreshed."""

    seconds: float
    window: str


# Refreshed all the time, and yet far from their end: they can always tell whether they were rotated.
LASTING = Lives(90.0, "[0.015, 0.05]")
# Mostly over when the next daemon looks: nobody can tell but by sending again.
BRIEF = Lives(3.0, "[0.6, 0.8]")
# For the reckoning: nothing ends while we look.
_LONG = 600.0


class Epoch:
    """A server and a store from their beginning to the reckoning; a context manager.

    Args:
        place: an empty place for the store.
        chance: what is drawn by lot is drawn from here.
        report: is added to.
    """

    def __init__(self, place: StorePlace, chance: random.Random, report: Findings) -> None:
        self._place = place
        self._chance = chance
        self._report = report
        self._stack = ExitStack()

    def __enter__(self) -> Self:
        with ExitStack() as stack:
            self._nursery = stack.enter_context(open_nursery())
            self._server = stack.enter_context(server("--nonce-rotation", "5"))
            self._set_life(LASTING.seconds)
            self._place.folder.mkdir(parents=True)
            self._logs = iter(range(1_000_000))
            for kind in SESSION_KINDS:
                for _ in range(_SESSIONS[kind]):
                    self._place.seed(self._server.login(kind))
            self._observer = stack.enter_context(Observer(self._place))
            self._observer.look()
            self._stack = stack.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.close()

    def run(self, kills: int, *, end: float) -> None:
        """Kills so often, unless it is too late (monotonic time), and adds up what came of it."""
        report, before = self._report, self._report.counts["kills"]
        for lives, share in ((LASTING, 0.6), (BRIEF, 1.0)):
            while report.counts["kills"] < before + round(kills * share) and time.monotonic() < end:
                self._round(lives)
            if lives is LASTING:
                self._calm(lives)
                report.expect("replays while every token could tell", self._server.stats()["replays_seen"], 0)
                self._set_life(BRIEF.seconds)
                self._force_all()
        self._set_life(_LONG)
        self._calm(BRIEF)
        self._reckon()

    # Rounds ----------------------------------------------------------------------------------

    def _round(self, lives: Lives) -> None:
        ends = ENDS | POLITE_ENDS
        (how,) = self._chance.choices(list(ends), list(ends.values()))
        self._vary_latency()
        lost_before: set[str] = set()
        if how == "stop":
            time.sleep(_ALL_SERVED)
            lost_before = self._lost()
        daemon = self._nursery.start(self._env(lives), self._new_log())
        if how == "early kill":
            time.sleep(self._chance.uniform(0.0, 0.3))
        else:
            daemon.wait_ready()
            time.sleep(self._chance.uniform(0.0, 0.8))
        code = self._end(daemon, how)
        if how == "stop":
            self._report.expect("exit code of a polite stop", code, 0)
        self._report.counts[how] += 1
        self._report.counts["kills"] += how != "stop"
        self._check_log(daemon.events())
        lost = self._lost()
        if how == "stop":
            self._report.expect("sessions lost by a polite stop", lost - lost_before, set())
        for _ in range(_SESSIONS["dpop"] - (len(self._sessions("oauth")) - len(lost))):
            with self._observer.looking_away():  # a login as upstream writes it is not whole at once
                self._place.seed(self._server.login("dpop"))

    def _end(self, daemon: Daemon, how: str) -> int:
        match how:
            case "frozen, then killed":
                daemon.send_signal(signal.SIGSTOP)
                time.sleep(self._chance.uniform(0.1, 1.5))
                daemon.send_signal(signal.SIGCONT)
                time.sleep(self._chance.uniform(0.0, 0.4))
            case "killed while frozen":
                daemon.send_signal(signal.SIGSTOP)
                time.sleep(self._chance.uniform(0.1, 0.5))
            case "stop":
                daemon.send_signal(signal.SIGTERM)
                return daemon.wait()
            case "killed while stopping":
                daemon.send_signal(signal.SIGTERM)
                time.sleep(self._chance.uniform(0.0, 0.2))
        daemon.send_signal(signal.SIGKILL)
        return daemon.wait()

    def _env(self, lives: Lives) -> dict[str, str]:
        return environment(
            self._place.url,
            IDIOLECTD_STORE__SPILL_DIR=str(self._place.spill),
            IDIOLECTD_REFRESH__SETTLE=f"{_SETTLE}s",
            IDIOLECTD_REFRESH__CONFIRM="0",  # thousands of verdicts: `tests.servers` has the patient ones
            IDIOLECTD_REFRESH__WINDOW=lives.window,
        )

    def _new_log(self) -> Path:
        return self._place.folder / f"daemon-{next(self._logs) % 10}.log"  # the last few, for people

    def _check_log(self, events: list[dict[str, Any]]) -> None:
        bad = [json.dumps(event)[:400] for event in events if event["event"] in _NEVER]
        self._report.problems.extend(f"logged: {line}" for line in bad)

    def _vary_latency(self) -> None:
        _admin(self._server, "DELETE", "faults")
        before, after = self._chance.uniform(0.0, _BEFORE), self._chance.uniform(0.0, _AFTER)
        for match in ("/oauth/token", "refreshSession"):
            self._server.fault(kind="delay", match=match, times=None, delay=before, delay_after=after)

    def _set_life(self, seconds: float) -> None:
        self._server.option(access_life=seconds, legacy_access_life=seconds)

    # What the server knows -------------------------------------------------------------------

    def _sessions(self, kind: str | None = None) -> dict[str, dict[str, Any]]:
        found = _admin(self._server, "GET", "sessions")
        return {one["did"]: one for one in found if kind in (None, one["kind"])}

    def _lost(self) -> set[str]:
        """The OAuth sessions whose newest token no reader of the store has ever seen."""
        sessions = self._sessions("oauth")
        self._observer.look()
        return {did for did, one in sessions.items() if one["refresh_hash"] not in self._observer.seen[did]}

    def _force_all(self) -> int:
        _admin(self._server, "DELETE", "faults")
        env = environment(self._place.url, IDIOLECTD_STORE__SPILL_DIR=str(self._place.spill))
        return idiolectd("refresh", "--all", "--force", "--json", env=env).returncode

    # The reckoning ---------------------------------------------------------------------------

    def _calm(self, lives: Lives) -> None:
        """Lets a daemon work undisturbed until nothing is undecided and every session has moved on."""
        time.sleep(_ALL_SERVED)
        lost = self._lost()
        before = {did: record["refreshJwt"] for did, record in self._observer.look().items()}
        waiting: list[str] = []
        end = time.monotonic() + _CALM_LIMIT
        # The command itself this time, not the nursery's fork of it.
        with DaemonProcess(self._env(lives), self._new_log()) as daemon:
            while time.monotonic() < end:
                now = self._observer.look()
                waiting = [
                    did for did, was in before.items() if did not in lost and now[did]["refreshJwt"] == was
                ]
                if not waiting and not (waiting := self._undecided()):
                    break
                time.sleep(0.3)
            self._report.expect("undecided or not refreshed in time", self._shown(waiting), [])
            self._report.expect("exit code of a polite stop", daemon.stop(), 0)
            self._check_log(daemon.events())

    def _undecided(self) -> list[str]:
        rows = self._status()
        return [did for did, row in rows.items() if row["state"] not in ("fresh", "due", "relogin_required")]

    def _status(self) -> dict[str, dict[str, Any]]:
        done = idiolectd("status", "--json", env=environment(self._place.url))
        return {row["did"]: row for row in json.loads(done.stdout)["sessions"]}

    def _shown(self, dids: list[str]) -> list[tuple[Any, ...]]:
        rows = self._status() if dids else {}
        shown = ("did", "kind", "state", "next_attempt_at", "last_error")
        return [tuple(rows[did][name] for name in shown) for did in dids]

    def _reckon(self) -> None:
        report, lost, rows = self._report, self._lost(), self._status()
        sessions, records = self._sessions(), self._observer.look()
        classified = {did for did, row in rows.items() if row["state"] == "relogin_required"}
        report.expect("lost, but not called so", sorted(lost - classified), [])
        report.expect("called lost, but not so", sorted(classified - lost), [])
        causes = Counter(rows[did]["cause"] for did in classified)
        report.expect("causes other than a lost response", {*causes} - {"response_lost"}, set())
        for did in sessions.keys() - lost:
            held = token_hash(records[did]["refreshJwt"])
            report.expect(f"{did}: newest token in the store", held == sessions[did]["refresh_hash"], True)
            report.expect(f"{did}: the server honours it", sessions[did]["alive"], True)
            report.expect(f"{did}: a call with the stored tokens", call_works(records[did]), True)
        replayed = [did for did, one in sessions.items() if one["cause"] == "Refresh token replayed"]
        report.expect("replayed, though not lost", sorted(set(replayed) - lost), [])
        self._force(sessions.keys() - lost, dead=bool(lost))
        stats = self._server.stats()
        report.expect("used tokens sent, sessions ended by that", stats["replays_seen"], len(replayed))
        report.expect("half a record, or a session gone", self._observer.torn, [])
        report.counts["lost"] += len(lost)
        report.counts["classified"] += len(classified)
        report.counts["replays"] += len(replayed)
        report.counts["rotations"] += sum(one["generation"] for one in sessions.values())
        report.counts["reader's looks"] += self._observer.looks

    def _force(self, living: set[str], *, dead: bool) -> None:
        """One more refresh for everybody; the dead are not asked for."""
        before = self._server.stats()
        self._report.expect("exit code of a forced refresh", self._force_all(), 3 if dead else 0)
        after = self._server.stats()
        used = after["consumptions"] - before["consumptions"]
        self._report.expect("tokens used by a forced refresh of all", used, len(living))
        records = self._observer.look()
        broken = [did for did in living if not call_works(records[did])]
        self._report.expect("living sessions that a forced refresh broke", broken, [])


def _admin(of: Server, method: str, call: str) -> Any:
    answer = send(Request(method, f"{of.url}/_sim/{call}"))
    assert answer.status == 200, answer.body
    return json.loads(answer.body)
