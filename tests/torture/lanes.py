"""Runs a part's lanes: processes of one thread each, which fork and trace, and print JSON lines."""

import os
import subprocess
import sys
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

# The lanes mostly wait: for the settling time, and for disks.
AT_ONCE = 2 * (os.cpu_count() or 1)

# A full lane has some hundred runs of half a second each.
_TIMEOUT = 3600


def run_lanes(module: str, jobs: Sequence[Sequence[str]], folder: Path) -> list[list[str]]:
    """Runs one process of a module for each list of arguments, some at a time.

    Args:
        module: below ``tests.torture``.
        jobs: arguments; a folder of its own is added to each.
        folder: where those are made.

    Returns:
        the lines that each printed.
    """

    def run(number: int) -> list[str]:
        own = folder / str(number)
        own.mkdir()
        lane = subprocess.run(
            [sys.executable, "-m", f"tests.torture.{module}", str(own), *jobs[number]],
            capture_output=True,
            text=True,
            timeout=_TIMEOUT,
            check=False,
        )
        if lane.returncode != 0:
            raise RuntimeError(f"a lane of {module} failed:\n{lane.stderr[-3000:]}")
        return lane.stdout.splitlines()

    with ThreadPoolExecutor(AT_ONCE) as pool:
        return list(pool.map(run, range(len(jobs))))
