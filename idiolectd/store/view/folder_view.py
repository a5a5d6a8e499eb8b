"""The view as a folder: one JSON file a DID, named as a filesystem store names its records.

Everything here blocks, and raises `OSError`. Files are replaced whole; nothing is made durable, because all of it
is written anew at the next start.
"""

import os
import secrets
import stat
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

from idiolectd.did import file_name
from idiolectd.errors import DidError
from idiolectd.store.access import RecordAccess
from idiolectd.store.durable import Access, grant
from idiolectd.store.files.file_names import did_of
from idiolectd.store.telling import refusals_place
from idiolectd.store.view.refusals import Refusals

# Tells a reader that the folder holds no refresh tokens, so that an empty ``refreshJwt`` is no damage.
MARKER = ".idiolectd-view"
_MARK = b'{"version":1}\n'

_TEMPORARY = ".idiolectd-"
_TEMPORARY_END = ".tmp"


class FolderView:
    """Writes a view.

    Args:
        root: the folder; made if it is not there.
        access: who may read it.

    Attributes:
        refusals: where its readers say that a token is refused.
    """

    def __init__(self, root: Path, access: RecordAccess) -> None:
        self.root = root
        self._access = access
        self.refusals = Refusals(refusals_place(root, is_folder=True), access)

    @property
    def place(self) -> Path:
        """Where it is, for people."""
        return self.root

    def __repr__(self) -> str:
        return f"<FolderView {self.root}>"

    def open(self) -> None:
        """Makes the folder and gives it and its entries to whom they belong.

        Raises:
            OSError: it can't be written, is no folder, or is another user's.
        """
        with suppress(FileExistsError):
            self.root.mkdir(0o700, parents=True)
        access = self._access.within(self.root)
        fd = os.open(self.root, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
        try:
            if os.fstat(fd).st_uid != os.geteuid():  # whoever owns it could put entries of his own there
                raise PermissionError(1, "belongs to another user", str(self.root))
            grant(fd, Access(0o2750 if access.mode & stat.S_IRGRP else 0o700, access.gid))
        finally:
            os.close(fd)
        for name in self._names():
            if name.startswith(_TEMPORARY) and name.endswith(_TEMPORARY_END):  # a killed writer's
                self._remove(name)
        self._put(MARKER, _MARK)

    def write(self, entries: Mapping[str, bytes | None]) -> dict[str, str]:
        """Replaces the entries of some DIDs, and removes those that are None.

        Returns:
            Why an entry can't be in this view, by DID, for those that can't.

        Raises:
            OSError: the folder can't be written.
        """
        refused = {}
        for did, entry in entries.items():
            try:
                name = file_name(did)
            except DidError as error:  # too long for a file
                refused[did] = str(error)
                continue
            if entry is None:
                self._remove(name)
            else:
                self._put(name, entry)
        return refused

    def left_over(self) -> list[str]:
        """The DIDs of entries that were not written since `open`; by the file system's clock, so not for sure."""
        opened = (self.root / MARKER).stat().st_ctime_ns
        with os.scandir(self.root) as entries:
            names = [
                entry.name for entry in entries if entry.stat(follow_symlinks=False).st_ctime_ns < opened
            ]
        return [did for name in names if (did := did_of(name)) is not None]

    def close(self) -> None:
        """Leaves everything as it is: clients go on reading while the daemon restarts."""

    def _names(self) -> list[str]:
        with os.scandir(self.root) as entries:
            return [
                entry.name for entry in entries if stat.S_ISREG(entry.stat(follow_symlinks=False).st_mode)
            ]

    def _put(self, name: str, data: bytes) -> None:
        temporary = self.root / f"{_TEMPORARY}{secrets.token_hex(8)}{_TEMPORARY_END}"
        fd = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        try:
            with open(fd, "wb") as file:  # noqa: PTH123 - of a descriptor
                file.write(data)
                file.flush()
                grant(file.fileno(), self._access.within(self.root))
            temporary.rename(self.root / name)
        except BaseException:
            with suppress(OSError):
                temporary.unlink()
            raise

    def _remove(self, name: str) -> None:
        with suppress(FileNotFoundError):
            (self.root / name).unlink()
