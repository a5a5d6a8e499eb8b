"""Fixtures of pytest; name this module in a ``conftest.py``: ``pytest_plugins = ["idiolectd.testing.fixtures"]``."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from idiolectd.testing.fake_pds import FakeAccount, FakePds
from idiolectd.testing.stores import MemoryStore, write_session


@pytest.fixture
def fake_pds() -> Iterator[FakePds]:
    """A PDS on a port of 127.0.0.1."""
    with FakePds() as pds:
        yield pds


@pytest.fixture
def fake_account(fake_pds: FakePds) -> FakeAccount:
    """An account there, ``alice.test``, with an OAuth session."""
    return fake_pds.add_account("alice.test")


@pytest.fixture
def session_store(fake_account: FakeAccount) -> MemoryStore:
    """A store in memory that holds its session."""
    return MemoryStore(fake_account.session)


@pytest.fixture
def session_store_url(fake_account: FakeAccount, tmp_path: Path) -> str:
    """The URL of a store on disk that holds its session, for programs that are given one."""
    return write_session(tmp_path / "sessions", fake_account.session)
