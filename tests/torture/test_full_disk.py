"""Promise 5, on a real file system without room."""

import pytest

from tests.torture.running import run_short

pytestmark = [pytest.mark.slow, pytest.mark.torture, pytest.mark.timeout(300)]


def test_sessions_survive_a_disk_without_room() -> None:
    """Full, read-only, and full at the moment when answers come: every session works afterwards."""
    run_short("full_disk")
