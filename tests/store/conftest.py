"""The three stores; a test that asks for `opened` runs with each."""

from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from idiolectd.ports import SharedStore
from tests.store.support import Opener, opener


@pytest.fixture(params=["memory", "files", "sqlite"])
def kind(request: pytest.FixtureRequest) -> str:
    """Which store."""
    return str(request.param)


@pytest.fixture(params=["files", "sqlite"])
def shared_kind(request: pytest.FixtureRequest) -> str:
    """Which of the stores that several processes can share."""
    return str(request.param)


@pytest.fixture
def public_path() -> Iterator[Path]:
    """A folder that other users can reach: every run of pytest closes those above `tmp_path` to them."""
    with TemporaryDirectory(prefix="idiolectd-tests-", dir="/tmp") as folder:
        path = Path(folder)
        path.chmod(0o755)
        yield path


@pytest.fixture
def opening(kind: str, tmp_path: Path) -> Opener:
    """Opens a store of any kind."""
    return opener(kind, tmp_path)


@pytest.fixture
def opening_shared(shared_kind: str, tmp_path: Path) -> Opener:
    """Opens the same shared store as often as it is called."""
    return opener(shared_kind, tmp_path)


@pytest.fixture
async def store(opening: Opener, anyio_backend: str) -> AsyncIterator[SharedStore]:
    """An empty open store of any kind."""
    async with opening() as opened:
        yield opened


@pytest.fixture
async def shared(opening_shared: Opener, anyio_backend: str) -> AsyncIterator[SharedStore]:
    """An empty open store that other processes could share."""
    async with opening_shared() as opened:
        yield opened
