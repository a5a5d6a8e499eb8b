"""The report: results as JSON, and from them tables and plots for people.

Results are kept by measure, each with the circumstances in which it was made: so one measure can be
repeated without the others, and the report still says what was measured when.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from bench.machine import Circumstances
from bench.measuring import RATIO, Goal, Measure, Series
from bench.plots import bars

_HEAD = """\
# What it costs

Written by `make bench`; every figure is the median of the rounds, with the least and the most beside it.
Peers and limits are measured in the same round, one after the other, on one processor; the server that
they all talk to (`bench/endpoint.c`) has another. CPU time, memory and bytes are what the kernel counted
for the process; a daemon is `idiolectd run` with a configuration of its own. Machines are noisy: read
ratios before seconds. `python -m bench NAME` repeats one measure, with `--quick` in a small form.

A refresh is a durable one: a note before it is sent, the tokens after it, each through to the disk.
The server counts what it is sent: a figure is only kept if each session was refreshed exactly once.
"""


@dataclass(frozen=True)
class Result:
    """What a measure gave.

    Attributes:
        circumstances: in which it was made.
        series: the figures.
        missing: what could not be measured, and why, by subject.
    """

    circumstances: Circumstances
    series: Sequence[Series]
    missing: Mapping[str, str]


def read_results(path: Path) -> dict[str, Result]:
    """The results of an earlier run, by measure; none, if there was no such run."""
    if not path.exists():
        return {}
    found: dict[str, Any] = json.loads(path.read_text())
    return {
        name: Result(
            Circumstances(**result["circumstances"]),
            [Series(**each) for each in result["series"]],
            result["missing"],
        )
        for name, result in found.items()
    }


def write_report(docs: Path, measures: Sequence[Measure], results: Mapping[str, Result]) -> None:
    """Writes ``benchmarks.md``, and beside it a folder with results and plots."""
    folder = docs / "benchmarks"
    folder.mkdir(exist_ok=True)
    kept = {measure.name: asdict(results[measure.name]) for measure in measures if measure.name in results}
    (folder / "results.json").write_text(json.dumps(kept, indent=1, ensure_ascii=False) + "\n")
    parts = [_HEAD, _goals(measures, results)]
    parts += [_section(each, results[each.name], folder) for each in measures if each.name in results]
    (docs / "benchmarks.md").write_text("\n".join(parts))


def tables(found: Sequence[Series]) -> str:
    """Figures as tables in Markdown: the median, and in brackets the least and the most."""
    figures = [each for each in found if each.unit != RATIO]
    ratios = [each for each in found if each.unit == RATIO]
    return "\n\n".join(_table(part) for part in (figures, ratios) if part)


def _table(found: Sequence[Series]) -> str:
    shown = {(each.subject, _kind(each)): _spread(each) for each in found}
    subjects = list(dict.fromkeys(each.subject for each in found))
    kinds = list(dict.fromkeys(_kind(each) for each in found))
    if len(kinds) < len(subjects):
        rows = [[subject, *(shown.get((subject, kind), "") for kind in kinds)] for subject in subjects]
        return _markdown(["", *kinds], rows)
    rows = [[kind, *(shown.get((subject, kind), "") for subject in subjects)] for kind in kinds]
    return _markdown(["", *subjects], rows)


def _kind(each: Series) -> str:
    return f"{each.quantity}, {each.unit}" if each.unit else each.quantity


def _spread(each: Series) -> str:
    if len(each.values) == 1:
        return _number(each.median)
    return f"{_number(each.median)} ({_number(min(each.values))} to {_number(max(each.values))})"


def _markdown(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [head, ["---", *["--:"] * (len(head) - 1)], *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _goals(measures: Sequence[Measure], results: Mapping[str, Result]) -> str:
    """What was to be reached, and what was."""
    rows = []
    for measure in measures:
        for goal in measure.goals:
            found = _found(goal, results.get(measure.name))
            value = "not measured" if found is None else _spread(found)
            unit = "" if found is None else found.unit
            reached = "" if found is None else "yes" if goal.is_reached(found.median) else "no"
            rows.append([f"{goal.subject}: {goal.quantity}", str(goal), value, unit, reached])
    return "## The goals\n\n" + _markdown(["", "goal", "median", "", "reached"], rows) + "\n"


def _found(goal: Goal, result: Result | None) -> Series | None:
    for each in result.series if result is not None else ():
        if (each.subject, each.quantity) == (goal.subject, goal.quantity):
            return each
    return None


def _section(measure: Measure, result: Result, folder: Path) -> str:
    lines = [f"## {measure.title}", "", measure.text, ""]
    if measure.plot is not None:
        drawn = [each for each in result.series if each.quantity == measure.plot and each.unit != RATIO]
        name = f"{measure.name}.svg"
        (folder / name).write_text(bars(f"{measure.title}: {measure.plot}", drawn, ours="idiolectd"))
        lines += [f"![{measure.plot}](benchmarks/{name})", ""]
    lines += [tables(result.series), ""]
    lines += [measure.limits, ""] if measure.limits else []
    lines += [f"Not measured: {subject}: {why}\n" for subject, why in result.missing.items()]
    rounds = max((len(each.values) for each in result.series), default=0)
    return "\n".join(
        [*lines, f"{rounds} {'rounds' if rounds > 1 else 'round'}. {_where(result.circumstances)}\n"]
    )


def _where(at: Circumstances) -> str:
    code = f"{at.date}, commit {at.commit}, {at.software}."
    return f"{code} {at.processor}, {at.memory}, {at.system}; load before it {at.load}."


def _number(value: float) -> str:
    """Three digits that count, and no exponent."""
    if value == 0:
        return "0"
    if abs(value) >= 100:
        return f"{value:,.0f}"
    return f"{value:.3g}"
