"""The command: ``python -m bench``."""

import argparse
import sys
import tempfile
from dataclasses import replace
from pathlib import Path

from bench import refreshes
from bench.measuring import QUICK, Size, Workshop, measure

MEASURES = {found.name: found for found in (*refreshes.MEASURES,)}


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME")
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--refreshes", type=int)
    parser.add_argument("--rounds", type=int)
    a = parser.parse_args()
    size = QUICK if a.quick else Size()
    if a.refreshes: size = replace(size, refreshes=a.refreshes)
    if a.rounds: size = replace(size, rounds=a.rounds)
    with tempfile.TemporaryDirectory(prefix="idiolectd-bench-") as folder:
        workshop = Workshop(size, Path(folder))
        for name in a.names or MEASURES:
            for s in measure(MEASURES[name], workshop, lambda line: print(line, file=sys.stderr, flush=True)):
                print(s.subject, s.quantity, round(s.median, 4), s.unit)
        print(workshop.missing)

main()
