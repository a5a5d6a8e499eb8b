"""The short version of `real_faults`."""

from pathlib import Path

import pytest

from tests.real_pds.marks import needs_pds
from tests.torture.real_faults import run

pytestmark = [*needs_pds(seconds=300), pytest.mark.torture]


def test_lost_answers_of_the_real_pds_are_recovered_or_named(tmp_path: Path) -> None:
    """Its answers and requests get lost, the daemon runs or is down: legacy lives, OAuth is classified."""
    assert run(tmp_path, full=False) == 0
