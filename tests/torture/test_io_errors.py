"""Promise 5: a failed write loses nothing."""

import pytest

from tests.torture.running import run_short

pytestmark = [pytest.mark.slow, pytest.mark.torture, pytest.mark.timeout(300)]


def test_no_failing_file_operation_loses_tokens() -> None:
    """A sample of places and faults; `make torture` tries them all."""
    run_short("io_errors")
