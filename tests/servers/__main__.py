"""Prints the table of misbehaving servers; exits 1 if a line is not as promised."""

import argparse
import sys
import time

import trio
import trio.testing

from tests.servers.cases import CASES
from tests.servers.trial import HEADER, try_out


def main() -> int:
    """Runs every case, or those whose names contain a text."""
    parser = argparse.ArgumentParser(prog="python -m tests.servers", description=__doc__)
    parser.add_argument("text", nargs="?", default="")
    chosen = parser.parse_args().text
    print(HEADER)
    failed = lines = 0
    started = time.monotonic()
    for case in CASES:
        for kind in case.kinds:
            if chosen in case.name:
                row = trio.run(try_out, case, kind, clock=trio.testing.MockClock(autojump_threshold=0))
                print(row, flush=True)
                lines, failed = lines + 1, failed + bool(row.problems)
    print(f"{lines} lines, {failed} not as promised, {time.monotonic() - started:.0f} s")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
