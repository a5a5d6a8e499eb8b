"""What one refresh may cost at most, in what can be counted: seconds differ from machine to machine, these don't."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from bench.counting import files_counts, sqlite_counts
from bench.measuring import QUICK, Figure, Workshop

# Of a warm refresh of a DPoP session, with nothing else under way: what was counted when the bound was last set,
# and a little more. Whoever makes it less lowers the bound; see `bench.counted`.
SQLITE = {
    "calls": 2800,
    "hops": 9.5,
    "statements": 16.5,
    "texts": 17,
    "URLs": 8,
    "written": 41,  # KiB
    "syncs": 2.2,
    "locks": 30,
}
FILES = {
    "calls": 4200,
    "hops": 16,
    "texts": 24,
    "URLs": 8,
    "written": 20,  # KiB
    "syncs": 6.2,
    "locks": 15,
}

# The note before the request and the tokens after it; see promise 3. In files: a new state and its folder, then
# state and record with a folder each.
SQLITE_SYNCS, FILES_SYNCS = 2, 6


@pytest.mark.slow
@pytest.mark.parametrize(
    ("counts", "at_most", "syncs"),
    [
        pytest.param(sqlite_counts, SQLITE, SQLITE_SYNCS, id="sqlite"),
        pytest.param(files_counts, FILES, FILES_SYNCS, id="files"),
    ],
)
def test_a_refresh_costs_no_more_than_it_did(
    tmp_path: Path, counts: Callable[[Workshop], Iterator[Figure]], at_most: dict[str, float], syncs: int
) -> None:
    """Nothing of it has grown unnoticed."""
    found = {
        figure.quantity.removesuffix(" per refresh"): figure.value
        for figure in counts(Workshop(QUICK, tmp_path))
    }
    assert found.keys() == at_most.keys()
    assert all(found.values()), "something is not counted any more"
    assert found["syncs"] >= syncs
    grown = {what: count for what, count in found.items() if count > at_most[what]}
    assert not grown, f"more than {at_most}"
