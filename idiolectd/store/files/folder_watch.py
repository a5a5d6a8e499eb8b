"""Reports changes in a folder of records, whichever program makes them.

The kernel reports the names that changed (inotify(7)); if its limits are used up, the folder is listed twice
a second instead. Names are turned into DIDs; a file is opened only if its name is ambiguous.

What is reported: a file written and closed, renamed, linked or removed, or given other permissions. A program
that writes in place is noticed when it closes the file. Not reported: what `commit` of the same store wrote.
"""

import math
import os
import stat
from collections.abc import Iterable, Mapping
from typing import Protocol

import anyio
from inotify_simple import INotify, flags  # type: ignore[import-untyped]  # it ships no types

from idiolectd.errors import StoreError
from idiolectd.finish import finish, in_thread
from idiolectd.ports import FULL_BATCH, ScheduleEntry
from idiolectd.store.change_set import ChangeSet
from idiolectd.store.durable import Stamp, stamp_of
from idiolectd.store.error_translation import translated
from idiolectd.store.files.file_names import did_of, guess_did
from idiolectd.store.files.folder import Folder, is_record_name
from idiolectd.store.files.folder_index import FolderIndex

# Mode, owner and group.
Rights = tuple[int, int, int]

# Seconds that events are gathered: replacing one file makes several.
_GATHER = 0.05
_POLL = 0.5

# Seconds between two looks whether the backlog is still held.
_HELD = 0.5

_CHANGES = flags.ATTRIB | flags.CLOSE_WRITE | flags.MOVED_TO | flags.MOVED_FROM | flags.DELETE | flags.CREATE
_LOST = flags.DELETE_SELF | flags.MOVE_SELF | flags.UNMOUNT | flags.IGNORED


class ChangeSource(Protocol):
    """Where the names of changed files come from.

    Attributes:
        regranted: those of the names that `drain` returned last whose owner or permissions changed. Such a
            change is reported even if the file is one that we wrote.
    """

    regranted: set[str]

    async def wait_changes(self) -> None:
        """Waits until there may be changes to `drain`."""
        ...

    def drain(self) -> set[str] | None:
        """The names that changed since the last call; None: any name may have changed. Blocks briefly."""
        ...

    def close(self) -> None:
        """Frees what it holds."""
        ...


class FolderWatch:
    """Watches a folder, for one task. See `idiolectd.ports.Watch`.

    Args:
        folder: the folder to watch.
        index: what is known of the sessions in it.
        own: the stamps of files that our own commits wrote, by name; these are not reported.
    """

    def __init__(self, folder: Folder, index: FolderIndex, own: Mapping[str, Stamp]) -> None:
        self._folder = folder
        self._index = index
        self._own = own
        self._source: ChangeSource | None = None
        # The DID that each file with an ambiguous name held, for when the file is gone.
        self._held: dict[str, str] = {}
        self._names: set[str] = set()
        # What may have changed before, and is named when nothing else is.
        self._backlog: dict[str, None] = {}
        self._is_held = False
        self._pending = ChangeSet(())

    def start(self) -> list[ScheduleEntry]:
        """Starts the watch; blocks. Returns the schedule entries of the sessions that are as they were left.

        Changes from before are unknown, so the first answer names all others.
        """
        # Watched first, then listed: a change in between is reported twice rather than never.
        self._source = _source(self._folder)
        listed = self._folder.listed()
        known = self._index.looks(listed)
        self._names = set(listed)
        # A state without a record: the session was removed meanwhile.
        self._backlog.update(
            dict.fromkeys(self._dids_of((self._names | self._folder.state_names()) - known.keys()))
        )
        return [entry for look in known.values() if (entry := look.entry) is not None]

    async def wait_changed(self) -> list[str]:
        """See `idiolectd.ports.Watch.wait_changed`."""
        source = self._started()
        while True:
            with translated(f"can't watch {self._folder.root}"):
                await finish(self._collect)
            room = 0 if self._is_held else max(0, FULL_BATCH - len(self._pending))
            self._pending.add([self._backlog.popitem()[0] for _ in range(min(room, len(self._backlog)))])
            if self._pending.is_ready:
                return self._pending.take()
            with anyio.move_on_after(_HELD if self._is_held else math.inf):
                await source.wait_changes()

    def hold_backlog(self) -> None:
        """Names only what changes from now on, until `release_backlog`."""
        self._is_held = True

    def release_backlog(self) -> None:
        """Names what is left of what may have changed before."""
        self._is_held = False
        self._pending.answer()

    def adopted(self, dids: Iterable[str]) -> None:
        """Sessions that are planned now: whatever happened to them before is known."""
        for did in dids:
            self._backlog.pop(did, None)

    def flush(self) -> None:
        """Writes what is known by now into the index; blocks."""
        self._index.flush(self._names)

    def close(self) -> None:
        """Ends the watch; harmless if it never started."""
        if self._source is not None:
            self._source.close()

    def _started(self) -> ChangeSource:
        if self._source is None:
            raise RuntimeError("start() first")
        return self._source

    async def _collect(self) -> None:
        self._pending.add(await in_thread(self._changed))

    def _changed(self) -> set[str]:
        names = self._started().drain()
        self.flush()
        if names is None:
            listed = self._folder.listed()
            gone = self._names - listed.keys()
            names, self._names = (listed.keys() - self._index.looks(listed).keys()) | gone, set(listed)
        else:
            regranted = self._started().regranted
            names = {
                name
                for name in names
                if is_record_name(name) and (name in regranted or not self._is_own(name))
            }
            gone = {name for name in names if not os.path.lexists(self._folder.root / name)}
            self._names = (self._names | names) - gone
        return set(self._dids_of(names))

    def _is_own(self, name: str) -> bool:
        ours = self._own.get(name)
        if ours is None:
            return False
        try:
            return stamp_of((self._folder.root / name).lstat()) == ours
        except FileNotFoundError:
            return False

    def _dids_of(self, names: Iterable[str]) -> Iterable[str]:
        for name in names:
            did = did_of(name)
            if did is not None:
                yield did
                continue
            before, now = self._held.pop(name, None), self._folder.did_in(name)
            if now is not None:
                self._held[name] = now
            yield from {did for did in (before, now or guess_did(name)) if did is not None}


class _Inotify:
    """Gets changes from the kernel (inotify(7))."""

    def __init__(self, folder: Folder) -> None:
        self._folder = folder
        self.regranted: set[str] = set()
        self._inotify = INotify(nonblocking=True)
        try:
            mask = _CHANGES | flags.DELETE_SELF | flags.MOVE_SELF | flags.ONLYDIR
            self._inotify.add_watch(folder.root, mask)
        except OSError:
            self._inotify.close()
            raise

    async def wait_changes(self) -> None:
        await anyio.wait_readable(self._inotify.fileno())
        await anyio.sleep(_GATHER)

    def drain(self) -> set[str] | None:
        names = set()
        self.regranted = set()
        everything = False
        for event in self._inotify.read(timeout=0):
            if event.mask & _LOST:
                raise StoreError(
                    f"{self._folder.root} was moved, removed or unmounted; restart once it is back"
                )
            if event.mask & flags.Q_OVERFLOW:
                everything = True
            elif not (event.mask & flags.CREATE and self._is_empty(event.name)):
                names.add(event.name)
                if event.mask & flags.ATTRIB:
                    self.regranted.add(event.name)
        return None if everything else names

    def _is_empty(self, name: str) -> bool:
        # An empty file has just been made and will be written: closing it makes another event. A hard link to
        # a complete file makes only this one.
        try:
            found = (self._folder.root / name).lstat()
        except FileNotFoundError:
            return False
        return stat.S_ISREG(found.st_mode) and not found.st_size

    def close(self) -> None:
        self._inotify.close()


class _Listing:
    """Finds changes by listing the folder twice a second."""

    def __init__(self, folder: Folder) -> None:
        self._folder = folder
        self.regranted: set[str] = set()
        self._stamps = self._list()

    async def wait_changes(self) -> None:
        await anyio.sleep(_POLL)

    def drain(self) -> set[str] | None:
        self._folder.check_identity()
        before, self._stamps = self._stamps, self._list()
        changed = {name for name, _ in before.items() ^ self._stamps.items()}
        both = changed & before.keys() & self._stamps.keys()
        self.regranted = {name for name in both if before[name][1] != self._stamps[name][1]}
        return changed

    def _list(self) -> dict[str, tuple[Stamp, Rights]]:
        stamps = {}
        with os.scandir(self._folder.root) as entries:
            for entry in entries:
                if is_record_name(entry.name):
                    try:
                        found = entry.stat(follow_symlinks=False)
                        stamps[entry.name] = (stamp_of(found), (found.st_mode, found.st_uid, found.st_gid))
                    except FileNotFoundError:
                        continue
        return stamps

    def close(self) -> None:
        pass


def _source(folder: Folder) -> ChangeSource:
    try:
        return _Inotify(folder)
    except OSError:  # fs.inotify.max_user_instances or max_user_watches is used up
        return _Listing(folder)
