"""Reads a folder of sessions without an event loop. See `idiolectd.store.reading`."""

import os
from pathlib import Path
from typing import TYPE_CHECKING

from idiolectd.did import parse_did
from idiolectd.errors import StoreError
from idiolectd.store.access import RecordAccess
from idiolectd.store.error_translation import translated
from idiolectd.store.files.folder import Folder
from idiolectd.store.record_text import KnownRecord
from idiolectd.store.sealing import NO_KEYS, Keys
from idiolectd.store.telling import refusals_place
from idiolectd.store_url import StoreUrl

if TYPE_CHECKING:
    from idiolectd.ports import Called
    from idiolectd.state import RefreshState


class FolderReading:
    """Reads a folder of sessions. See `idiolectd.store.reading.Reading`.

    Args:
        path: the folder.
        keys: open secrets.
    """

    def __init__(self, path: Path, *, keys: Keys = NO_KEYS) -> None:
        self.url = str(StoreUrl("file", path))
        self._path = path
        self._keys = keys
        self._opened: Folder | None = None

    def __repr__(self) -> str:
        return f"<FolderReading {self.url}>"

    @property
    def runtime_dir(self) -> Path | None:
        """See `Reading.runtime_dir`."""
        return self._folder().runtime_dir

    @property
    def refusals(self) -> Path:
        """See `Reading.refusals`."""
        return refusals_place(self._path, is_folder=True)

    def record(
        self, did: str, known: KnownRecord | None = None, *, waiting: bool = False
    ) -> KnownRecord | None:
        """See `Reading.record`. Records are replaced whole: there is nobody to wait for."""
        with translated(f"can't load {did} from {self.url}"):
            found = self._folder().locate(parse_did(did), known)
            session = found.readable()
            if session is None or found.content is None:
                return None
            if known is not None and session is known.session:
                return known
            return KnownRecord(found.content.text, session)

    def state(self, did: str, now: float) -> "RefreshState":
        """See `Reading.state`."""
        with translated(f"can't read {did} from {self.url}"):
            return self._folder().state(parse_did(did), now)

    def called(self, handle: str) -> "Called":
        """See `Reading.called`."""
        # Not before they are needed: most clients name a DID.
        from idiolectd.ports import Called
        from idiolectd.store.files.folder_index import FolderIndex

        return Called(FolderIndex(self._folder().runtime_dir).find(handle))

    def dids(self) -> list[str]:
        """See `Reading.dids`."""
        with translated(f"can't list {self.url}"):
            return self._folder().survey().dids

    def _folder(self) -> Folder:
        # Kept: it remembers which folder it was, so that an unmounted disk is not "no session".
        if self._opened is None:
            with translated(f"can't open {self._path}"):
                root = Path(os.path.realpath(self._path))
                if root.is_file():
                    raise StoreError(
                        f"{root} is a file, and a filesystem store is a folder; is it sqlite:///PATH?"
                    )
                self._opened = Folder(root, RecordAccess(None), viewed=True, keys=self._keys)
        return self._opened
