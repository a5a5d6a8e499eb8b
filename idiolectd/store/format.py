"""The version of what a store keeps beside the sessions, and who may touch it.

The records are upstream's and have no version. Ours is that of the refresh states, the tables, the spills
and the places and byte ranges of the locks, all together. New fields in a state or a note need no other
version: who does not know them leaves them out. A new version means that an older program would lose
something, or send what it must not: it says which release is needed, and changes nothing.

1: since 0.1.0, which did not write it down; `idiolectd.store.locks.claims` has the byte ranges.
2: secrets may be sealed (`idiolectd.store.sealing`). A store is of this version from its first write with keys on:
   an older program would send sealed texts as tokens, and one without keys would put clear tokens beside them.
"""

from typing import NamedTuple

from idiolectd.errors import StoreError
from idiolectd.store.sealing import Keys

# The newest that this program knows.
FORMAT = 2


class Format(NamedTuple):
    """The format of one store.

    Attributes:
        version: see the module.
        needs: the first release that understands it.
    """

    version: int
    needs: str


_CLEAR, _SEALED = Format(1, "0.1.0"), Format(2, "0.5.0")


def format_to_write(version: object, keys: Keys, place: object) -> Format | None:
    """The format that a store gets before it is written to; None: the one that it has.

    Args:
        version: what the store says; None: nothing.
        keys: of whoever writes.
        place: the store, for people.

    Raises:
        StoreError: it is a sealed one, and there is no key to seal with.
    """
    is_sealed = version == _SEALED.version
    if is_sealed and keys.sealing is None:
        raise StoreError(
            f"{place} is sealed, and nothing is written to it without a key: name its keys in store.keys of the"
            " configuration"
        )
    if keys.sealing is not None:
        return None if is_sealed else _SEALED
    return _CLEAR if version is None else None


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
