"""Whether there is room for what a refresh brings."""

import resource
from pathlib import Path

import pytest

from idiolectd.errors import StoreError
from idiolectd.store import disk_space
from idiolectd.store.disk_space import DESCRIPTORS, RoomCheck, ensure_room


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
    free = [number for number in range(1000) if str(number) not in before]
    resource.setrlimit(resource.RLIMIT_NOFILE, (free[DESCRIPTORS // 2], hard))
    try:
        with pytest.raises(StoreError, match=r"fewer than 16 files can be opened still.*raise the limit"):
            ensure_room(tmp_path)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    ensure_room(tmp_path)
    # Another test's may be closed meanwhile; nothing may have been added.
    assert {entry.name for entry in Path("/proc/self/fd").iterdir()} <= before


@pytest.mark.anyio
async def test_one_look_counts_for_as_many_as_it_found_room_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The disk is looked at again when the room that was seen is given away; the rest once a second."""
    monkeypatch.setattr(disk_space, "_GOOD_FOR", 3600.0)
    looks: list[int] = []
    room = RoomCheck(tmp_path, also=lambda: looks.append(1))
    for _ in range(2 * disk_space._REFRESHES + 1):
        await room.ensure()
    enough = disk_space.ROOM
    monkeypatch.setattr(disk_space, "ROOM", 1 << 62)
    for _ in range(disk_space._REFRESHES - 1):  # the room was seen before
        await room.ensure()
    for _ in range(2):
        with pytest.raises(StoreError, match="no refresh is sent"):
            await room.ensure()
    monkeypatch.setattr(disk_space, "_ROOM_EACH", 1 << 62)
    monkeypatch.setattr(disk_space, "ROOM", enough)
    await room.ensure()  # room for one
    monkeypatch.setattr(disk_space, "ROOM", 1 << 62)
    with pytest.raises(StoreError, match="no refresh is sent"):
        await room.ensure()
    assert len(looks) == 1
