"""The benchmarks work: what they measure did what it should, once. How fast it was is nobody's business here."""

from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from xml.etree import ElementTree

import pytest

from bench.__main__ import MEASURES
from bench.day import simulate
from bench.errors import BenchError
from bench.machine import circumstances
from bench.measuring import Figure, Measure, Size, Workshop, measure
from bench.peers import FLOOR_H11, FLOOR_RAW, NAIVE
from bench.refreshes import DAEMON, WRITTEN, Kind, daemon, peer
from bench.report import Result, read_results, write_report

KNOWN = {each.name: each for each in MEASURES}

SMALL = Size(rounds=1, warm=16, refreshes=160, sessions=(60,), requests=20, idle=0.5, patience=60.0)


@pytest.fixture
def workshop(tmp_path: Path) -> Workshop:
    return Workshop(SMALL, tmp_path)


def by_subject(figures: Iterable[Figure]) -> dict[str, dict[str, float]]:
    found: dict[str, dict[str, float]] = defaultdict(dict)
    for figure in figures:
        found[figure.subject][figure.quantity] = figure.value
    return found


@pytest.mark.slow
def test_the_daemon_and_its_peers(workshop: Workshop) -> None:
    """Each refreshes every session once, which the measure itself makes sure of, and writes it down."""
    found = by_subject(
        figure
        for run in (
            daemon(DAEMON, workshop, Kind(is_secured=True)),
            *(peer(workshop, other) for other in (FLOOR_RAW, FLOOR_H11, NAIVE)),
        )
        for figure in run
    )
    assert set(found) == {DAEMON, FLOOR_RAW.name, FLOOR_H11.name, NAIVE.name}
    for subject, quantities in found.items():
        assert quantities["requests per refresh"] == pytest.approx(1, abs=0.5), subject
        assert quantities[WRITTEN] > 0, subject


@pytest.mark.slow
def test_a_store_of_many(workshop: Workshop) -> None:
    """The daemon sees all of a foreign store and refreshes what is due; the commands answer beside it."""
    found = by_subject(KNOWN["many"].run(workshop))["60 sessions"]
    assert found["first start: refreshing"] <= found["first start: the 6 due refreshed"]
    assert {f"{name}: time" for name in ("status", "list", "status HANDLE", "refresh HANDLE")} <= set(found)
    assert not workshop.missing


def test_a_round_that_goes_wrong_is_told_and_the_others_go_on(workshop: Workshop) -> None:
    """What was found in it before it went wrong stays."""
    rounds = iter(range(2))

    def run(_workshop: Workshop) -> Iterator[Figure]:
        number = next(rounds)
        yield Figure("somebody", "something", number, "s")
        if number == 0:
            raise BenchError("a replay")

    workshop.size = replace(SMALL, rounds=2)
    (found,) = measure(Measure("odd", "Odd", "", run), workshop, lambda _: None)
    assert found.values == [0, 1]
    assert workshop.failed == ["odd, round 1: BenchError: a replay"]


def test_a_day() -> None:
    """Each of some sessions is refreshed through the day, and none is late on a clock that nobody waits for."""
    found = simulate(30)
    assert sum(found.minutes) > 30 * 28
    assert found.latest < 1


def test_a_report(workshop: Workshop, tmp_path: Path) -> None:
    """What was measured is written down, and read back to be written down again with what is measured later."""
    results: dict[str, Result] = {}
    at = circumstances(tmp_path)
    for name in ("auth", "load"):
        results[name] = Result(at, measure(KNOWN[name], workshop, lambda _: None), {"somebody": "no npm"})
        write_report(tmp_path, MEASURES, read_results(tmp_path / "benchmarks" / "results.json") | results)
    text = (tmp_path / "benchmarks.md").read_text()
    assert "somebody: no npm" in text
    for name in results:
        assert f"## {KNOWN[name].title}" in text
        ElementTree.parse(tmp_path / "benchmarks" / f"{name}.svg")
    assert read_results(tmp_path / "benchmarks" / "results.json") == results
