"""Who is the daemon of a store."""

from pathlib import Path

import pytest

from idiolectd.daemon.single_instance import hold_single_instance
from idiolectd.errors import LockBusy


def test_a_store_has_one_daemon(tmp_path: Path) -> None:
    """Whoever comes second is refused, and may come when the first has gone."""
    busy = pytest.raises(LockBusy, match="another idiolectd")
    with hold_single_instance(tmp_path / "run"), busy, hold_single_instance(tmp_path / "run"):
        pass
    with hold_single_instance(tmp_path / "run"):
        pass
