"""Each kind of httpx client; a world for each test."""

from pathlib import Path

import pytest

from tests.auth.support import WAYS, Way, World


@pytest.fixture(params=WAYS)
def way(request: pytest.FixtureRequest) -> Way:
    """Which client uses the session: on asyncio, on trio, or without an event loop."""
    found: Way = request.param
    return found


@pytest.fixture
def world(tmp_path: Path) -> World:
    """A DPoP session."""
    return World(tmp_path / "store")


@pytest.fixture
def legacy(tmp_path: Path) -> World:
    """An app-password session."""
    return World(tmp_path / "store", kind="bearer")
