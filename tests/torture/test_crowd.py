"""The short version of `crowd`."""

from pathlib import Path

import pytest

from tests.torture.common import Promises
from tests.torture.crowd import MEETING, SHORT, run
from tests.torture.stores import STORE_KINDS, StoreKind

pytestmark = [pytest.mark.slow, pytest.mark.torture, pytest.mark.timeout(300)]


@pytest.mark.parametrize("kind", STORE_KINDS)
def test_one_of_a_crowd_refreshes(kind: StoreKind, tmp_path: Path) -> None:
    """Eight processes, forty sessions, three generations: one consumption for each, and nothing sent twice."""
    promises = Promises()
    run(SHORT, kind, tmp_path, promises, seed=1)
    assert promises.conclude() == 0


@pytest.mark.parametrize("kind", STORE_KINDS)
def test_sixteen_processes_send_one_token_a_generation(kind: StoreKind, tmp_path: Path) -> None:
    """A hundred times: one process refreshes, fifteen find it done, the server sees one request."""
    promises = Promises()
    run(MEETING, kind, tmp_path, promises, seed=1)
    assert promises.conclude() == 0
