"""Whether there is room for what a refresh brings."""

import resource
from pathlib import Path

import pytest

from idiolectd.errors import StoreError
from idiolectd.store.disk_space import DESCRIPTORS, ensure_room


@pytest.mark.skipif(not Path("/proc/self").exists(), reason="needs a file system that is always full")
def test_a_full_file_system_has_no_room(tmp_path: Path) -> None:
    """Less than what a refresh brings is an error that says how much is left where; more is none."""
    with pytest.raises(StoreError, match="only 0 KiB are free on /proc"):
        ensure_room(Path("/proc"))
    ensure_room(tmp_path)


def test_without_descriptors_there_is_no_room(tmp_path: Path) -> None:
    """Fewer than what a commit needs are an error that says what to do; nothing stays open."""
    before = {entry.name for entry in Path("/proc/self/fd").iterdir()}
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(map(int, before)) + DESCRIPTORS // 2, hard))
    try:
        with pytest.raises(StoreError, match=r"fewer than 16 files can be opened still.*raise the limit"):
            ensure_room(tmp_path)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    ensure_room(tmp_path)
    assert {entry.name for entry in Path("/proc/self/fd").iterdir()} == before
