"""The short version of `peers`."""

from pathlib import Path

import pytest

from tests import node
from tests.torture.common import Promises
from tests.torture.peers import SHORT, run

pytestmark = [pytest.mark.slow, pytest.mark.torture, pytest.mark.timeout(300)]


def test_clients_as_their_manuals_set_them_up(tmp_path: Path) -> None:
    """On the view no session is lost and no call fails; on the store itself one is lost."""
    node.node()
    promises = Promises()
    run(SHORT, tmp_path, promises)
    assert promises.conclude() == 0
