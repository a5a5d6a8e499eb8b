"""That the tests can fail: bugs planted by hand are caught."""

import subprocess
import sys
from pathlib import Path

import pytest

from tests.torture.plants import PLANTS, Edit, MisfitError, plant_into, take_out


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_planted_bugs_are_caught() -> None:
    """A sample of the most important ones; `make torture` plants them all."""
    done = subprocess.run(
        [sys.executable, "-m", "tests.torture.planted", "--short"],
        capture_output=True,
        text=True,
        timeout=280,
        check=False,
    )
    print(done.stdout)
    assert done.returncode == 0, done.stdout[-6000:] + done.stderr[-3000:]


def test_plants_have_names_of_their_own() -> None:
    """A line of the table means one bug."""
    names = [plant.name for plant in PLANTS]
    assert len(names) == len(set(names))
    assert all(plant.edits and plant.caught_by for plant in PLANTS)


def test_each_promise_is_broken_by_a_plant() -> None:
    """There is none whose tests can't be shown to fail."""
    assert {plant.promise for plant in PLANTS} == set(range(1, 12))


@pytest.mark.parametrize("text", ["a = 1\n", "", "b = 1\nb = 1\n"])
def test_a_plant_that_does_not_fit_changes_nothing(tmp_path: Path, text: str) -> None:
    """An old text that is missing, or there twice, is an error that names it."""
    (tmp_path / "room.py").write_text(text)
    (tmp_path / "other.py").write_text("c = 1\n")
    with pytest.raises(MisfitError, match="b = 1"):
        plant_into(tmp_path, [Edit("other", "c = 1", "c = 2"), Edit("room", "b = 1", "b = 2")])
    assert [(tmp_path / name).read_text() for name in ("room.py", "other.py")] == [text, "c = 1\n"]


def test_a_plant_finds_its_text_in_a_package_and_is_taken_out_whole(tmp_path: Path) -> None:
    """A module that was split keeps its plants; afterwards everything is as before."""
    (tmp_path / "room").mkdir()
    first, second = tmp_path / "room" / "first.py", tmp_path / "room" / "second.py"
    first.write_text("a = 1\n")
    second.write_text("b = 1\n")
    before = plant_into(tmp_path, [Edit("room", "b = 1", "b = 2"), Edit("room", "b = 2", "b = 3")])
    assert (first.read_text(), second.read_text()) == ("a = 1\n", "b = 3\n")
    take_out(before)
    assert (first.read_text(), second.read_text()) == ("a = 1\n", "b = 1\n")
