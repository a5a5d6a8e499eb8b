"""What the tests of the room share as fixtures."""

import pytest


@pytest.fixture
def without_rest(monkeypatch: pytest.MonkeyPatch) -> None:
    """A connection is used again at once: for tests of what happens on the second use."""
    monkeypatch.setattr("idiolectd.http.origin_pools.REST_SECONDS", 0.0)
