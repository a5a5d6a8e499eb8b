"""`SessionAuth` against the real PDS, the session rotating all the time: `tests.torture.clients`, short."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.real_pds.harness import RealPds
from tests.real_pds.marks import needs_pds
from tests.torture.clients import SHORT, Plan, pds_for_clients, run
from tests.torture.common import Promises

pytestmark = needs_pds(seconds=300)


@pytest.fixture(scope="module")
def pds(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RealPds]:
    with pds_for_clients(tmp_path_factory.mktemp("pds")) as running:
        yield running


@pytest.mark.parametrize("number", range(len(SHORT)), ids=[plan.name for plan in SHORT])
def test_clients_live_through_rotations(pds: RealPds, tmp_path: Path, number: int) -> None:
    """Eight processes call without pause over forced rotations: none fails; without the wait some do."""
    plan: Plan = SHORT[number]
    promises = Promises()
    print(run(pds, plan, tmp_path, promises, account=number))
    assert promises.conclude() == 0
