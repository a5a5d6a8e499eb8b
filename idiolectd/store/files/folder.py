"""Locates, reads and writes the files of a filesystem store.

::

    STORE/did_plc_abc.json                      the record: upstream's format, upstream's name
    STORE/.idiolectd/state/did_plc_abc.json     its refresh state
    STORE/.idiolectd/format.json                see `idiolectd.store.format`
    STORE/.idiolectd/locks/claims               see `idiolectd.store.locks.claims`

Everything here blocks: call it from a worker thread, and hold the write lock for what writes. Errors of
single records are `RecordError`, all others `OSError` or `StoreError`.

Rules: a DID never leads out of the folder; symbolic links are not followed; if two DIDs could share a file
name, only the DID in the file decides whose record it is.
"""

import json
import os
import stat
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from idiolectd.did import file_name, upstream_file_name
from idiolectd.errors import RecordError, StoreError
from idiolectd.ports import Committed, Survey
from idiolectd.session import OAuthSession, Tokens
from idiolectd.state import RefreshState
from idiolectd.store import durable
from idiolectd.store.access import RecordAccess, secure_file
from idiolectd.store.durable import Access
from idiolectd.store.files.bounded import read_bounded
from idiolectd.store.files.file_names import belongs, did_of, guess_did
from idiolectd.store.format import FORMAT, FORMAT_NEEDS, check_format
from idiolectd.store.merge import Merged, decode_state, encode_record, is_as_read, merge_commit, merge_save
from idiolectd.store.record_text import MAX_RECORD, decode_any, decode_record

# Bytes that `try_to_write` writes: about as much as a record has.
_TRIED = 4096

# A state holds up to two records as escaped text.
_MAX_STATE = 8 * MAX_RECORD


@dataclass(frozen=True)
class RecordFile:
    """The file where the record of a DID is, or would be.

    Attributes:
        path: the file to read and write.
        session: the session in it; None: it is missing or damaged.
        damage: why it can't be read.
        twin: another file with an older record of the same DID, to be removed with the next write.
    """

    path: Path
    session: OAuthSession | None = None
    damage: RecordError | None = None
    twin: Path | None = None

    def readable(self) -> OAuthSession | None:
        """The session, or None if there is no record.

        Raises:
            RecordError: there is one, and it can't be read.
        """
        if self.damage is not None:
            raise self.damage
        return self.session


class Folder:
    """The folder of one store.

    Args:
        root: its real path.
        access: who may read the records.
    """

    def __init__(self, root: Path, access: RecordAccess) -> None:
        self.root = root
        self.runtime_dir = root / ".idiolectd"
        self._states = self.runtime_dir / "state"
        self._format = self.runtime_dir / "format.json"
        self._access = access
        self._identity = _identity(root)
        # State files whose last write failed: what is read of them may not be on the disk.
        self._doubtful: set[Path] = set()

    # Reading ---------------------------------------------------------------------------------

    def locate(self, did: str) -> RecordFile:
        """Finds the record of a DID.

        Where upstream's name is not ours (it could belong to two DIDs), a file of upstream's name
        with this DID inside is the live record: foreign programs write under no other name. Our own file
        beside it is then older, or a restored copy.
        """
        own = self.root / file_name(did)
        upstream = self.root / upstream_file_name(did)
        if own == upstream:
            return self._located(own, did)
        try:
            text = read_bounded(upstream, MAX_RECORD, did)
            theirs = decode_any(text, place=str(upstream)) if text is not None else None
        except RecordError as damage:
            # The damaged file may be this DID's, but a readable file under our own name is preferred.
            found = self._located(own, did)
            return found if found.session or found.damage else RecordFile(own, damage=damage)
        if theirs is not None and theirs.did == did:
            return RecordFile(upstream, theirs, twin=own)
        return self._located(own, did)

    def _located(self, path: Path, did: str) -> RecordFile:
        try:
            text = read_bounded(path, MAX_RECORD, did)
            if text is None:
                self.check_identity()
                return RecordFile(path)
            return RecordFile(path, decode_record(text, place=str(path), did=did))
        except RecordError as damage:
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

    def state(self, did: str, now: float) -> RefreshState:
        """The refresh state of a DID; empty if there is none, or a damaged one."""
        return decode_state(self._state_text(did), now)

    def is_older_than_its_state(self, found: RecordFile, did: str) -> bool:
        """Whether the record seems unchanged since its state was written."""
        return durable.is_older(found.path, self._states / file_name(did))

    def _state_text(self, did: str) -> bytes | None:
        path = self._states / file_name(did)
        try:
            return read_bounded(path, _MAX_STATE, did)
        except RecordError:
            if not os.access(path, os.R_OK):
                raise
            return b""  # too large or not a file: damaged, and no reason to block the session

    def names(self) -> set[str]:
        """The names of all files that could be records."""
        with os.scandir(self.root) as entries:
            return {entry.name for entry in entries if is_record_name(entry.name)}

    def orphans(self) -> set[str]:
        """The names of records that are gone and have left a state behind."""
        try:
            with os.scandir(self._states) as entries:
                states = {entry.name for entry in entries if is_record_name(entry.name)}
        except FileNotFoundError:
            return set()
        return states - self.names()

    def survey(self) -> Survey:
        """All records, readable or not."""
        dids, broken = set(), []
        for name in sorted(self.names()):
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
        text = read_bounded(path, MAX_RECORD, guess)
        if text is None:
            return None
        did = decode_any(text, place=str(path), did=guess).did
        if not belongs(name, did):
            raise RecordError(str(path), f"holds the session of {did}, which belongs elsewhere", did=guess)
        return did

    # Writing, under the write lock -----------------------------------------------------------

    def prepare(self) -> None:
        """Makes the folders that writing needs, and removes what crashed writers left."""
        self.check_identity()  # makes nothing if the store itself is gone
        self.check_format()
        if self._access.now().gid is not None:
            self._secure_root()
        durable.make_private_folder(self.runtime_dir)
        durable.make_private_folder(self._states)
        durable.sweep(self.root)
        durable.sweep(self._states)
        if not self._format.exists():
            durable.replace_file(
                self._format, json.dumps({"version": FORMAT, "needs": FORMAT_NEEDS}).encode()
            )

    def check_format(self) -> None:
        """Raises `StoreError` if the store is of a newer format."""
        try:
            found = json.loads(self._format.read_bytes())
            version, needs = found["version"], found["needs"]
        except (OSError, ValueError, LookupError, TypeError, RecursionError):
            return  # none, or nothing that we wrote; or this user may read records only
        check_format(version, needs, self.root)

    def try_to_write(self) -> None:
        """Durably writes and removes a file in the records' folder, to see whether that is possible."""
        place = self.root / ".idiolectd-room.tmp"  # `sweep` knows it, should we end here
        durable.replace_file(place, b"x" * _TRIED)
        durable.remove(place)

    def secure(self) -> None:
        """Sets the permissions of folder and records to what `store.group` says now.

        Otherwise a group that was removed from the configuration could still read older records, and a group
        that was added could not.
        """
        access = self._access.now()
        self._secure_root()
        for name in self.names():
            with suppress(OSError):  # gone, or not ours
                secure_file(self.root / name, access)

    def _secure_root(self) -> None:
        gid = self._access.now().gid
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

    def save(self, session: OAuthSession, now: float) -> Merged:
        """See `idiolectd.ports.OAuthTokenStore.save`; returns what was stored."""
        did = session.did
        found = self.locate(did)
        merged = merge_save(session, found.session, self.state(did, now), now)
        # A crash between the two files must leave what `reconcile` can repair. With the same DPoP key, a new
        # state beside an old record can be repaired (see `commit`). With another key it can't: the old record
        # would count as a new login, and the login as spent. So after a login the record is written first: a
        # new record beside an old state is what a foreign writer leaves, and is adopted.
        if merged.new_login:
            self._write_record(found, merged.session)
            self._write_state(did, merged.state)
        else:
            self._write_state(did, merged.state)
            self._write_record(found, merged.session)
        return merged

    def commit(
        self,
        read: OAuthSession,
        state: RefreshState,
        tokens: Tokens | None,
        own_write: Callable[[str, os.stat_result], None],
    ) -> Committed:
        """See `idiolectd.ports.SharedStore.commit`.

        Args:
            read: as there.
            state: as there.
            tokens: as there.
            own_write: called with the record's name and the new file's `stat` just before the file becomes
                visible, if no other program has changed the record since it was read.
        """
        found = self.locate(read.did)
        stored = found.readable()
        merged = merge_commit(stored, read, state, tokens)
        if isinstance(merged, Committed):
            return merged
        # The state is written first; it also holds the new tokens, as the last good record. After a crash
        # between the two, the record holds a token that the state lists as spent, and `reconcile` restores
        # the new tokens from the state. In the other order, a foreign writer that put the used token back at
        # that moment would destroy the only copy of the new ones.
        self._write_state(read.did, state)
        if tokens is not None:
            as_read = stored is not None and is_as_read(stored, read, state)
            self._write_record(found, merged, own_write if as_read else None)
        return Committed.DONE

    def forget(self, did: str) -> bool:
        """See `idiolectd.ports.SharedStore.forget`."""
        found = self.locate(did)
        if found.session is not None or found.damage is not None:
            return False
        self._remove_state(did)
        return True

    def delete(self, did: str) -> None:
        """See `idiolectd.ports.OAuthTokenStore.delete`."""
        found = self.locate(did)
        if found.damage is not None and found.damage.place != str(found.path):
            raise found.damage  # a damaged file of a shared name may be another account's
        durable.remove(found.path)
        if found.twin is not None:
            durable.remove(found.twin)
        self._remove_state(did)

    def _write_record(
        self,
        found: RecordFile,
        session: OAuthSession,
        own_write: Callable[[str, os.stat_result], None] | None = None,
    ) -> None:
        text = encode_record(session, place=str(found.path))
        told = None if own_write is None else partial(own_write, found.path.name)
        durable.replace_file(found.path, text, self._access.now(), before_rename=told)
        if found.twin is not None:
            durable.remove(found.twin)

    def _write_state(self, did: str, state: RefreshState) -> None:
        path = self._states / file_name(did)
        text = state.to_json().encode(errors="backslashreplace")
        # After a restart every session is looked at and committed; most states have not changed.
        if path not in self._doubtful and self._state_text(did) == text:
            return
        self._doubtful.add(path)
        durable.replace_file(path, text)
        self._doubtful.discard(path)

    def _remove_state(self, did: str) -> None:
        with suppress(FileNotFoundError):  # the state folder itself
            durable.remove(self._states / file_name(did))


def is_record_name(name: str) -> bool:
    """Whether upstream's reader would take a file of this name for a record."""
    return name.endswith(".json") and not name.startswith(".")


def _identity(root: Path) -> tuple[int, int]:
    found = root.stat()
    return found.st_dev, found.st_ino
