"""The command: runs measures and shows, or writes down, what they found."""

import argparse
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from bench import clients, counting, crowd, day, imports, many, refreshes, store
from bench.machine import circumstances
from bench.measuring import QUICK, Measure, Size, Workshop, measure
from bench.report import Result, read_results, tables, write_report

MEASURES: Sequence[Measure] = (
    *refreshes.MEASURES,
    *counting.MEASURES,
    *many.MEASURES,
    *crowd.MEASURES,
    *day.MEASURES,
    *clients.MEASURES,
    *imports.MEASURES,
    *store.MEASURES,
)

_DOCS = Path(__file__).parent.parent / "docs"


def main(arguments: Sequence[str] | None = None) -> int:
    """Returns the exit code: 1 if a round went wrong."""
    parser = _parser()
    options = parser.parse_args(arguments)
    known = {each.name: each for each in MEASURES}
    if unknown := set(options.names) - set(known):
        parser.error(f"there is no measure {', '.join(sorted(unknown))}")
    chosen = [known[name] for name in options.names] or MEASURES
    results = {}
    with tempfile.TemporaryDirectory(prefix="idiolectd-bench-", dir=options.folder) as folder:
        workshop = Workshop(_size(options), Path(folder))
        for each in chosen:
            workshop.missing = {}
            at = circumstances(Path(folder))
            results[each.name] = Result(at, measure(each, workshop, _tell), workshop.missing)
            print(f"{each.title}\n\n{tables(results[each.name].series)}\n", flush=True)
            if options.write or (not options.names and not options.quick):
                write_report(_DOCS, MEASURES, read_results(_DOCS / "benchmarks" / "results.json") | results)
        for failure in workshop.failed:
            print(f"FAILED {failure}", file=sys.stderr)
    return 1 if workshop.failed else 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m bench",
        description="Measures what idiolectd costs, beside peers and limits. Without names: everything, and"
        " writes docs/benchmarks.md.",
        epilog="\n".join(f"{each.name:12} {each.title}" for each in MEASURES),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("names", nargs="*", metavar="NAME", help="what is measured; see below")
    parser.add_argument("--quick", action="store_true", help="one small round, to see that it works")
    parser.add_argument("--write", action="store_true", help="write docs/benchmarks.md, with names too")
    parser.add_argument("--rounds", type=int, metavar="N", help="how often each measure is repeated")
    parser.add_argument("--refreshes", type=int, metavar="N", help="refreshes of the daemon in each round")
    parser.add_argument("--sessions", type=int, nargs="+", metavar="N", help="the sizes of large stores")
    parser.add_argument("--crowd", type=int, metavar="N", help="sessions that become due within a minute")
    parser.add_argument("--days", type=int, nargs="+", metavar="N", help="sessions whose day is simulated")
    parser.add_argument("--patience", type=float, metavar="SECONDS", help="for a start on a large store")
    parser.add_argument("--folder", type=Path, help="where the stores are made; a disk, not memory")
    return parser


def _size(options: argparse.Namespace) -> Size:
    given = {
        name: value
        for name in ("rounds", "refreshes", "sessions", "crowd", "days", "patience")
        if (value := getattr(options, name)) is not None
    }
    return replace(QUICK if options.quick else Size(), **given)


def _tell(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
