"""The short version of `kills`."""

from pathlib import Path

import pytest

from tests.torture.kills import SHORT, Plan, run

pytestmark = [pytest.mark.slow, pytest.mark.torture, pytest.mark.timeout(400)]


def test_nothing_is_lost_but_what_never_became_durable(tmp_path: Path) -> None:
    """Sixty kills under load: a session is called lost if and only if its last rotation died with a daemon."""
    assert run(Plan(kills=SHORT, minutes=5, seed=1), tmp_path) == 0
