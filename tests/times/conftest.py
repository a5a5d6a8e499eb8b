"""Virtual time, on trio."""

import pytest
import trio.testing


@pytest.fixture
def anyio_backend() -> tuple[str, dict[str, object]]:
    """Time jumps whenever everybody waits: a day takes a second."""
    return "trio", {"clock": trio.testing.MockClock(autojump_threshold=0)}
