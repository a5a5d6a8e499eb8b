"""Promise 3: a crash anywhere leaves the old session, the new session, or a note of what is unknown."""

import pytest

from tests.torture.running import run_short

pytestmark = [pytest.mark.slow, pytest.mark.torture, pytest.mark.timeout(300)]


def test_a_kill_before_any_system_call_loses_nothing() -> None:
    """A sample of the boundaries; `make torture` tries them all."""
    run_short("boundaries")
