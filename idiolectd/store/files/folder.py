"""Locates and reads the files of a filesystem store. `FolderWriter` writes them.

::

    STORE/did_plc_abc.json                      the record: upstream's format, upstream's name
    STORE/.idiolectd/state/did_plc_abc.json     its refresh state
    STORE/.idiolectd/format.json                see `idiolectd.store.format`
    STORE/.idiolectd/locks/claims               see `idiolectd.store.locks.claims`

Everything here blocks. Errors of single records are `RecordError`, all others `OSError` or `StoreError`.

Rules: a DID never leads out of the folder; symbolic links are not followed; if two DIDs could share a file
name, only the DID in the file decides whose record it is.
"""

import json
import os
import stat
from collections.abc import Iterable, Set
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from idiolectd.did import file_name, upstream_file_name
from idiolectd.errors import RecordError, SealedError, StoreError
from idiolectd.session import OAuthSession
from idiolectd.store import durable
from idiolectd.store.access import RecordAccess, secure_file
from idiolectd.store.durable import Access, Stamp, stamp_of
from idiolectd.store.files.bounded import Content, fingerprint, read_bounded
from idiolectd.store.files.file_names import belongs, did_of, guess_did
from idiolectd.store.format import check_format
from idiolectd.store.record_text import MAX_RECORD, KnownRecord, decode_any, decode_record
from idiolectd.store.sealing import NO_KEYS, Keys

if TYPE_CHECKING:
    from idiolectd.ports import Survey
    from idiolectd.state import RefreshState

# A state holds up to two records as escaped text.
_MAX_STATE = 8 * MAX_RECORD


@dataclass(frozen=True)
class RecordFile:
    """The file where the record of a DID is, or would be.

    Attributes:
        path: the file to read and write.
        session: the session in it; None: it is missing or damaged.
        content: what the file of a session holds.
        damage: why it can't be read.
        twin: another file with an older record of the same DID, to be removed with the next write.
    """

    path: Path
    session: OAuthSession | None = None
    content: Content | None = None
    damage: RecordError | SealedError | None = None
    twin: Path | None = None

    def readable(self) -> OAuthSession | None:
        """The session, or None if there is no record.

        Raises:
            RecordError: there is one, and it can't be read.
            SealedError: there is one, and the keys don't open it.
        """
        if self.damage is not None:
            raise self.damage
        return self.session

    def mendable(self) -> OAuthSession | None:
        """The session, or None if there is no record or a damaged one: a login mends it.

        Raises:
            SealedError: there is one, and the keys don't open it: it is whole.
        """
        if isinstance(self.damage, SealedError):
            raise self.damage
        return self.session


class Folder:
    """The folder of one store.

    Args:
        root: its real path.
        access: who may read the records.
        viewed: for a client, to whom the entries of a clients' view will do.
        keys: seal and open secrets.

    Attributes:
        root: as given.
        runtime_dir: where everything lies that is not a record.
        states: the folder of the refresh states.
        format: the file that says how new a program must be.
        access: as given.
        keys: as given.
    """

    def __init__(
        self, root: Path, access: RecordAccess, *, viewed: bool = False, keys: Keys = NO_KEYS
    ) -> None:
        self.root = root
        self.runtime_dir = root / ".idiolectd"
        self.states = self.runtime_dir / "state"
        self.format = self.runtime_dir / "format.json"
        self.access = access
        self.keys = keys
        self._viewed = viewed
        self._identity = _identity(root)

    # Reading ---------------------------------------------------------------------------------

    def locate(self, did: str, known: KnownRecord | None = None) -> RecordFile:
        """Finds the record of a DID; `known`: as it was last read, if anybody has kept that.

        Where upstream's name is not ours (it could belong to two DIDs), a file of upstream's name
        with this DID inside is the live record: foreign programs write under no other name. Our own file
        beside it is then older, or a restored copy.
        """
        own = self.root / file_name(did)
        upstream = self.root / upstream_file_name(did)
        if own == upstream:
            return self._located(own, did, known)
        try:
            content = read_bounded(upstream, MAX_RECORD, did)
            theirs = (
                decode_any(content.text, place=str(upstream), viewed=self._viewed, keys=self.keys)
                if content is not None
                else None
            )
        except (RecordError, SealedError) as damage:
            # The damaged file may be this DID's, but a readable file under our own name is preferred.
            found = self._located(own, did)
            return found if found.session or found.damage else RecordFile(own, damage=damage)
        if theirs is not None and theirs.did == did:
            return RecordFile(upstream, theirs, content, twin=own)
        return self._located(own, did)

    def _located(self, path: Path, did: str, known: KnownRecord | None = None) -> RecordFile:
        try:
            content = read_bounded(path, MAX_RECORD, did)
            if content is None:
                self.check_identity()
                return RecordFile(path)
            if known is not None and known.text == content.text:
                return RecordFile(path, known.session, content)
            session = decode_record(
                content.text, place=str(path), did=did, viewed=self._viewed, keys=self.keys
            )
            return RecordFile(path, session, content)
        except (RecordError, SealedError) as damage:
            return RecordFile(path, damage=damage)

    def check_identity(self) -> None:
        """Raises if the folder itself is gone: a missing record would then prove nothing.

        Raises:
            StoreError: another folder (a mount point without its disk, say) has taken its place.
        """
        if _identity(self.root) != self._identity:
            raise StoreError(
                f"{self.root} is not the folder that was opened: it was replaced, or its disk was "
                "unmounted; restart once it is back"
            )

    def state(self, did: str, now: float) -> "RefreshState":
        """The refresh state of a DID; empty if there is none, or a damaged one."""
        from idiolectd.store.merge import decode_state  # a client has no use for states

        content = self.state_content(did)
        return decode_state(None if content is None else content.text, now, did=did, keys=self.keys)

    def is_older_than_its_state(self, found: RecordFile, did: str) -> bool:
        """Whether the record seems unchanged since its state was written."""
        return durable.is_older(found.path, self.state_path(did))

    def state_path(self, did: str) -> Path:
        """The file of a DID's refresh state."""
        return self.states / file_name(did)

    def state_content(self, did: str) -> Content | None:
        """What the file of a DID's refresh state holds; empty if that can't be a state, None without a file."""
        path = self.state_path(did)
        try:
            return read_bounded(path, _MAX_STATE, did)
        except RecordError:
            if not os.access(path, os.R_OK):
                raise
            return Content(
                b"", (0, 0, 0)
            )  # too large or not a file: damaged, and no reason to block the session

    def names(self) -> set[str]:
        """The names of all files that could be records."""
        with os.scandir(self.root) as entries:
            return {entry.name for entry in entries if is_record_name(entry.name)}

    def listed(self) -> dict[str, str]:
        """The `fingerprint` of each record and its state, by name; without the state, if the name is ambiguous."""
        states: dict[str, Stamp] = {}
        # Who may only read the records sees no states: no file is as the index knows it, and all are read.
        with suppress(FileNotFoundError, PermissionError):
            states = _stamps(self.states)
        return {name: fingerprint(found, states.get(name)) for name, found in _stamps(self.root).items()}

    def state_names(self) -> set[str]:
        """The names of all files that could be states."""
        try:
            with os.scandir(self.states) as entries:
                return {entry.name for entry in entries if is_record_name(entry.name)}
        except FileNotFoundError:
            return set()

    def survey(self, but: Set[str] = frozenset()) -> "Survey":
        """All records, readable or not, but those of some names."""
        from idiolectd.ports import Survey

        dids, broken = set(), []
        for name in sorted(self.names() - but):
            try:
                did = self._did_in(name)
            except RecordError as damage:
                broken.append(damage)
            else:
                if did is not None:
                    dids.add(did)
        return Survey(sorted(dids), broken)

    def did_in(self, name: str) -> str | None:
        """The DID of the session that a file holds, if `locate` would look for it there."""
        try:
            return self._did_in(name)
        except RecordError:
            return None

    def dids_of(self, names: Iterable[str]) -> list[str]:
        """The DIDs of the records with these names; opens a file only if its name is ambiguous."""
        found = (did_of(name) or self.did_in(name) for name in names)
        return [did for did in found if did is not None]

    def _did_in(self, name: str) -> str | None:
        path, guess = self.root / name, did_of(name) or guess_did(name)
        content = read_bounded(path, MAX_RECORD, guess)
        if content is None:
            return None
        did = decode_any(content.text, place=str(path), did=guess, viewed=self._viewed).did
        if not belongs(name, did):
            raise RecordError(str(path), f"holds the session of {did}, which belongs elsewhere", did=guess)
        return did

    # The folder as a whole -------------------------------------------------------------------

    def check_format(self) -> None:
        """Raises `StoreError` if the store is of a newer format."""
        check_format(*self.stored_format(), self.root)

    def stored_format(self) -> tuple[object, object]:
        """Version and needed release as the store says; None and None: nothing that we wrote, or can read."""
        try:
            found = json.loads(self.format.read_bytes())
            return found["version"], found["needs"]
        except (OSError, ValueError, LookupError, TypeError, RecursionError):
            return None, None  # this user may be one who reads records only

    def secure(self) -> None:
        """Sets the permissions of folder and records to what `store.group` says now.

        Otherwise a group that was removed from the configuration could still read older records, and a group
        that was added could not.
        """
        access = self.access.now()
        self._secure_root()
        for name in self.names():
            with suppress(OSError):  # gone, or not ours
                secure_file(self.root / name, access)

    def secure_if_shared(self) -> None:
        """Gives the folder to the group of `store.group`, if there is one."""
        if self.access.now().gid is not None:
            self._secure_root()

    def _secure_root(self) -> None:
        gid = self.access.now().gid
        fd = os.open(self.root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            found = os.fstat(fd)
            if gid is not None:
                # Readers may enter and list; new files get the group by the set-group-ID bit.
                durable.grant(fd, Access(0o2750, gid))
            elif found.st_mode & (stat.S_ISGID | stat.S_IRWXG) and found.st_uid == os.geteuid():
                durable.grant(fd, Access(0o700))
        finally:
            os.close(fd)


def is_record_name(name: str) -> bool:
    """Whether upstream's reader would take a file of this name for a record."""
    return name.endswith(".json") and not name.startswith(".")


def _stamps(folder: Path) -> dict[str, Stamp]:
    """The stamps of all files in a folder whose names are records'."""
    stamps: dict[str, Stamp] = {}
    with os.scandir(folder) as entries:
        for entry in entries:
            if is_record_name(entry.name):
                with suppress(FileNotFoundError):
                    stamps[entry.name] = stamp_of(entry.stat(follow_symlinks=False))
    return stamps


def _identity(root: Path) -> tuple[int, int]:
    found = root.stat()
    return found.st_dev, found.st_ino
