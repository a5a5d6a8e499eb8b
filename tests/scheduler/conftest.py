"""The scheduler's tests run on trio, with virtual time."""

import pytest
import trio.testing


@pytest.fixture
def anyio_backend() -> tuple[str, dict[str, object]]:
    """Time jumps whenever everybody waits: a week takes seconds."""
    return "trio", {"clock": trio.testing.MockClock(autojump_threshold=0)}
