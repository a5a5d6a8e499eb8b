"""Keeps tokens that could not be saved in the store in a second place, until they can be.

Each session has one file in a private folder. The file names the hash of the token that its tokens replace: a
spill is adopted only while that token is the stored one, never by comparing times.

Everything here blocks and raises `OSError`: call it from a worker thread. `idiolectd.store.spill_places`
finds the folders of a store; `idiolectd.refresh` decides, under the claim, whether a spill is adopted.
"""

import hashlib
import json
import os
import re
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

from idiolectd.errors import SessionError
from idiolectd.ports import Spilled
from idiolectd.session import OAuthSession
from idiolectd.store import durable
from idiolectd.store.sealing import NO_KEYS, Keys

# The second one is for sealed tokens, which an older program must not send.
_CLEAR, _SEALED = 1, 2
_END = ".json"
_NAME = re.compile(r"[0-9a-f]{40}\.json", re.ASCII)
_MAX_SPILL = 1024 * 1024
# The file's keys, and the fields of `Spilled` that they stand for.
_WHY_WITHHELD = {"misfit": "mismatch", "unsaid": "unconfirmed"}


class SpillFolder:
    """One folder of spills; a missing one is an empty one.

    Args:
        path: as below.
        keys: seal and open the tokens.

    Attributes:
        path: where it is; made with mode 0700 when it is first needed.
    """

    def __init__(self, path: Path, keys: Keys = NO_KEYS) -> None:
        self.path = path
        self._keys = keys

    def __repr__(self) -> str:
        return f"<SpillFolder {self.path}>"

    def put(self, spilled: Spilled) -> Path:
        """Writes durably; returns the file."""
        text = json.dumps(
            {
                "version": _CLEAR if self._keys.sealing is None else _SEALED,
                "predecessor": spilled.previous_token_hash,
                "session": json.loads(self._keys.seal(spilled.session).to_json()),
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
        """The spill of a DID; None: there is none that can be read.

        Raises:
            SealedError: the keys don't open it.
        """
        path = self._file(did)
        found = self._read(path)
        return replace(found, session=self._keys.open(found.session, str(path))) if found else None

    def remove(self, did: str) -> None:
        """Removes the spill of a DID."""
        with suppress(NotADirectoryError):  # no folder, no file
            durable.remove(self._file(did))

    def copies(self) -> dict[str, bytes]:
        """What is kept here, as it lies there, by file name."""
        try:
            return {path.name: path.read_bytes() for path in sorted(self.path.glob(f"[!.]*{_END}"))}
        except (FileNotFoundError, NotADirectoryError):
            return {}

    def put_copy(self, name: str, text: bytes) -> None:
        """Puts back what `copies` gave, unless something is kept under this name.

        Raises:
            ValueError: it is no name of a spill.
        """
        if not _NAME.fullmatch(name):
            raise ValueError(name)
        durable.make_private_folder(self.path)
        if not (self.path / name).exists():
            durable.replace_file(self.path / name, text)

    def dids(self) -> list[str]:
        """The DIDs whose tokens are kept here."""
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
            if raw["version"] not in (_CLEAR, _SEALED) or not isinstance(raw["predecessor"], str):
                return None
            why = {name: raw[key] for key, name in _WHY_WITHHELD.items() if isinstance(raw.get(key), str)}
            return Spilled(raw["predecessor"], OAuthSession.from_json(json.dumps(raw["session"])), **why)
        except (FileNotFoundError, NotADirectoryError, IsADirectoryError):
            return None
        except (ValueError, KeyError, TypeError, RecursionError, SessionError):
            return None  # `replace_file` leaves no half of a file; this one is not ours
