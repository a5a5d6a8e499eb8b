"""One daemon, one store, a handful of the real PDS's sessions, a mishap for most of them."""

import json
import signal
import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Literal

from tests.daemon_process import DaemonProcess, environment, idiolectd
from tests.real_pds.client import create_record, get_session
from tests.real_pds.harness import Account, RealPds
from tests.real_pds.login import legacy_login, oauth_login
from tests.torture.common import Record, SessionKind
from tests.torture.findings import Findings
from tests.torture.stores import StorePlace
from tests.torture.wire import BEFORE, Kind, Mishap, Struck, Wire

When = Literal["running", "down"]

# Seconds an access token lives: long enough for a probe to tell while the daemon runs, and short
# enough to wait for its end.
LIFE = 30

FIGURES = ("legacy hit", "recovered", "OAuth hit, rotated", "called lost", "OAuth hit, not rotated", "alive")

# Of each kind one whose answer is lost, one whose request is lost, one that meets nothing.
SESSIONS = 6

_SETTLE = 1.0
_STRIKE_LIMIT = 40.0
_DECIDE_LIMIT = 60.0

_DECIDED = {"fresh", "due", "relogin_required"}


@dataclass
class Result(Findings):
    """What came of one scenario."""

    name: str = ""


@dataclass(frozen=True)
class Subject:
    """One session: its record when it logged in, and its mishap."""

    kind: SessionKind
    record: Record
    mishap: Mishap | None

    @property
    def did(self) -> str:
        """Whose it is."""
        return str(self.record["did"])


class Scenario:
    """See `real_faults`.

    Args:
        pds: the server.
        wire: the proxy in front of it.
        place: an empty place for the store.
        when: whether the daemon goes on, or is down until the access tokens are over.
        accounts: nobody else's, `SESSIONS` of them.
        answer: how answers are lost.
        request: how requests are lost.
    """

    def __init__(
        self,
        pds: RealPds,
        wire: Wire,
        place: StorePlace,
        when: When,
        accounts: Sequence[Account],
        *,
        answer: Kind,
        request: Kind,
    ) -> None:
        self._pds = pds
        self._wire = wire
        self._place = place
        self._when = when
        self._accounts = accounts
        self._mishaps = (answer, request, None)
        self._result = Result(name=f"{place.kind}, {when}, {answer}, {request}")

    def run(self) -> Result:
        """From the logins to the last refresh."""
        self._place.folder.mkdir(parents=True)
        subjects = self._log_in()
        hit = [subject for subject in subjects if subject.mishap is not None]
        with self._daemon("before") as daemon:
            self._wait_struck(daemon, hit)
            if self._when == "running":
                rows = self._wait_decided(subjects)
                self._judge(subjects, rows)
                self._result.expect("exit code", daemon.stop(), 0)
            else:
                daemon.process.send_signal(signal.SIGKILL)
        if self._when == "down":
            ends = max(_time(self._stored(subject)["expiresAt"]) for subject in hit)
            time.sleep(max(0.0, ends - time.time()) + 1.0)
            with self._daemon("after") as daemon:
                rows = self._wait_decided(subjects)
                self._judge(subjects, rows)
                self._result.expect("exit code", daemon.stop(), 0)
        self._use(subjects)
        return self._result

    def _log_in(self) -> list[Subject]:
        subjects = []
        for number, account in enumerate(self._accounts):
            kind: SessionKind = ("dpop", "bearer")[number % 2]
            login = oauth_login if kind == "dpop" else legacy_login
            record = login(self._pds.url, account.handle, account.password)
            fate = self._mishaps[number // 2]
            mishap = None if fate is None else self._wire.add(_mishap(fate, record["refreshJwt"]))
            self._place.seed(record)
            subjects.append(Subject(kind, record, mishap))
        return subjects

    def _daemon(self, name: str) -> DaemonProcess:
        env = self._env(
            IDIOLECTD_REFRESH__WINDOW="[0.05, 0.15]",
            IDIOLECTD_REFRESH__SETTLE=f"{_SETTLE}s",
            IDIOLECTD_REFRESH__CONFIRM="0",  # the access tokens are over too soon: `locked` is patient
        )
        return DaemonProcess(env, self._place.folder / f"daemon-{name}.log")

    def _env(self, **more: str) -> dict[str, str]:
        return environment(
            self._place.url,
            IDIOLECTD_STORE__SPILL_DIR=str(self._place.spill),
            IDIOLECTD_IDENTITY__PLC_DIRECTORY_URL=self._pds.plc_url,
            **more,
        )

    # Waiting ---------------------------------------------------------------------------------

    def _wait_struck(self, daemon: DaemonProcess, hit: Sequence[Subject]) -> None:
        end = time.monotonic() + _STRIKE_LIMIT
        while any(self._struck(subject) is None for subject in hit):
            if time.monotonic() > end or daemon.process.poll() is not None:
                raise TimeoutError(f"not all were refreshed:\n{daemon.log.read_text()[-3000:]}")
            time.sleep(0.02)

    def _wait_decided(self, subjects: Sequence[Subject]) -> dict[str, dict[str, Any]]:
        """Waits until every session is known to live with new tokens, or known to be lost."""
        end = time.monotonic() + _DECIDE_LIMIT
        while True:
            rows = self._status()
            if all(self._is_decided(subject, rows[subject.did]) for subject in subjects):
                return rows
            if time.monotonic() > end:
                raise TimeoutError(f"not decided: {json.dumps(rows, indent=1)}")
            time.sleep(0.2)

    def _is_decided(self, subject: Subject, row: dict[str, Any]) -> bool:
        if row["state"] == "relogin_required":
            return True
        return (
            row["state"] in _DECIDED and self._stored(subject)["refreshJwt"] != subject.record["refreshJwt"]
        )

    # Judging ---------------------------------------------------------------------------------

    def _judge(self, subjects: Sequence[Subject], rows: dict[str, dict[str, Any]]) -> None:
        counts = self._result.counts
        for subject in subjects:
            verdict = (rows[subject.did]["state"], rows[subject.did]["cause"])
            is_lost = verdict == ("relogin_required", "response_lost")
            is_alive = verdict[0] in ("fresh", "due") and self._can_call(subject)
            struck = self._struck(subject)
            if struck is None:
                # The kill may have come between its request and its answer.
                promised = (False, True) if self._is_spent(subject) else (True, False)
                self._result.expect(f"{subject.kind}, no mishap: alive, lost", (is_alive, is_lost), promised)
            elif subject.kind == "bearer":
                counts["legacy hit"] += 1
                counts["recovered"] += is_alive
            elif struck.served.status == 200:
                counts["OAuth hit, rotated"] += 1
                counts["called lost"] += is_lost
                self._judge_lost(subject, struck)
            else:
                counts["OAuth hit, not rotated"] += 1
                counts["alive"] += is_alive

    def _judge_lost(self, subject: Subject, struck: Struck) -> None:
        """How often the used token was sent again, and that the lost tokens still work if it was not."""
        again = [
            served
            for served in self._wire.served
            if served.asked.refresh_token == subject.record["refreshJwt"]
            and b"use_dpop_nonce" not in served.body
        ]
        times = len(again) - 1  # the first is the one whose answer was lost
        if self._when == "down":
            self._result.expect("a used token was sent again at most once", times <= 1, True)
            return
        self._result.expect("times a used token was sent again", times, 0)
        tokens = json.loads(struck.served.body)
        held_by_nobody = {**subject.record, "accessJwt": tokens["access_token"]}
        self._result.expect("the lost tokens still work", get_session(held_by_nobody).status_code, 200)

    def _is_spent(self, subject: Subject) -> bool:
        """Whether an OAuth session's stored token was used up, and nobody holds what came for it."""
        token = self._stored(subject)["refreshJwt"]
        used = (one.status == 200 and one.asked.refresh_token == token for one in self._wire.served)
        return subject.kind == "dpop" and any(used)

    def _can_call(self, subject: Subject) -> bool:
        answer = get_session(self._stored(subject))
        if answer.status_code == 401:  # the daemon is at work: it may have been rotated just now
            answer = get_session(self._stored(subject))
        refused = answer.text if answer.status_code != 200 else ""
        self._result.expect(f"{subject.kind}: refusal of a call", refused, "")
        return not refused

    def _use(self, subjects: Sequence[Subject]) -> None:
        """Every living session is refreshed once more and writes a record."""
        rows = self._status()
        living = [one for one in subjects if rows[one.did]["state"] != "relogin_required"]
        done = idiolectd("refresh", "--force", "--json", *(one.did for one in living), env=self._env())
        self._result.expect("exit code of a forced refresh", done.returncode, 0)
        for subject in living:
            answer = create_record(self._stored(subject), "after all that")
            self._result.expect(f"{subject.kind}: a record written at the end", answer.status_code, 200)

    def _struck(self, subject: Subject) -> Struck | None:
        return next((one for one in self._wire.struck if one.mishap is subject.mishap), None)

    def _status(self) -> dict[str, dict[str, Any]]:
        done = idiolectd("status", "--json", env=self._env())
        return {row["did"]: row for row in json.loads(done.stdout)["sessions"]}

    def _stored(self, subject: Subject) -> Record:
        return self._place.upstream_record(subject.did)


def _mishap(kind: Kind, token: str) -> Mishap:
    return Mishap(
        kind,
        match=lambda asked: asked.refresh_token == token,
        status=None if kind in BEFORE else 200,  # a request for a nonce is no answer to lose
        count=300,  # within the head, or the first bytes of the body
    )


def _time(text: str) -> float:
    return datetime.fromisoformat(text).astimezone(UTC).timestamp()
