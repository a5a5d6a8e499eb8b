"""Whether there is room for what a refresh brings."""

from pathlib import Path

import pytest

from idiolectd.errors import StoreError
from idiolectd.store.room import ensure_room


@pytest.mark.skipif(not Path("/proc/self").exists(), reason="needs a file system that is always full")
def test_a_full_file_system_has_no_room(tmp_path: Path) -> None:
    """Less than what a refresh brings is an error that says how much is left where; more is none."""
    with pytest.raises(StoreError, match="only 0 KiB are free on /proc"):
        ensure_room(Path("/proc"))
    ensure_room(tmp_path)
