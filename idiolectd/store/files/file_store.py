"""One JSON file for each session, as idiolect-oauth keeps them; safe between processes.

Files are replaced whole, so reading needs no lock, and a session is read in place, on the event loop. Writes that
wait together run in one worker thread under the write lock, share what waits for the disk, and are never
stopped half-way. The schedule is kept in memory; `FolderIndex` keeps it from one process to the next.
"""

import os
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Sequence
from contextlib import aclosing, asynccontextmanager
from dataclasses import replace
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any, Self, TypeVar

import anyio
import anyio.lowlevel

from idiolectd.clock import Clock, SystemClock
from idiolectd.did import parse_did
from idiolectd.errors import StoreError
from idiolectd.finish import finish, in_thread, running_loop
from idiolectd.ports import (
    FULL_BATCH,
    NO_SERVER,
    Called,
    Committed,
    FirstPlan,
    NewRecord,
    Overview,
    ScheduleEntry,
    StoredCopy,
    StoredSession,
    Survey,
)
from idiolectd.session import OAuthSession, Tokens
from idiolectd.state import RefreshState
from idiolectd.store.access import RecordAccess
from idiolectd.store.disk_space import RoomCheck
from idiolectd.store.due_index import DueIndex
from idiolectd.store.durable import Stamp, make_private_folder, replace_file
from idiolectd.store.error_translation import ONLY_LOOKING, translated
from idiolectd.store.files import folder_survey
from idiolectd.store.files.folder import Folder
from idiolectd.store.files.folder_index import FolderIndex, Look, look
from idiolectd.store.files.folder_watch import FolderWatch
from idiolectd.store.files.folder_writer import FolderWriter, WriteOf
from idiolectd.store.files.together import Write
from idiolectd.store.group_commit import GroupCommit
from idiolectd.store.in_place import InPlace
from idiolectd.store.locks.claims import Locks
from idiolectd.store.merge import decode_state
from idiolectd.store.put_back import Witnesses, read_number
from idiolectd.store.record_text import KnownRecord
from idiolectd.store.sealing import NO_KEYS, Keys
from idiolectd.store.spill_places import StoreSpill
from idiolectd.store_url import StoreUrl

# Seconds; longer than a commit takes from its first file to its second, unless the disk is very busy. A store
# that is opened for looking only may take no lock; at worst it shows what was true a moment before.
_BETWEEN_FILES = 0.05

# The writes of one batch: each has two files open. Those for which none can be opened follow one by one.
_TOGETHER = 32

# How many new sessions are read at a time, and how many of their states are written together: refreshes
# commit in between. These have one file open each.
_NEW_PAGE, _FIRST_TOGETHER = 500, 50

# How many sessions are copied for a backup while nobody else may write.
_COPIED_TOGETHER = 50

T = TypeVar("T")


class FilesystemOAuthTokenStore:
    """Sessions in a folder. See `idiolectd.ports.SharedStore`; made by `open`.

    Attributes:
        url: the store's URL.
        runtime_dir: a private folder (0700, made with the first write) for what belongs to the store
            but is not a session.
        spill: the second place for tokens.
        keys: seal and open secrets.
    """

    def __init__(
        self,
        root: Path,
        *,
        group: str | None,
        spill_dir: Path | None,
        looking: bool,
        clock: Clock,
        keys: Keys,
    ) -> None:
        self.url = str(StoreUrl("file", root))
        self.keys = keys
        self._folder = Folder(root, RecordAccess(group), keys=keys)
        self.runtime_dir = self._folder.runtime_dir
        self.spill = StoreSpill(self.runtime_dir, spill_dir, keys=keys)
        self._room = RoomCheck(root, also=self.spill.make_known)
        self._clock = clock
        self._looking = looking
        self._in_place = InPlace()
        self._locks = Locks(self.runtime_dir, self._in_place)
        self._witnesses: Witnesses | None = None
        self._writer = FolderWriter(self._folder, own_write=self._own_write, saw=self._saw)
        self._index = FolderIndex(self.runtime_dir)
        # One for each event loop; between two of them the write lock decides.
        self._groups: dict[object, GroupCommit[WriteOf[Any], Any]] = {}
        # The records of claimed sessions, as they were last read.
        self._claimed: dict[str, KnownRecord | None] = {}
        self._schedule = DueIndex()
        self._watches: set[FolderWatch] = set()
        # What the last look at a session found, until it is known when to look again; while a watch is running.
        self._looks: dict[str, Look] = {}
        # File names that `unplanned` has not looked at yet.
        self._unseen: list[str] = []
        # What our own commits wrote while a watch is running: the watch does not report it.
        self._own: dict[str, Stamp] = {}

    def __repr__(self) -> str:
        return f"<FilesystemOAuthTokenStore {self.url}>"

    @classmethod
    @asynccontextmanager
    async def open(
        cls,
        path: str | os.PathLike[str],
        *,
        group: str | None = None,
        spill_dir: Path | None = None,
        looking: bool = False,
        clock: Clock | None = None,
        keys: Keys = NO_KEYS,
    ) -> AsyncIterator[Self]:
        """Opens a folder of sessions; a missing one is made.

        Reading needs no more than the permission to read; what writing needs is made by the first
        write.

        Args:
            path: the folder.
            group: a group whose members may read the records (0640; folder 2750); None: nobody.
            spill_dir: where tokens are spilled; None: see `idiolectd.store.spill_places`.
            looking: nothing is changed on disk, and nothing can be written.
            clock: where the time comes from.
            keys: seal and open secrets.

        Raises:
            StoreError: it is not a folder, or can't be made.
        """
        with translated(f"can't open {os.fspath(path)}"):
            root = await in_thread(_real_folder, path, not looking)
            store = cls(
                root,
                group=group,
                spill_dir=spill_dir,
                looking=looking,
                clock=clock or SystemClock(),
                keys=keys,
            )
            await in_thread(store._folder.check_format)
        yield store

    # OAuthTokenStore -------------------------------------------------------------------------

    async def save(self, session: OAuthSession) -> None:
        """See `OAuthTokenStore.save`."""
        did = parse_did(session.did)
        merged = await self._write("save", did, partial(self._writer.save, session, self._clock.now()))
        self._schedule.put_saved(did, merged.entry, keep=merged.keeps_entry)

    async def load(self, did: str) -> OAuthSession | None:
        """See `OAuthTokenStore.load`."""
        with translated(f"can't load {did} from {self.url}"):
            found = await self._in_place.run(self._folder.locate, parse_did(did))
        return found.readable()

    async def delete(self, did: str) -> None:
        """See `OAuthTokenStore.delete`."""
        did = parse_did(did)
        await self._write("delete", did, partial(self._writer.delete, did))
        self._schedule.put(did, None)

    async def list_dids(self) -> list[str]:
        """See `OAuthTokenStore.list_dids`."""
        return (await self.survey()).dids

    # SharedStore -----------------------------------------------------------------------------

    async def survey(self) -> Survey:
        """See `SharedStore.survey`."""
        with translated(f"can't list {self.url}"):
            return await in_thread(folder_survey.survey, self._folder, self._index)

    async def pages(self) -> AsyncGenerator[list[str], None]:
        """See `SharedStore.pages`."""
        with translated(f"can't list {self.url}"):
            names = iter(await in_thread(self._folder.names))
            while page := list(islice(names, FULL_BATCH)):
                yield await in_thread(self._folder.dids_of, page)

    async def count(self) -> int:
        """See `SharedStore.count`."""
        with translated(f"can't list {self.url}"):
            return len(await in_thread(self._folder.names))

    async def overview(self, now: float, *, limit: int) -> Overview | None:
        """See `SharedStore.overview`."""
        with translated(f"can't list {self.url}"):
            return await in_thread(folder_survey.overview, self._folder, self._index, now, limit)

    async def called(self, handle: str) -> Called:
        """See `SharedStore.called`."""
        with translated(f"can't list {self.url}"):
            return Called(await in_thread(self._index.find, handle))

    @asynccontextmanager
    async def claim(self, did: str, *, patience: float) -> AsyncIterator[None]:
        """See `SharedStore.claim`."""
        if self._looking:
            raise StoreError(ONLY_LOOKING)
        did = parse_did(did)
        async with self._locks.claim(did, patience):
            self._claimed[did] = None
            try:
                yield
            finally:
                del self._claimed[did]

    async def claim_holder(self, did: str) -> str | None:
        """See `SharedStore.claim_holder`."""
        return await self._locks.claim_holder(parse_did(did))

    async def ensure_room(self) -> None:
        """See `SharedStore.ensure_room`."""
        await self._room.ensure()

    async def ensure_writable(self) -> None:
        """See `SharedStore.ensure_writable`."""
        if self._looking:
            raise StoreError(ONLY_LOOKING)
        with translated(f"can't write in {self.url}"):
            await finish(self._try_to_write)

    async def _try_to_write(self) -> None:
        async with self._locks.writing():
            await in_thread(self._writer.try_to_write)

    async def secure(self) -> None:
        """See `SharedStore.secure`."""
        with translated(f"can't set the permissions of {self.url}"):
            await in_thread(self._folder.secure)

    async def read(self, did: str) -> StoredSession:
        """See `SharedStore.read`."""
        did = parse_did(did)
        with translated(f"can't read {did} from {self.url}"):
            entry = await self._in_place.run(self._read, did)
            if (entry.session is None or _is_used(entry)) and entry.state != RefreshState():
                # A commit may have been between its two files: read again under the write lock.
                if not self._looking:
                    return await finish(self._read_alone, did)
                await anyio.sleep(_BETWEEN_FILES)
                entry = await in_thread(self._read, did)
        return entry

    async def _read_alone(self, did: str) -> StoredSession:
        async with self._locks.writing():
            return await in_thread(self._read, did)

    def _read(self, did: str) -> StoredSession:
        # The record is read first: a state newer than its record can be recognized, an older one can't.
        found = self._folder.locate(did, self._claimed.get(did))
        session, content = found.readable(), self._folder.state_content(did)
        text = None if content is None else content.text
        state = decode_state(text, self._clock.now(), did=did, keys=self._folder.keys, record=session)
        entry = StoredSession(session, state)
        if session is not None and found.content is not None:
            if did in self._claimed:
                self._claimed[did] = KnownRecord(found.content.text, session)
            if content is not None:
                self._saw(look(found.path.name, session, state, (found.content.stamp, content.stamp)))
        # Set if a commit may be between its two files: `read` then looks again under the write lock.
        return replace(
            entry, interrupted_commit=_is_used(entry) and self._folder.is_older_than_its_state(found, did)
        )

    async def commit(
        self,
        read: OAuthSession,
        state: RefreshState,
        *,
        tokens: Tokens | None = None,
        due: ScheduleEntry | None = None,
    ) -> Committed:
        """See `SharedStore.commit`."""
        did = parse_did(read.did)
        if tokens is None:  # there are no new tokens to lose, so a lost claim can stop the commit
            await self._locks.confirm_claim(did)
        begin = partial(self._writer.commit, read, state, tokens, self._claimed.get(did))
        done = await self._write("commit", did, begin)
        if done is Committed.DONE:
            self.schedule(did, due)
        return done

    async def change_number(self, *, renew: bool) -> int:
        """See `SharedStore.change_number`: a file beside the states keeps it."""
        with translated(f"can't read {self.url}"):
            return await in_thread(self._change_number, renew)

    def _change_number(self, renew: bool) -> int:
        file = self._folder.runtime_dir / "number"
        number = read_number(file)
        if renew and self._folder.states.exists():
            # Each commit renames a file into this folder. By itself that time proves nothing: a copy's may be newer.
            changed = self._folder.states.stat().st_mtime_ns
            if changed > number:
                replace_file(file, str(changed).encode())
                number = changed
        return number

    def witnesses(self) -> Witnesses:
        """See `SharedStore.witnesses`."""
        if self._witnesses is None:
            self._witnesses = Witnesses(self.runtime_dir, self.spill.folders())
        return self._witnesses

    async def copies(self) -> AsyncGenerator[list[StoredCopy], None]:
        """See `SharedStore.copies`: under the write lock, some sessions at a time."""
        with translated(f"can't read the sessions of {self.url}"):
            names = sorted(await in_thread(self._folder.names))
            for start in range(0, len(names), _COPIED_TOGETHER):
                async with self._locks.writing(first=False):
                    page = await in_thread(
                        folder_survey.copies, self._folder, names[start : start + _COPIED_TOGETHER]
                    )
                yield page

    async def restore(self, copy: StoredCopy) -> Committed:
        """See `SharedStore.restore`."""
        did = parse_did(copy.did)
        merged = await self._write("restore", did, partial(self._writer.restore, copy, self._clock.now()))
        if isinstance(merged, Committed):
            return merged
        self._schedule.put_saved(did, merged.entry, keep=merged.keeps_entry)
        return Committed.DONE

    @asynccontextmanager
    async def new_sessions(self) -> AsyncIterator[AsyncGenerator[list[NewRecord], None] | None]:
        """See `SharedStore.new_sessions`."""
        with translated(f"can't read the new sessions of {self.url}"):
            names = await in_thread(folder_survey.new_names, self._folder)
        if len(names) < FULL_BATCH:
            yield None
            return
        watches = tuple(self._watches)
        for watch in watches:
            watch.hold_backlog()
        try:
            async with aclosing(self._new_pages(names)) as pages:
                yield pages
        finally:
            for watch in watches:
                watch.release_backlog()

    async def _new_pages(self, names: list[str]) -> AsyncGenerator[list[NewRecord], None]:
        with translated(f"can't read the new sessions of {self.url}"):
            names = await in_thread(folder_survey.by_expiry, self._folder, names)
            for start in range(0, len(names), _NEW_PAGE):
                page = names[start : start + _NEW_PAGE]
                yield await in_thread(folder_survey.read_new, self._folder, page)

    async def commit_first(self, plans: Sequence[FirstPlan]) -> list[str]:
        """See `SharedStore.commit_first`."""
        if self._looking:
            raise StoreError(ONLY_LOOKING)
        with translated(f"can't write in {self.url}"):
            return await finish(self._commit_first, plans)

    async def _commit_first(self, plans: Sequence[FirstPlan]) -> list[str]:
        writes = [WriteOf(plan.found.session.did, partial(self._writer.put_first, plan)) for plan in plans]
        answers: list[bool | Exception] = []
        for start in range(0, len(writes), _FIRST_TOGETHER):
            async with self._locks.writing(first=False):
                answers += await in_thread(self._writer.apply, writes[start : start + _FIRST_TOGETHER])
        written = [plan for plan, answer in zip(plans, answers, strict=True) if answer is True]
        failures = [answer for answer in answers if isinstance(answer, OSError)]
        if failures and not written:
            raise failures[0]
        for plan in written:
            self.schedule(plan.found.session.did, plan.due)
        dids = [plan.found.session.did for plan in written]
        for watch in self._watches:
            watch.adopted(dids)
        return dids

    async def unplanned(self) -> list[str]:
        """See `SharedStore.unplanned`."""
        with translated(f"can't list {self.url}"):
            if not self._unseen:
                self._unseen = sorted(await in_thread(self._folder.names))
            part, self._unseen = self._unseen[:FULL_BATCH], self._unseen[FULL_BATCH:]
            dids = await in_thread(self._folder.dids_of, part)
        return [did for did in dids if did not in self._schedule]

    def reopened(self) -> list[str]:
        """See `SharedStore.reopened`."""
        return []

    async def forget(self, did: str) -> bool:
        """See `SharedStore.forget`."""
        did = parse_did(did)
        is_gone = await self._write("forget", did, partial(self._writer.forget, did)) is Committed.GONE
        if is_gone:
            self._schedule.put(did, None)
        return is_gone

    async def reseal(self, did: str) -> bool:
        """See `SharedStore.reseal`."""
        did = parse_did(did)
        return await self._write("seal", did, partial(self._writer.reseal, did)) is Committed.DONE

    async def due(
        self, before: float, *, limit: int, after: ScheduleEntry | None = None
    ) -> list[ScheduleEntry]:
        """See `SharedStore.due`; raises `StoreError` if the folder is gone."""
        with translated(f"can't read the schedule of {self.url}"):
            await self._in_place.run(self._folder.check_identity)
        return self._schedule.before(before, limit, after)

    def schedule(self, did: str, due: ScheduleEntry | None) -> None:
        """See `SharedStore.schedule`."""
        self._schedule.put(did, due)
        found = self._looks.pop(did, None)
        if found is not None and (due is None or due.server != NO_SERVER):
            self._index.add(found.planned(due))

    @asynccontextmanager
    async def watch(self) -> AsyncIterator[FolderWatch]:
        """See `SharedStore.watch`."""
        watch = FolderWatch(self._folder, self._index, self._own)
        self._watches.add(watch)
        try:
            with translated(f"can't watch {self.url}"):
                self._schedule.fill(await in_thread(watch.start))
            yield watch
        finally:
            watch.close()
            self._watches.discard(watch)
            if not self._watches:
                self._own.clear()
                self._looks.clear()
            await in_thread(watch.flush)

    # -----------------------------------------------------------------------------------------

    async def _write(self, what: str, did: str, begin: Callable[[], Write[T]]) -> T:
        """Has something written for one session, together with what others want written now."""
        if self._looking:
            raise StoreError(ONLY_LOOKING)
        group = self._groups.setdefault(running_loop(), GroupCommit(self._apply, most=_TOGETHER))
        with translated(f"can't {what} {did} in {self.url}"):
            done: T = await finish(group.do, WriteOf(did, begin))
        return done

    async def _apply(self, writes: Sequence[WriteOf[Any]]) -> list[Any]:
        with translated(f"can't write in {self.url}"):
            async with self._locks.writing():
                return await in_thread(self._writer.apply, writes)

    def _own_write(self, name: str, written: Stamp) -> None:
        if self._watches:
            self._own[name] = written

    def _saw(self, found: Look) -> None:
        if self._watches:
            self._looks[found.did] = found


def _is_used(entry: StoredSession) -> bool:
    return entry.session is not None and entry.session.refresh_token_hash in entry.state.spent


def _real_folder(path: str | os.PathLike[str], make: bool) -> Path:
    root = Path(os.path.realpath(path, strict=not make))
    if not root.exists():
        make_private_folder(root)
    if not root.is_dir():
        raise StoreError(f"{root} is a file, and a filesystem store is a folder; is it sqlite:///PATH?")
    return root
