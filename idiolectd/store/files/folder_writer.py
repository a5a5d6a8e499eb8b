"""Writes the records and refresh states of a folder, many at a time.

Each method that changes a session is a generator for `run_together`: it yields what has to be durable before it
goes on. Everything here blocks and runs under the write lock.
"""

import errno
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Generic, TypeVar

from idiolectd.did import upstream_file_name
from idiolectd.errors import RecordError
from idiolectd.ports import Committed, FirstPlan, StoredCopy
from idiolectd.session import OAuthSession, Tokens
from idiolectd.state import RefreshState
from idiolectd.store import durable
from idiolectd.store.durable import NewFile, Stamp
from idiolectd.store.files.bounded import Content
from idiolectd.store.files.folder import Folder, RecordFile
from idiolectd.store.files.folder_index import Look, look
from idiolectd.store.files.together import Write, run_together
from idiolectd.store.format import format_to_write
from idiolectd.store.merge import (
    Merged,
    encode_record,
    encode_state,
    is_as_read,
    merge_commit,
    merge_restore,
    merge_save,
    resealed_record,
    resealed_state,
)
from idiolectd.store.record_text import KnownRecord

T = TypeVar("T")

# Bytes that `try_to_write` writes: about as much as a record has.
_TRIED = 4096

# What does not happen again once the folders were made anew, or when nobody else has files open.
_TRY_AGAIN = (errno.ENOENT, errno.EMFILE, errno.ENFILE)


@dataclass(frozen=True)
class WriteOf(Generic[T]):
    """What is to be written for one session.

    Attributes:
        did: whose.
        begin: begins the write, again if need be.
    """

    did: str
    begin: Callable[[], Write[T]]


class FolderWriter:
    """Writes into one folder.

    Args:
        folder: the folder.
        own_write: told the name of each record that a commit replaces and what file the new one is, just before
            it becomes visible, if no other program has changed the record since it was read.
        saw: told what a commit has left in the folder.
    """

    def __init__(
        self,
        folder: Folder,
        *,
        own_write: Callable[[str, Stamp], None],
        saw: Callable[[Look], None],
    ) -> None:
        self._folder = folder
        self._own_write = own_write
        self._saw = saw
        self._is_prepared = False
        # Files whose last write has not succeeded: what is read of them may not be on the disk.
        self._doubtful: set[Path] = set()

    def apply(self, writes: Sequence[WriteOf[T]]) -> list[T | Exception]:
        """Does writes together; returns what each of them returned, or its error."""
        if not self._is_prepared:
            self.prepare()
        answers: dict[int, T | Exception] = {}
        left = dict(enumerate(writes))
        while left:
            # Those of one file name, which can be two DIDs', one after the other.
            first = {upstream_file_name(each.did): number for number, each in reversed(left.items())}
            batch = {number: left.pop(number) for number in sorted(first.values())}
            done = run_together([each.begin() for each in batch.values()])
            answers.update(zip(batch, done, strict=True))
        for number, answer in answers.items():
            if isinstance(answer, OSError) and answer.errno in _TRY_AGAIN:
                self.prepare()  # perhaps somebody removed a folder of ours
                (answers[number],) = run_together([writes[number].begin()])
        return [answers[number] for number in range(len(writes))]

    def prepare(self) -> None:
        """Makes the folders that writing needs, and removes what crashed writers left."""
        folder = self._folder
        folder.check_identity()  # makes nothing if the store itself is gone
        folder.check_format()
        folder.secure_if_shared()
        durable.make_private_folder(folder.runtime_dir)
        durable.make_private_folder(folder.states)
        durable.sweep(folder.root)
        durable.sweep(folder.states)
        version, _ = folder.stored_format()
        wanted = format_to_write(version, folder.keys, folder.root)
        if wanted is not None:
            durable.replace_file(folder.format, json.dumps(wanted._asdict()).encode())
        self._is_prepared = True

    def try_to_write(self) -> None:
        """Durably writes and removes a file in the records' folder, to see whether that is possible."""
        self.prepare()
        place = self._folder.root / ".idiolectd-room.tmp"  # `sweep` knows it, should we end here
        durable.replace_file(place, b"x" * _TRIED)
        durable.remove(place)

    # One session's writes --------------------------------------------------------------------

    def save(self, session: OAuthSession, now: float) -> Write[Merged]:
        """See `idiolectd.ports.OAuthTokenStore.save`; returns what was stored."""
        found = self._folder.locate(session.did)
        merged = merge_save(session, found.mendable(), self._folder.state(session.did, now), now)
        record, state = self._record(found, merged.session), self._state(session.did, merged.state)
        # A crash between the two files must leave what `reconcile` can repair. With the same DPoP key, a new
        # state beside an old record can be repaired (see `commit`). With another key it can't: the old record
        # would count as a new login, and the login as spent. So after a login the record is written first: a
        # new record beside an old state is what a foreign writer leaves, and is adopted.
        yield from self._replace((record, state) if merged.new_login else (state, record))
        yield from self._remove(found.twin)
        return merged

    def restore(self, copy: StoredCopy, now: float) -> Write[Merged | Committed]:
        """See `idiolectd.ports.SharedStore.restore`; returns what was stored, or `SUPERSEDED`."""
        found = self._folder.locate(copy.did)
        merged = merge_restore(
            copy, found.mendable(), self._folder.state(copy.did, now), now, self._folder.keys
        )
        if merged is None:
            return Committed.SUPERSEDED
        # The state first: the record must not be there without the mark that it came from a copy.
        state = self._state(copy.did, merged.state)
        yield from self._replace((state, self._record(found, merged.session)))
        yield from self._remove(found.twin)
        return merged

    def commit(
        self,
        read: OAuthSession,
        state: RefreshState,
        tokens: Tokens | None,
        known: KnownRecord | None,
    ) -> Write[Committed]:
        """See `idiolectd.ports.SharedStore.commit`; `known`: the record as it was last read."""
        found = self._folder.locate(read.did, known)
        stored = found.readable()
        merged = merge_commit(stored, read, state, tokens)
        if isinstance(merged, Committed):
            return merged
        # The state is written first; it also holds the new tokens, as the last good record. After a crash
        # between the two, the record holds a token that the state lists as spent, and `reconcile` restores
        # the new tokens from the state. In the other order, a foreign writer that put the used token back at
        # that moment would destroy the only copy of the new ones.
        state_file = self._state(read.did, state)
        record_file = found.content if tokens is None else self._record(found, merged)
        is_as_known = stored is not None and is_as_read(stored, read, state)
        yield from self._replace((state_file, record_file), is_own_news=is_as_known)
        if tokens is not None:
            yield from self._remove(found.twin)
        if record_file is not None:
            self._saw(look(found.path.name, merged, state, (record_file.stamp, state_file.stamp)))
        return Committed.DONE

    def put_first(self, plan: FirstPlan) -> Write[bool]:
        """See `idiolectd.ports.SharedStore.commit_first`; returns whether the state was written."""
        session, text = plan.found.session, plan.found.text
        found = self._folder.locate(session.did, KnownRecord(text, session))
        if found.content is None or found.content.text != text:
            return False
        if self._folder.state_content(session.did) is not None:
            return False
        state_file = self._state(session.did, plan.state)
        yield from self._replace((state_file,))
        self._saw(look(found.path.name, session, plan.state, (found.content.stamp, state_file.stamp)))
        return True

    def delete(self, did: str) -> Write[Committed]:
        """See `idiolectd.ports.OAuthTokenStore.delete`."""
        found = self._folder.locate(did)
        if isinstance(found.damage, RecordError) and found.damage.place != str(found.path):
            raise found.damage  # a damaged file of a shared name may be another account's
        for path in (found.path, found.twin, self._folder.state_path(did)):
            yield from self._remove(path)
        return Committed.DONE

    def forget(self, did: str) -> Write[Committed]:
        """See `idiolectd.ports.SharedStore.forget`; `GONE`: the record is, and now the state too."""
        found = self._folder.locate(did)
        if found.session is not None or found.damage is not None:
            return Committed.SUPERSEDED
        yield from self._remove(self._folder.state_path(did))
        return Committed.GONE

    def reseal(self, did: str) -> Write[Committed]:
        """See `idiolectd.ports.SharedStore.reseal`; `GONE`: there is no record."""
        folder, found = self._folder, self._folder.locate(did)
        there, keys = folder.state_content(did), folder.keys
        state = resealed_state(None if there is None else there.text, did, keys)
        files = [] if state is None else [NewFile(folder.state_path(did), state)]
        if found.readable() is not None and found.content is not None:
            record = resealed_record(found.content.text, place=str(found.path), did=did, keys=keys)
            if record is not None:
                files.append(NewFile(found.path, record, folder.access.now()))
        yield from self._replace(files)
        return Committed.GONE if found.session is None else Committed.DONE

    # Files -----------------------------------------------------------------------------------

    def _record(self, found: RecordFile, session: OAuthSession) -> NewFile:
        text = encode_record(session, place=str(found.path), keys=self._folder.keys)
        return NewFile(found.path, text, self._folder.access.now())

    def _state(self, did: str, state: RefreshState) -> NewFile | Content:
        """The file of a state, to be written; or as it is there already, as after a restart most are."""
        path, there = self._folder.state_path(did), self._folder.state_content(did)
        text = encode_state(state, did, self._folder.keys, None if there is None else there.text)
        if there is not None and there.text == text and path not in self._doubtful:
            return there
        return NewFile(path, text)

    def _replace(
        self, files: Sequence[NewFile | Content | None], *, is_own_news: bool = False
    ) -> Write[None]:
        """Replaces files in this order, each durably before the next is touched."""
        new_files = [each for each in files if isinstance(each, NewFile)]
        try:
            for new in new_files:
                new.write()
            yield new_files
            for new in new_files:
                if is_own_news and new.path.parent == self._folder.root:
                    self._own_write(new.path.name, new.stamp)
                self._doubtful.add(new.path)
                new.take_place()
                yield new.path.parent
                self._doubtful.discard(new.path)
        finally:
            for new in new_files:
                new.discard()

    def _remove(self, path: Path | None) -> Write[None]:
        """Removes a file durably, if there is one."""
        if path is not None:
            try:
                path.unlink()
            except FileNotFoundError:
                return
            yield path.parent
