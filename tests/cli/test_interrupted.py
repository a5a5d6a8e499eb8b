"""Somebody interrupts a refresh, and loses patience, while the answer is on its way."""

import json
import signal
import subprocess
import sys
import time
import urllib.request
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from idiolectd.clock import rfc3339
from idiolectd.session import OAuthSession
from tests.cli.conftest import Pds, put_record
from tests.simulator import token_hash

# Seconds that an answer is on its way: all signals come before it.
DELAY = 2.0

PROGRAM = [sys.executable, "-m", "tests.cli.interrupted"]
COMMAND = [sys.executable, "-m", "idiolectd", "refresh", "--force"]

# How each is called, and what interrupts it: twice.
CASES = {
    "command, Ctrl-C": (COMMAND, signal.SIGINT),
    "command, SIGTERM": (COMMAND, signal.SIGTERM),
    "trio": ([*PROGRAM, "trio"], signal.SIGINT),
    "asyncio": ([*PROGRAM, "asyncio"], signal.SIGINT),
}


def session_of(pds: Pds, did: str) -> Any:
    """What the server knows of an account's one session."""
    with urllib.request.urlopen(f"{pds.url}/_sim/sessions?did={did}", timeout=10) as answer:
        (found,) = json.load(answer)
    return found


@pytest.mark.slow
def test_what_was_sent_is_finished_however_often_somebody_interrupts(
    environ: dict[str, str], pds: Pds, store: Path
) -> None:
    """Two signals while the answer is under way: the new tokens are stored, and the program ends then."""
    now = time.time()
    dids = {}
    for number, name in enumerate(CASES):
        made = pds.account(f"interrupted-{number}-{int(now * 1000)}.test", legacy=1)
        (record,) = made["legacy"]
        times = {"issuedAt": rfc3339(now - 3590), "expiresAt": rfc3339(now + 10)}
        put_record(store, record | times)
        dids[name] = (made["did"], record["refreshJwt"])
    pds.call("faults", {"kind": "delay", "match": "refreshSession", "times": None, "delay_after": DELAY})
    ends: dict[str, tuple[int, bool]] = {}
    with ExitStack() as opened:
        processes = {}
        for name, (command, _) in CASES.items():
            arguments = [dids[name][0]] if command is COMMAND else [dids[name][0], pds.url]
            process = subprocess.Popen([*command, *arguments], env=environ, stderr=subprocess.PIPE, text=True)
            opened.enter_context(process)
            opened.callback(process.kill)
            processes[name] = process
        waiting = dict(processes)
        give_up = time.monotonic() + 60
        while waiting and time.monotonic() < give_up:
            for name, process in list(waiting.items()):
                if session_of(pds, dids[name][0])["refresh_hash"] != token_hash(dids[name][1]):
                    del waiting[name]  # the server has rotated, and its answer waits
                    for _ in range(2):
                        process.send_signal(CASES[name][1])
                        time.sleep(0.2)
            time.sleep(0.05)
        for name, process in processes.items():
            process.communicate(timeout=60)
            stored = OAuthSession.from_json(next(store.glob(f"*{dids[name][0][-8:]}.json")).read_text())
            info = session_of(pds, dids[name][0])
            is_held = info["alive"] and info["refresh_hash"] == token_hash(stored.refresh_jwt)
            ends[name] = (process.returncode, is_held)
    assert {name: is_held for name, (_, is_held) in ends.items()} == dict.fromkeys(CASES, True)
    assert 0 not in {code for code, _ in ends.values()}, "an interrupted program says so"
