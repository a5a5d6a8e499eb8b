"""That the tests can fail: bugs planted by hand are caught."""

from pathlib import Path

import pytest

from tests.torture.plants import PLANTS, Edit, MisfitError, plant_into, take_out
from tests.torture.running import run_short


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_planted_bugs_are_caught() -> None:
    """A sample of the most important ones; `make torture` plants them all."""
    run_short("planted")


def test_plants_have_names_of_their_own() -> None:
    """A line of the table means one bug."""
    names = [plant.name for plant in PLANTS]
    assert len(names) == len(set(names))
    assert all(1 <= plant.promise <= 10 and plant.edits and plant.caught_by for plant in PLANTS)


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
