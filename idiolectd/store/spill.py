"""Tokens that the store would not take, kept in a second place until it does.

One file for each session in a private folder. A spill belongs to the token it replaces, named by its
hash: it is adopted by comparing hashes, never by comparing clocks, and is worthless once another token
than that one is stored.

Everything here blocks; call it from a worker thread. It raises `OSError`. Which folders belong to a
store, `idiolectd.store.spill_places` knows; what a spill means, the room `refresh` decides, under the claim.
"""

import hashlib
import json
import os
from contextlib import suppress
from pathlib import Path

from idiolectd.errors import SessionError
from idiolectd.ports import Spilled
from idiolectd.session import OAuthSession
from idiolectd.store import durable

_VERSION = 1
_END = ".json"
_MAX_SPILL = 1024 * 1024
# What the file calls them, and what `Spilled` does.
_WHY_WITHHELD = {"misfit": "mismatch", "unsaid": "unconfirmed"}


class SpillFolder:
    """One folder of spills; a missing one is an empty one.

    Attributes:
        path: where it is; made with mode 0700 when it is first needed.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    def __repr__(self) -> str:
        return f"<SpillFolder {self.path}>"

    def put(self, spilled: Spilled) -> Path:
        """Writes durably; returns the file."""
        text = json.dumps(
            {
                "version": _VERSION,
                "predecessor": spilled.previous_token_hash,
                "session": json.loads(spilled.session.to_json()),
                **{
                    key: getattr(spilled, name)
                    for key, name in _WHY_WITHHELD.items()
                    if getattr(spilled, name)
                },
            }
        )
        path = self._file(spilled.session.did)
        durable.make_private_folder(self.path)
        durable.replace_file(path, text.encode())
        return path

    def find(self, did: str) -> Spilled | None:
        """What is kept for a DID, if anything readable is."""
        return self._read(self._file(did))

    def remove(self, did: str) -> None:
        """Forgets what is kept for a DID."""
        with suppress(NotADirectoryError):  # no folder, no file
            durable.remove(self._file(did))

    def dids(self) -> list[str]:
        """Whose tokens are kept here."""
        try:
            with os.scandir(self.path) as entries:
                names = sorted(entry.name for entry in entries if entry.name.endswith(_END))
        except (FileNotFoundError, NotADirectoryError):
            return []
        found = [self._read(self.path / name) for name in names]
        return [spilled.session.did for spilled in found if spilled is not None]

    def _file(self, did: str) -> Path:
        # A DID can be longer than a file name.
        return self.path / (hashlib.sha256(did.encode()).hexdigest()[:40] + _END)

    @staticmethod
    def _read(path: Path) -> Spilled | None:
        try:
            with path.open("rb") as file:
                raw = json.loads(file.read(_MAX_SPILL))
            if raw["version"] != _VERSION or not isinstance(raw["predecessor"], str):
                return None
            why = {name: raw[key] for key, name in _WHY_WITHHELD.items() if isinstance(raw.get(key), str)}
            return Spilled(raw["predecessor"], OAuthSession.from_json(json.dumps(raw["session"])), **why)
        except (FileNotFoundError, NotADirectoryError, IsADirectoryError):
            return None
        except (ValueError, KeyError, TypeError, RecursionError, SessionError):
            return None  # `replace_file` leaves no half of a file; this one is not ours
