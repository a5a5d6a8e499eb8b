"""Who may read a store's records: nobody but its owner, or a group."""

import grp

from idiolectd.errors import StoreError
from idiolectd.store.durable import PRIVATE, Access


def record_access(group: str | None) -> Access:
    """Group members may read, never write.

    Raises:
        StoreError: there is no such group.
    """
    if group is None:
        return PRIVATE
    try:
        return Access(0o640, grp.getgrnam(group).gr_gid)
    except KeyError:
        raise StoreError(f"there is no group {group!r} (store.group); make it, or name another") from None
