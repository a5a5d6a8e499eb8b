"""Refuses stores on file systems where kernel locks are unreliable.

On a network file system a lock may be visible to one host only, be dropped with the connection, or outlive
its holder, so claims there would protect nothing.
"""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from idiolectd.errors import StoreError
from idiolectd.store.error_translation import translated

_NETWORK = frozenset(
    {
        "9p",
        "afs",
        "beegfs",
        "ceph",
        "cifs",
        "coda",
        "gfs2",
        "glusterfs",
        "gpfs",
        "lustre",
        "ncpfs",
        "nfs",
        "nfs4",
        "ocfs2",
        "orangefs",
        "prl_fs",
        "pvfs2",
        "smb3",
        "smbfs",
        "vboxsf",
        "virtiofs",
        "vmhgfs",
    }
)
# FUSE file systems that only present local files. Any other may be a network file system, and is refused.
_LOCAL_FUSE = frozenset(
    {
        "fuse.bindfs",
        "fuse.cryfs",
        "fuse.encfs",
        "fuse.exfat",
        "fuse.fuse-overlayfs",
        "fuse.gocryptfs",
        "fuse.mergerfs",
        "fuse.ntfs-3g",
        "fuse.squashfuse",
        "fuse.zfs",
    }
)


class Mount(NamedTuple):
    """A line of ``/proc/self/mountinfo`` (proc_pid_mountinfo(5)), as far as it is used here."""

    device: str
    point: str
    kind: str


def refuse_network_file_system(folder: Path, mountinfo: Path = Path("/proc/self/mountinfo")) -> None:
    """Raises unless the folder lies on this host.

    Args:
        folder: an existing folder, its real path.
        mountinfo: the kernel's table of mounts.

    Raises:
        StoreError: it lies on a network file system, or that can't be told.
    """
    with translated(f"can't tell which file system {folder} lies on"):
        device = folder.stat().st_dev
        mounts = list(_parse(mountinfo.read_text(errors="surrogateescape")))
    name = f"{os.major(device)}:{os.minor(device)}"
    # By device, if it is listed (on btrfs, stat(2) names a device that isn't); then by the path.
    same_device = [mount for mount in mounts if mount.device == name and _holds(mount.point, folder)]
    above = same_device or [mount for mount in mounts if _holds(mount.point, folder)]
    if not above:
        raise StoreError(f"can't tell which file system {folder} lies on: {mountinfo} does not list it")
    # Of two mounts on one point the later hides the earlier.
    kind = max(enumerate(above), key=lambda item: (len(item[1].point), item[0]))[1].kind
    if kind in _NETWORK or (kind.startswith("fuse.") and kind not in _LOCAL_FUSE):
        raise StoreError(
            f"{folder} lies on {kind}, where locks between programs can't be relied on; "
            "move the store to a local disk"
        )


def _holds(point: str, folder: Path) -> bool:
    return folder.is_relative_to(point)


def _parse(text: str) -> Iterator[Mount]:
    for line in text.splitlines():
        # 36 35 98:0 /root /mount/point rw,noatime shared:1 - ext4 /dev/sda rw
        before, _, after = line.partition(" - ")
        fields = before.split(" ")
        if len(fields) >= 5 and after:
            yield Mount(fields[2], _unescape(fields[4]), after.split(" ")[0])


def _unescape(text: str) -> str:
    for escape, character in (("\\040", " "), ("\\011", "\t"), ("\\012", "\n"), ("\\134", "\\")):
        text = text.replace(escape, character)
    return text
