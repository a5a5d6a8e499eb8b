"""Notices that a store was put back by hand: an older copy of it lies where it was, and knows nothing of what it missed.

A number grows with the store's changes and lies in it, so a copy that is put back brings an older one. Witnesses
outside of what is copied together know the newest: a file beside the database, and one in each of the store's spill
folders. If one of them knows a larger number than the store does, the store is an old copy, and everything issued
before that moment may have been used up since. Nothing here says so of a store that was moved, or is new here:
there is no witness then.

Everything here blocks; a witness that can't be read or written is as if it were not there.
"""

import json
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from idiolectd.store.durable import make_private_folder, replace_file

_WITNESS = "changes"
_PUT_BACK = "put_back.json"


class Witnesses:
    """The witnesses of one store.

    Args:
        runtime_dir: the store's private folder.
        folders: where the witnesses lie.
    """

    def __init__(self, runtime_dir: Path, folders: Sequence[Path]) -> None:
        self._put_back = runtime_dir / _PUT_BACK
        self._files = [folder / _WITNESS for folder in folders]
        self._told = 0

    def newest(self) -> int:
        """The largest number that is known; 0: there is no witness. Read it before the store's own."""
        return max(map(read_number, self._files), default=0)

    def tell(self, number: int) -> None:
        """Lets the witnesses know the store's number."""
        if number != self._told:
            for file in self._files:
                with suppress(OSError):
                    replace_file(file, str(number).encode())
            self._told = number

    def remember(self, number: int, now: float) -> None:
        """The store was put back, and this is its number: durable before the witnesses forget the newer one.

        Raises:
            OSError: it can't be written.
        """
        make_private_folder(self._put_back.parent)
        replace_file(self._put_back, json.dumps({"version": 1, "at": now}).encode())
        self.tell(number)

    def put_back_at(self) -> float | None:
        """When it was last noticed that the store was put back, in seconds since the epoch; None: never."""
        return read_put_back(self._put_back.parent)


def read_put_back(runtime_dir: Path) -> float | None:
    """As `Witnesses.put_back_at`, of the store with this private folder."""
    with suppress(OSError, ValueError, KeyError, TypeError):
        return float(json.loads((runtime_dir / _PUT_BACK).read_bytes())["at"])
    return None


def read_number(file: Path) -> int:
    """The number in a file; 0: there is none."""
    with suppress(OSError, ValueError):
        return int(file.read_bytes())
    return 0
