"""Tokens that the store would not take, kept in a second place until it does.

One file for each session, in a private folder that should lie on another file system than the store
(the unit uses the runtime folder). A spill belongs to the token it replaces, named by its hash: it
is adopted by comparing hashes, never by comparing clocks, and is worthless once another token than
that one is stored.

Does not decide what a spill means; the room `refresh` does, under the claim.
"""

import hashlib
import json
from collections.abc import Iterator
from pathlib import Path

from idiolectd.errors import SessionError, StoreError
from idiolectd.finish import in_thread
from idiolectd.ports import Spilled
from idiolectd.session import OAuthSession
from idiolectd.store import durable
from idiolectd.store.trouble import translated

_VERSION = 1
_END = ".json"
_MAX_SPILL = 1024 * 1024
_WHY_WITHHELD = ("misfit", "unsaid")


class SpillFolder:
    """The second place. See `idiolectd.ports.Spill`.

    Args:
        path: the folder; made with mode 0700 when it is first needed.
    """

    def __init__(self, path: Path) -> None:
        self._path = path

    def __repr__(self) -> str:
        return f"<SpillFolder {self._path}>"

    async def put(self, spilled: Spilled) -> str:
        """Writes durably; returns the place, for a person."""
        await in_thread(self._put, spilled)
        return str(self._file(spilled.session.did))

    async def find(self, did: str) -> Spilled | None:
        """What is kept for a DID, if anything readable is."""
        return await in_thread(self._find, self._file(did))

    async def remove(self, did: str) -> None:
        """Forgets what is kept for a DID."""
        await in_thread(self._remove, did)

    async def dids(self) -> list[str]:
        """Whose tokens are kept here."""
        return await in_thread(lambda: sorted(found.session.did for found in self._all()))

    def _file(self, did: str) -> Path:
        # A DID can be longer than a file name.
        return self._path / (hashlib.sha256(did.encode()).hexdigest()[:40] + _END)

    def _put(self, spilled: Spilled) -> None:
        text = json.dumps(
            {
                "version": _VERSION,
                "predecessor": spilled.predecessor,
                "session": json.loads(spilled.session.to_json()),
                **{name: getattr(spilled, name) for name in _WHY_WITHHELD if getattr(spilled, name)},
            }
        )
        with translated(f"can't write {self._path}"):
            durable.make_private_folder(self._path)
            durable.replace_file(self._file(spilled.session.did), text.encode())

    def _find(self, path: Path) -> Spilled | None:
        with translated(f"can't read {path}"):
            try:
                with path.open("rb") as file:
                    raw = json.loads(file.read(_MAX_SPILL))
                if raw["version"] != _VERSION or not isinstance(raw["predecessor"], str):
                    return None
                why = {name: raw[name] for name in _WHY_WITHHELD if isinstance(raw.get(name), str)}
                return Spilled(raw["predecessor"], OAuthSession.from_json(json.dumps(raw["session"])), **why)
            except (FileNotFoundError, NotADirectoryError):
                return None
            except (ValueError, KeyError, TypeError, RecursionError, SessionError):
                return None  # `replace_file` leaves no half of a file; this one is not ours

    def _remove(self, did: str) -> None:
        with translated(f"can't remove {self._file(did)}"):
            durable.remove(self._file(did))

    def _all(self) -> Iterator[Spilled]:
        try:
            paths = sorted(self._path.glob(f"*{_END}"))
        except OSError as error:
            raise StoreError(f"can't read {self._path}: {error.strerror}") from error
        for path in paths:
            found = self._find(path)
            if found is not None:
                yield found
