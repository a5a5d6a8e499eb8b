"""Each kind of httpx client; a house for each test."""

from pathlib import Path

import pytest

from tests.auth.support import WAYS, House, Way


@pytest.fixture(params=WAYS)
def way(request: pytest.FixtureRequest) -> Way:
    """Which client uses the session: on asyncio, on trio, or without an event loop."""
    found: Way = request.param
    return found


@pytest.fixture
def house(tmp_path: Path) -> House:
    """A DPoP session."""
    return House(tmp_path / "store")


@pytest.fixture
def legacy(tmp_path: Path) -> House:
    """An app-password session."""
    return House(tmp_path / "store", kind="bearer")
