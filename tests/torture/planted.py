"""Bugs planted by hand, each to be caught by the tests: what shows that the tests can fail.

Package and tests are copied; in the copy one bug of `tests.torture.plants` at a time is planted, and the
few tests that must catch it are run. Before that the same tests run without any bug, and pass. With
``--fits`` nothing is run: that all plants fit the code, and that their tests exist, takes seconds.

Promised: each bug makes one of its tests fail. An error while tests are collected or set up, or a bug
that does not even run (a name that is not there), counts as not caught, and so does a plant that no
longer fits the code.

What it does not show: that a bug which nobody thought of is caught.
"""

import ast
import compileall
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from py_compile import PycInvalidationMode
from queue import SimpleQueue
from random import Random

from tests.torture.common import Promises, options
from tests.torture.plants import PLANTS, MisfitError, Plant, plant_into, take_out

_ROOT = Path(__file__).parents[2]
_AT_ONCE = 2

# One test may hang because of the bug; then it fails. All of a plant's together have a bound too.
_PER_TEST = 30
_PER_PLANT = 120.0
_UNPLANTED = 300.0

_LEFT_BEHIND = shutil.ignore_patterns("__pycache__", "node_modules", ".hypothesis", ".pytest_cache")

_FAILED = re.compile(r"^FAILED (\S.*?)(?: - .*)?$", re.MULTILINE)
_ERROR = re.compile(r"^ERROR (\S.*?)(?: - .*)?$", re.MULTILINE)
# A bug that does not run proves nothing: any test would notice it.
_STILLBORN = re.compile(
    r"^E +(?:\w+\.)*(NameError|UnboundLocalError|ImportError|ModuleNotFoundError|SyntaxError)\b.*$",
    re.MULTILINE,
)
_SKIPPED = re.compile(r"^SKIPPED \[\d+\] (?:\S+:\d+: )?(.*)$", re.MULTILINE)


class Verdict(Enum):
    """What came of one plant."""

    CAUGHT = "caught"
    MISSED = "NOT CAUGHT"
    MISFIT = "MISFIT"  # the code has changed: the plant says nothing now
    BROKEN = "BROKEN"  # tests could not be run with it, or it does not run itself
    SKIPPED = "skipped"  # the machine can't show it


@dataclass(frozen=True)
class Result:
    """One line of the table.

    Attributes:
        detail: the test that failed, else what to look at.
    """

    plant: Plant
    verdict: Verdict
    detail: str
    seconds: float


class Copy:
    """A copy of package and tests, for one plant at a time.

    Args:
        folder: an empty one.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        for name in ("idiolectd", "tests"):
            shutil.copytree(_ROOT / name, folder / name, ignore=_LEFT_BEHIND)
        shutil.copy(_ROOT / "pyproject.toml", folder)
        # By content: a file that is changed and put back within a second would deceive a time stamp.
        compileall.compile_dir(
            folder / "idiolectd", quiet=1, invalidation_mode=PycInvalidationMode.CHECKED_HASH
        )
        where = self._run(["-c", "import idiolectd; print(idiolectd.__file__)"], 60).stdout.strip()
        if Path(where) != folder / "idiolectd" / "__init__.py":
            raise RuntimeError(f"the tests would run against {where}, not against the copy in {folder}")

    def unplanted(self, tests: Iterable[str]) -> subprocess.CompletedProcess[str]:
        """Runs tests without any bug."""
        return self._pytest(list(tests), _UNPLANTED)

    def planted(self, plant: Plant) -> Result:
        """Plants one bug, runs the tests that must catch it, and takes it out again."""
        began = time.monotonic()
        try:
            before = plant_into(self._folder / "idiolectd", plant.edits)
        except MisfitError as error:
            return Result(plant, Verdict.MISFIT, str(error), 0.0)
        try:
            done = self._pytest(["-x", *plant.caught_by], _PER_PLANT)
        finally:
            take_out(before)
        return Result(plant, *_judged(done), time.monotonic() - began)

    def _pytest(self, arguments: Sequence[str], timeout: float) -> subprocess.CompletedProcess[str]:
        # "-m ''": a plain run of the suite may leave slow tests out.
        common = ["-m", "pytest", "-q", "-p", "no:cacheprovider", "-m", "", f"--timeout={_PER_TEST}"]
        return self._run([*common, *arguments], timeout)

    def _run(self, arguments: Sequence[str], timeout: float) -> subprocess.CompletedProcess[str]:
        """Runs Python on the copy, in a session of its own, of which nothing is left afterwards."""
        environment = {
            **os.environ,
            "PYTHONPATH": str(self._folder),
            "PYTHONDONTWRITEBYTECODE": "1",
            "NO_COLOR": "1",
        }
        environment.pop("PYTEST_ADDOPTS", None)
        process = subprocess.Popen(
            [sys.executable, *arguments],
            cwd=self._folder,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            start_new_session=True,
        )
        try:
            out, _ = process.communicate(timeout=timeout)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            out, _ = process.communicate()
            out += "\nstopped: took too long\n"
        return subprocess.CompletedProcess(process.args, process.returncode, out, "")


def unfit(plants: Iterable[Plant]) -> list[str]:
    """The plants that do not fit the code, or change nothing in it, and why."""
    found = []
    with tempfile.TemporaryDirectory(prefix="idiolectd-planted-") as folder:
        package = Path(folder) / "idiolectd"
        shutil.copytree(_ROOT / "idiolectd", package, ignore=_LEFT_BEHIND)
        for plant in plants:
            try:
                before = plant_into(package, plant.edits)
            except MisfitError as error:
                found.append(f"{plant.name}: {error}")
                continue
            if all(_means_the_same(text, path.read_text()) for path, text in before.items()):
                found.append(f"{plant.name}: changes nothing")
            take_out(before)
    return found


def _means_the_same(code: str, other: str) -> bool:
    return ast.dump(ast.parse(code)) == ast.dump(ast.parse(other))


def missing(plants: Iterable[Plant]) -> list[str]:
    """The plants' tests that pytest does not find, in its words."""
    tests = sorted({test for plant in plants for test in plant.caught_by})
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "--collect-only", "-p", "no:cacheprovider", "-m", "", *tests],
        cwd=_ROOT,
        capture_output=True,
        text=True,
        timeout=_UNPLANTED,
        check=False,
    )
    if done.returncode == 0:
        return []
    return re.findall(r"^ERROR:? .*$", done.stdout + done.stderr, re.MULTILINE) or [_last_line(done.stdout)]


def _judged(done: subprocess.CompletedProcess[str]) -> tuple[Verdict, str]:
    out = done.stdout
    failed, error, stillborn = _FAILED.search(out), _ERROR.search(out), _STILLBORN.search(out)
    if done.returncode == 1 and failed and not error:
        if stillborn:
            return Verdict.BROKEN, f"the bug itself does not run: {stillborn[0].strip()}"
        return Verdict.CAUGHT, failed[1].partition("::")[2] or failed[1]
    if done.returncode == 0 and " passed" not in out and (skipped := _SKIPPED.search(out)):
        return Verdict.SKIPPED, skipped[1]
    if done.returncode == 0:
        return Verdict.MISSED, "its tests pass"
    return Verdict.BROKEN, error[0] if error else _last_line(out)


def _last_line(text: str) -> str:
    return text.strip().rpartition("\n")[2]


def main() -> int:
    """Returns the exit code: 0 if each bug was caught."""
    parser = options("bugs planted by hand, each to be caught by the tests (--full: all of them, as without)")
    parser.add_argument("--short", action="store_true", help="only some of the most important")
    parser.add_argument("--fits", action="store_true", help="only whether all fit the code; runs no test")
    parser.add_argument("--only", default="", metavar="WORD", help="those with this in their names")
    arguments = parser.parse_args()
    plants = [
        plant for plant in PLANTS if arguments.only in plant.name and (plant.short or not arguments.short)
    ]
    if arguments.fits:
        return _conclude_fits(plants)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("stopped"))  # so that the copies go
    # The order proves that no plant leans on the one before it.
    Random(arguments.seed).shuffle(plants)
    with tempfile.TemporaryDirectory(prefix="idiolectd-planted-", ignore_cleanup_errors=True) as folder:
        copies = [Copy(_made(Path(folder) / str(number))) for number in range(_AT_ONCE)]
        red = _red_already(copies, plants)
        results = [
            Result(plant, Verdict.BROKEN, f"without the bug too, {red[wrong[0]]}", 0.0)
            for plant in plants
            if (wrong := [test for test in plant.caught_by if test in red])
        ]
        results += _plant_all(copies, [plant for plant in plants if red.keys().isdisjoint(plant.caught_by)])
    _show(sorted(results, key=lambda result: PLANTS.index(result.plant)))
    return _conclude(results, asked=len(plants))


def _made(folder: Path) -> Path:
    folder.mkdir()
    return folder.resolve()


def _red_already(copies: Sequence[Copy], plants: Sequence[Plant]) -> dict[str, str]:
    """The tests that do not pass without any bug, and what is wrong with them."""
    red = _not_passing(copies, sorted({test for plant in plants for test in plant.caught_by}))
    # A busy machine can make a test fail that depends on real time; once more, it passes.
    return _not_passing(copies[:1], sorted(red)) if red else red


def _not_passing(copies: Sequence[Copy], tests: Sequence[str]) -> dict[str, str]:
    # By file, so that what a module sets up is set up once.
    files: dict[str, list[str]] = {}
    for test in tests:
        files.setdefault(test.partition("::")[0], []).append(test)
    shares: list[list[str]] = [[] for _ in copies]
    for names in sorted(files.values(), key=len, reverse=True):
        min(shares, key=len).extend(names)
    shares = [share for share in shares if share]
    with ThreadPoolExecutor(len(copies)) as pool:
        runs = list(pool.map(Copy.unplanted, copies, shares))
    red: dict[str, str] = {}
    for run, share in zip(runs, shares, strict=True):
        print(f"without any bug: {_last_line(run.stdout)}", flush=True)
        failed = [*_FAILED.findall(run.stdout), *_ERROR.findall(run.stdout)]
        if run.returncode == 0:
            continue
        if run.returncode != 1 or not failed:  # nothing was run: one name is not there, say
            red |= dict.fromkeys(share, f"none can be run: {_last_line(run.stdout)}")
        red |= {
            test: f"{name} fails" for name in failed for test in share if f"{name}[".startswith(f"{test}[")
        }
    return red


def _plant_all(copies: Sequence[Copy], plants: Sequence[Plant]) -> list[Result]:
    free: SimpleQueue[Copy] = SimpleQueue()
    for copy in copies:
        free.put(copy)

    def one(plant: Plant) -> Result:
        copy = free.get()
        try:
            return copy.planted(plant)
        finally:
            free.put(copy)

    with ThreadPoolExecutor(len(copies)) as pool:
        return list(pool.map(one, plants))


def _show(results: Sequence[Result]) -> None:
    print("\nplanted bug → the promise that it breaks, and the test that caught it")
    name, detail = (
        max((len(text) for text in texts), default=0)
        for texts in ([result.plant.name for result in results], [_caught(result) for result in results])
    )
    for result in results:
        line = f"  {result.plant.name:{name}}  {result.plant.promise:2}  {_caught(result):{detail}}"
        print(f"{line}  {result.seconds:5.1f} s")
    print()


def _caught(result: Result) -> str:
    if result.verdict is Verdict.CAUGHT:
        return result.detail
    return f"{result.verdict.value}: {result.detail}; so {result.plant.breaks}"


def _conclude_fits(plants: Sequence[Plant]) -> int:
    plants_unfit, tests_missing = unfit(plants), missing(plants)
    print("\n".join([*plants_unfit, *tests_missing]))
    promises = Promises()
    promises.expect(f"plants of {len(plants)} that do not fit the code", len(plants_unfit), 0)
    promises.expect("their tests that do not exist", len(tests_missing), 0)
    return promises.conclude()


def _conclude(results: Sequence[Result], *, asked: int) -> int:
    def count(verdict: Verdict) -> int:
        return sum(result.verdict is verdict for result in results)

    promises = Promises()
    skipped = count(Verdict.SKIPPED)
    if skipped:
        print(f"  {skipped} can't be shown on this machine")
    promises.expect("bugs caught", count(Verdict.CAUGHT), asked - skipped)
    promises.expect("bugs that no test notices", count(Verdict.MISSED), 0)
    promises.expect(
        "plants that no longer fit, or do not run", count(Verdict.MISFIT) + count(Verdict.BROKEN), 0
    )
    return promises.conclude()


if __name__ == "__main__":
    sys.exit(main())
