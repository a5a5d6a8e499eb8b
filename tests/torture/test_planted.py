"""That the tests can fail: bugs planted by hand are caught."""

import subprocess
import sys
from pathlib import Path

import pytest

from tests.torture.planted import missing, unfit
from tests.torture.plants import PLANTS, Edit, MisfitError, plant_into, take_out


@pytest.mark.slow
@pytest.mark.torture
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


def test_each_plant_fits_the_code() -> None:
    """It is found, compiles, and changes what the code does: who moves code sees at once which it lost."""
    assert unfit(PLANTS) == []


@pytest.mark.slow
def test_each_plant_has_its_tests() -> None:
    """A test that is renamed takes its plants along."""
    assert missing(PLANTS) == []


@pytest.mark.parametrize("text", ["a = 1\n", "", "b = 1\nb = 1\n"])
def test_a_plant_that_does_not_fit_changes_nothing(tmp_path: Path, text: str) -> None:
    """An old text that is missing, or there twice, is an error that names it."""
    (tmp_path / "room.py").write_text(text)
    (tmp_path / "other.py").write_text("c = 1\n")
    with pytest.raises(MisfitError, match="b = 1"):
        plant_into(tmp_path, [Edit("other", "", "c = 1", "c = 2"), Edit("room", "", "b = 1", "b = 2")])
    assert [(tmp_path / name).read_text() for name in ("room.py", "other.py")] == [text, "c = 1\n"]


def test_a_plant_that_does_not_compile_changes_nothing(tmp_path: Path) -> None:
    """It does not fit either."""
    (tmp_path / "room.py").write_text("a = 1\n")
    with pytest.raises(MisfitError, match=r"room\.py does not compile"):
        plant_into(tmp_path, [Edit("room", "", "a = 1", "a = (1")])
    assert (tmp_path / "room.py").read_text() == "a = 1\n"


def test_a_plant_finds_its_function_in_a_package_and_is_taken_out_whole(tmp_path: Path) -> None:
    """A function that moves to another module keeps its plants; afterwards everything is as before."""
    (tmp_path / "room").mkdir()
    first, second = tmp_path / "room" / "first.py", tmp_path / "room" / "second.py"
    other, one = "def other() -> int:\n    return 1\n", "class A:\n    def one(self):\n        return {}\n"
    first.write_text(other)
    second.write_text(one.format(1))
    edits = [Edit("room", "A.one", "return 1", "return 2"), Edit("room", "A.one", "2", "3")]
    before = plant_into(tmp_path, edits)
    assert (first.read_text(), second.read_text()) == (other, one.format(3))
    take_out(before)
    assert (first.read_text(), second.read_text()) == (other, one.format(1))


def test_a_plant_finds_its_code_however_lines_are_broken(tmp_path: Path) -> None:
    """Comments and the formatter's last comma don't count; further lines are indented like the first one."""
    code = """
@cache
def one():
    with (
        # here
        open(  # and
            "a b",
        ) as é
    ):
        return é.read()
"""
    (tmp_path / "room.py").write_text(code)
    edits = [
        Edit("room", "one", 'open("a b")', 'open("c")'),
        Edit("room", "one", "cache", "lru_cache"),
        Edit("room", "one", "return é.read()", "é.close()\nreturn é.read()"),
    ]
    plant_into(tmp_path, edits)
    planted = (tmp_path / "room.py").read_text()
    assert 'open("c") as é' in planted
    assert "@lru_cache\n" in planted
    assert "        é.close()\n        return é.read()\n" in planted
