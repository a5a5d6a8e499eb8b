"""Promise 3, and a power cut: what was promised is on the disk, and never half of it."""

import pytest

from tests.torture.running import run_short

pytestmark = [pytest.mark.slow, pytest.mark.torture, pytest.mark.timeout(300)]


def test_a_power_cut_leaves_the_old_or_the_new_session() -> None:
    """Every state that the disk may be in after each file operation of a save, a refresh, a delete."""
    run_short("powercut")
