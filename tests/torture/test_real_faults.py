"""The short version of `real_faults`."""

from pathlib import Path

import pytest

from tests.real_pds.harness import why_not
from tests.torture.real_faults import run

REASON = why_not()
pytestmark = [
    pytest.mark.real_pds,
    pytest.mark.slow,
    pytest.mark.timeout(300),
    pytest.mark.skipif(REASON is not None, reason=str(REASON)),
]


def test_lost_answers_of_the_real_pds_are_recovered_or_named(tmp_path: Path) -> None:
    """Its answers and requests get lost, the daemon runs or is down: legacy lives, OAuth is classified."""
    assert run(tmp_path, full=False) == 0
