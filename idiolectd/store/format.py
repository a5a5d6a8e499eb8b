"""The version of what a store keeps beside the sessions, and who may touch it.

The records are upstream's and have no version. Ours is that of the refresh states, the tables, the spills
and the places and byte ranges of the locks, all together. New fields in a state or a note need no other
version: who does not know them leaves them out. A new version means that an older program would lose
something, or send what it must not: it says which release is needed, and changes nothing.

1: since 0.1.0, which did not write it down; `idiolectd.store.locks.claims` has the byte ranges.
"""

from idiolectd.errors import StoreError

FORMAT = 1

# The first release that understands it.
FORMAT_NEEDS = "0.1.0"


def check_format(version: object, needs: object, place: object) -> None:
    """Raises if a store is newer than this program.

    Args:
        version: what the store says; anything but a larger number is ours to read.
        needs: the release that the store says it needs.
        place: the store, for people.

    Raises:
        StoreError: says which release is needed.
    """
    if isinstance(version, int) and version > FORMAT:
        needed = needs.decode("ascii", "replace") if isinstance(needs, bytes) else str(needs)
        raise StoreError(
            f"{place} is of a newer format ({version}) than this program knows ({FORMAT}), and nothing in it was"
            f" changed: it needs idiolectd {needed[:20]!a} or newer"
        )
