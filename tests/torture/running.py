"""How tests run the torture machine's parts: as a person does, in a process of its own."""

import subprocess
import sys

import pytest


def run_short(part: str, *, timeout: float = 240) -> None:
    """Runs the short version of a part; its table is the message of a failure."""
    done = subprocess.run(
        [sys.executable, "-m", f"tests.torture.{part}"],
        capture_output=True,
        text=True,
        timeout=timeout,
        check=False,
    )
    print(done.stdout)
    if done.stdout.startswith("skipped: "):
        pytest.skip(done.stdout.removeprefix("skipped: ").strip())
    assert done.returncode == 0, done.stdout[-6000:] + done.stderr[-3000:]
