"""Upstream's SQLite database, with a schedule and a list of changes beside its table.

Reads take no lock of ours. A single row is read in place, on the event loop; whatever is long, or has to wait
for a foreign program, is read in a thread. Writes that wait together share one durable transaction under the
write lock; they need asyncio (aiosqlite), so under trio they cross over to a thread that has it.
"""

import os
import sqlite3
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Coroutine, Sequence
from contextlib import aclosing, asynccontextmanager, nullcontext, suppress
from functools import partial
from pathlib import Path
from typing import Any, Self, TypeVar, TypeVarTuple

from idiolectd.clock import Clock, SystemClock
from idiolectd.did import parse_did
from idiolectd.errors import LockBusy, StoreError
from idiolectd.finish import finish, in_thread, is_asyncio, running_loop
from idiolectd.ports import (
    FULL_BATCH,
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
from idiolectd.store.durable import PRIVATE, grant, make_private_folder, sync_folder
from idiolectd.store.error_translation import ONLY_LOOKING, translated
from idiolectd.store.group_commit import GroupCommit
from idiolectd.store.in_place import InPlace
from idiolectd.store.locks.claims import Locks
from idiolectd.store.locks.holders import holder_of
from idiolectd.store.merge import decode_state
from idiolectd.store.put_back import Witnesses
from idiolectd.store.record_text import KnownRecord, decode_record
from idiolectd.store.sealing import NO_KEYS, Keys
from idiolectd.store.spill_places import StoreSpill
from idiolectd.store.sqlite import adoption, carry_over, schema
from idiolectd.store.sqlite.asyncio_thread import AsyncioThread
from idiolectd.store.sqlite.columns import did_of, place_of
from idiolectd.store.sqlite.copies import copied_rows, copy_of
from idiolectd.store.sqlite.database import BUSY_TIMEOUT, DatabaseFile, Replaced, connect, runtime_dir_of
from idiolectd.store.sqlite.database_watch import ChangeCursor, DatabaseWatch, SchemaChanged
from idiolectd.store.sqlite.operations import Commit, Delete, Forget, Operation, Reseal, Restore, Save
from idiolectd.store.sqlite.reader import DatabaseReader
from idiolectd.store.sqlite.write_hint import WriteHint
from idiolectd.store.sqlite.writer import Answer, StoreWriter
from idiolectd.store_url import StoreUrl

T = TypeVar("T")
Ts = TypeVarTuple("Ts")

# The byte of the -shm file that whoever writes in WAL mode keeps locked
# (https://www.sqlite.org/walformat.html#wal_locks).
_WAL_WRITER = 120

# What a read-only connection says of a journal, or a WAL, that first has to be recovered.
_HALF_WRITTEN = (sqlite3.SQLITE_READONLY_ROLLBACK, sqlite3.SQLITE_READONLY_RECOVERY)

# How many new sessions are planned and written at a time: refreshes commit in between. The first ones are
# perhaps overdue.
_FIRST_NEW_PAGE, _NEW_PAGE = 200, 500

_IS_LOCKED = (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED)


class _Claimed:
    """What the store remembers of a session while this process holds its claim.

    Attributes:
        generation: of which database it was read: in another one it may never have been.
        known: its record as last read; None: not read yet.
    """

    def __init__(self, generation: int) -> None:
        self.generation = generation
        self.known: KnownRecord | None = None


class SqliteOAuthTokenStore:
    """Sessions in a database. See `idiolectd.ports.SharedStore`; made by `open`.

    Attributes:
        url: the store's URL.
        runtime_dir: a private folder beside the database (0700, made with the first write) for what
            belongs to the store but is not a session.
        spill: the second place for tokens.
        keys: seal and open secrets.
    """

    def __init__(
        self,
        path: Path,
        *,
        access: RecordAccess,
        spill_dir: Path | None,
        looking: bool,
        clock: Clock,
        asyncio_thread: AsyncioThread | None,
        keys: Keys,
    ) -> None:
        self.url = str(StoreUrl("sqlite", path))
        self.runtime_dir = runtime_dir_of(path)
        self.spill = StoreSpill(self.runtime_dir, spill_dir, keys=keys)
        self._room = RoomCheck(path.parent, also=self.spill.make_known)
        self._path = path
        self._clock = clock
        self.keys = keys
        self._asyncio_thread = asyncio_thread
        self._opened_in = (running_loop(), os.getpid())
        self._in_place = InPlace()
        self._locks = Locks(self.runtime_dir, self._in_place)
        self._witnesses: Witnesses | None = None
        self._file = DatabaseFile(path)
        self._claimed: dict[str, _Claimed] = {}
        self._reopened: list[str] = []
        self._reader = DatabaseReader(self._file, untouched=looking)
        self._looking = looking
        self._writer = StoreWriter(self._file, access, clock, keys)
        self._group = GroupCommit[Operation, Committed](self._apply)
        self._cursors: set[ChangeCursor] = set()
        self._not_adopted = 0

    def __repr__(self) -> str:
        return f"<SqliteOAuthTokenStore {self.url}>"

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
        """Opens a database of sessions; a missing one is made.

        Reading needs no more than the permission to read; what writing needs is made by the first
        write.

        Args:
            path: the database file.
            group: a group whose members may read it (0640); None: nobody. They also have to be
                able to enter its folder.
            spill_dir: where tokens are spilled; None: see `idiolectd.store.spill_places`.
            looking: nothing is changed on disk, be it by SQLite itself, and nothing can be written. Not
                while this process has the same database open otherwise.
            clock: where the time comes from.
            keys: seal and open secrets.

        Raises:
            StoreError: it is not a database, or another program's, or can't be made.
        """
        access = RecordAccess(group)
        with translated(f"can't open {os.fspath(path)}"):
            real = await in_thread(_there if looking else _real_file, path)
        async with nullcontext() if is_asyncio() else AsyncioThread.open() as asyncio_thread:
            with translated(f"can't open {real}"):
                store = cls(
                    real,
                    access=access,
                    spill_dir=spill_dir,
                    looking=looking,
                    clock=clock or SystemClock(),
                    asyncio_thread=asyncio_thread,
                    keys=keys,
                )
            try:
                await store._start()
                yield store
            finally:
                await finish(store._stop)

    # OAuthTokenStore -------------------------------------------------------------------------

    async def save(self, session: OAuthSession) -> None:
        """See `OAuthTokenStore.save`."""
        did = parse_did(session.did)
        await self._write(did, Save(session))

    async def load(self, did: str) -> OAuthSession | None:
        """See `OAuthTokenStore.load`."""
        text = await self._read_row(did, self._reader.record, parse_did(did))
        if text is None:
            return None
        return decode_record(text, place=place_of(self._path, did), did=did, keys=self.keys)

    async def delete(self, did: str) -> None:
        """See `OAuthTokenStore.delete`."""
        await self._write(did, Delete(parse_did(did)))

    async def list_dids(self) -> list[str]:
        """See `OAuthTokenStore.list_dids`."""
        return (await self.survey()).dids

    # SharedStore -----------------------------------------------------------------------------

    async def survey(self) -> Survey:
        """See `SharedStore.survey`."""
        return await self._read("all sessions", self._reader.survey)

    async def pages(self) -> AsyncGenerator[list[str], None]:
        """See `SharedStore.pages`."""
        last = b"did:"
        while keys := await self._read("all sessions", self._reader.keys, last, FULL_BATCH):
            last = keys[-1]
            yield [did for key in keys if (did := did_of(key)) is not None]

    async def count(self) -> int:
        """See `SharedStore.count`."""
        return await self._read("all sessions", self._reader.count)

    async def overview(self, now: float, *, limit: int) -> Overview | None:
        """See `SharedStore.overview`."""
        return await self._read("all sessions", self._reader.overview, now, limit)

    async def called(self, handle: str) -> Called:
        """See `SharedStore.called`."""
        return await self._read("all sessions", self._reader.called, handle)

    @asynccontextmanager
    async def claim(self, did: str, *, patience: float) -> AsyncIterator[None]:
        """See `SharedStore.claim`."""
        if self._looking:
            raise StoreError(ONLY_LOOKING)
        did = parse_did(did)
        async with self._locks.claim(did, patience):
            self._claimed[did] = _Claimed(self._file.generation)
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
        with translated(f"can't write into {self.url}"):
            await finish(self._try_to_write)

    async def _try_to_write(self) -> None:
        async with self._locks.writing():
            await self._run(self._writer.try_to_write)

    async def secure(self) -> None:
        """See `SharedStore.secure`."""
        with translated(f"can't set the permissions of {self.url}"):
            await in_thread(self._writer.secure)

    async def read(self, did: str) -> StoredSession:
        """See `SharedStore.read`."""
        stored = await self._read_row(did, self._reader.entry, parse_did(did))
        session = stored.session(place_of(self._path, did), did, self.keys)
        claimed = self._claimed.get(did)
        if claimed is not None and session is not None and isinstance(stored.record, bytes):
            claimed.known = KnownRecord(stored.record, session)
        state = decode_state(stored.state, self._clock.now(), did=did, keys=self.keys, record=session)
        return StoredSession(session, state)

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
        if tokens is None:  # nothing has been sent, or it is lost: without a claim nothing may be
            await self._locks.confirm_claim(did)
        claimed = self._claimed.get(did)
        known = None if claimed is None else claimed.known
        done = await self._write(did, Commit(read, state, tokens, due, known))
        if done is Committed.GONE and claimed is not None and claimed.generation != self._file.generation:
            raise StoreError(
                f"{did} is not in the database that has taken the place of {self._path} since it was read"
            )
        return done

    async def change_number(self, *, renew: bool) -> int:
        """See `SharedStore.change_number`: triggers count."""
        if not await self._read("the changes", self._reader.knows_states):
            return 0
        return await self._read("the changes", self._reader.last_change)

    def witnesses(self) -> Witnesses:
        """See `SharedStore.witnesses`: also beside the database, for it may be put back alone."""
        if self._witnesses is None:
            self._witnesses = Witnesses(self.runtime_dir, [self.runtime_dir, *self.spill.folders()])
        return self._witnesses

    async def copies(self) -> AsyncGenerator[list[StoredCopy], None]:
        """See `SharedStore.copies`: all of one moment, in a read transaction, for which no writer waits."""
        what = "all sessions"
        if not await self._read(what, self._reader.knows_states):
            await self._see_to_tables()
        connection = await self._read(what, partial(connect, self._path, "ro", timeout=BUSY_TIMEOUT))
        try:
            with translated(f"can't read {what} from {self.url}"):
                await in_thread(connection.execute, "BEGIN")
                last = schema.BEFORE_ALL_ROWS
                while rows := await in_thread(copied_rows, connection, last):
                    last = rows[-1][0]
                    yield [copy for row in rows if (copy := copy_of(row)) is not None]
        finally:
            await in_thread(connection.close)

    async def restore(self, copy: StoredCopy) -> Committed:
        """See `SharedStore.restore`."""
        return await self._write(parse_did(copy.did), Restore(copy))

    @asynccontextmanager
    async def new_sessions(self) -> AsyncIterator[AsyncGenerator[list[NewRecord], None] | None]:
        """See `SharedStore.new_sessions`."""
        what = "the new sessions"
        if not await self._read(what, self._reader.knows_states):
            await self._see_to_tables()
        # A connection of its own: finding the order takes seconds at a million, and rows are read meanwhile.
        connection = await self._read(what, partial(connect, self._path, "ro", timeout=BUSY_TIMEOUT))
        try:
            found = await self._read(what, adoption.count_new, connection)
            if found - self._not_adopted < FULL_BATCH:
                yield None
                return
            for cursor in self._cursors:
                await self._read(what, cursor.leave_to_crowd)
            try:
                async with aclosing(self._new_pages(connection)) as pages:
                    yield pages
            finally:
                for cursor in self._cursors:
                    cursor.after_crowd()
        finally:
            await in_thread(connection.close)

    async def _new_pages(self, connection: sqlite3.Connection) -> AsyncGenerator[list[NewRecord], None]:
        what = "the new sessions"
        order = await self._read(what, adoption.order_new, connection)
        start, size = 0, _FIRST_NEW_PAGE
        while rowids := order[start : start + size]:
            self._file.check()
            yield await self._read(what, adoption.read_new, connection, self._path, rowids, self.keys)
            start, size = start + size, _NEW_PAGE
        # Those that are left are unreadable, say: they are no crowd again.
        self._not_adopted = await self._read(what, adoption.count_new, connection)

    async def commit_first(self, plans: Sequence[FirstPlan]) -> list[str]:
        """See `SharedStore.commit_first`."""
        if self._looking:
            raise StoreError(ONLY_LOOKING)
        with translated(f"can't write into {self.url}"):
            return await finish(self._commit_first, plans)

    async def _commit_first(self, plans: Sequence[FirstPlan]) -> list[str]:
        async with self._locks.writing():
            return await self._run(self._writer.put_first, plans)

    async def unplanned(self) -> list[str]:
        """See `SharedStore.unplanned`."""
        return await self._read("the schedule", self._reader.unplanned, FULL_BATCH)

    def reopened(self) -> list[str]:
        """See `SharedStore.reopened`."""
        told, self._reopened = self._reopened, []
        return told

    async def forget(self, did: str) -> bool:
        """See `SharedStore.forget`."""
        did = parse_did(did)
        return await self._write(did, Forget(did)) is Committed.GONE

    async def reseal(self, did: str) -> bool:
        """See `SharedStore.reseal`."""
        did = parse_did(did)
        return await self._write(did, Reseal(did)) is Committed.DONE

    async def due(
        self, before: float, *, limit: int, after: ScheduleEntry | None = None
    ) -> list[ScheduleEntry]:
        """See `SharedStore.due`."""
        return await self._read("the schedule", self._reader.due, before, limit, after)

    def schedule(self, did: str, due: ScheduleEntry | None) -> None:
        """See `SharedStore.schedule`; whoever planned the session has written that into the database."""

    @asynccontextmanager
    async def watch(self) -> AsyncIterator[DatabaseWatch]:
        """See `SharedStore.watch`."""
        cursor = ChangeCursor(self._reader)
        self._cursors.add(cursor)
        hint = WriteHint(Path(self._path))
        try:
            yield DatabaseWatch(cursor, partial(self._has_moved, cursor), partial(self._look, cursor), hint)
        finally:
            self._cursors.discard(cursor)
            hint.close()

    # Opening and closing ---------------------------------------------------------------------

    async def _start(self) -> None:
        try:
            await self._read("the database", self._reader.touch)
        except StoreError as error:
            cause = error.__cause__
            if not isinstance(cause, sqlite3.Error) or _code(cause) not in _HALF_WRITTEN:
                raise
            if self._looking:
                raise StoreError(
                    f"{self._path}: a program that wrote it ended in the middle; the next that writes mends it,"
                    " as idiolectd run or refresh"
                ) from cause
            # A writer died in the middle: whoever may write rolls that back, a reader can't.
            with translated(f"can't read the database from {self.url}"):
                await self._see_to_tables()
            await self._read("the database", self._reader.touch)
        is_ready = await self._read("the database", self._reader.check_is_ours)
        await self._read("the database", self._reader.check_format)
        if not is_ready and self._looking:
            raise StoreError(f"{self._path} holds no table of sessions yet; idiolectd login makes it")
        if not is_ready:
            await self._see_to_tables()

    async def _stop(self) -> None:
        # The reading connection last, and not asleep since before the WAL mode: see `DatabaseReader`.
        with suppress(StoreError, RuntimeError):
            await self._read("the database", self._reader.touch)
        await self._run(self._writer.close)
        await in_thread(self._reader.close)

    # Reading ---------------------------------------------------------------------------------

    async def _read_row(self, what: str, work: Callable[[str, float], T], did: str) -> T:
        """Reads what belongs to one DID: in place, unless it is locked just now, or the disk is slow."""
        self._check_loop()
        try:
            return await self._in_place.run(work, did, 0.0)
        except (LockBusy, Replaced):
            pass
        except (OSError, sqlite3.Error) as error:
            if _code(error) & 0xFF not in _IS_LOCKED:
                with translated(f"can't read {what} from {self.url}"):
                    raise
        return await self._read(what, work, did, BUSY_TIMEOUT)

    async def _read(self, what: str, work: Callable[[*Ts], T], *args: *Ts) -> T:
        """Reads in a thread, from the files that are there now."""
        self._check_loop()
        with translated(f"can't read {what} from {self.url}"):
            try:
                return await in_thread(work, *args)
            except Replaced:
                await finish(self._catch_up)
                return await in_thread(work, *args)

    async def _has_moved(self, cursor: ChangeCursor) -> bool:
        """Whether a watch may have something to name."""
        self._check_loop()
        try:
            return cursor.has_more or await self._in_place.run(cursor.has_moved)
        except (LockBusy, Replaced, OSError, sqlite3.Error):
            return True  # `_look` waits for whoever has it locked, and says what else there is

    async def _look(self, cursor: ChangeCursor) -> list[str]:
        """What a watch has to name now."""
        with translated(f"can't watch {self.url}"):
            try:
                if cursor.has_to_search:
                    found = await finish(self._search)
                    cursor.is_searched = found is None
                    return found or []
                return cursor.named(await in_thread(cursor.fetch))
            except Replaced:
                await self._catch_up()  # which restarts all cursors
            except SchemaChanged:
                await self._see_to_tables()
                await in_thread(cursor.restart)
            return []

    # Writing ---------------------------------------------------------------------------------

    async def _write(self, did: str, operation: Operation) -> Committed:
        self._check_loop()
        with translated(f"can't write {did} into {self.url}"):  # this operation's own trouble
            return await finish(self._group.do, operation)

    async def _apply(self, operations: Sequence[Operation]) -> list[Answer]:
        if self._looking:
            raise StoreError(ONLY_LOOKING)
        try:
            with translated(f"can't write into {self.url}"):
                async with self._locks.writing():
                    try:
                        return await self._apply_here(operations)
                    except Replaced as error:
                        await self._open_anew(str(error))
                        return await self._apply_here(operations)
        except LockBusy as error:
            if isinstance(error.__cause__, sqlite3.Error):  # a foreign program's transaction
                who = await in_thread(holder_of, Path(f"{self._path}-shm"), _WAL_WRITER)
                raise LockBusy(f"{error} ({who or 'which one, the system does not tell'})") from error
            raise

    async def _apply_here(self, operations: Sequence[Operation]) -> list[Answer]:
        was_open = self._writer.is_open
        if not was_open and self._file.generation:  # another database than was opened: whose?
            await in_thread(self._reader.check_is_ours)
        applied = await self._run(self._writer.apply, operations)
        for cursor in self._cursors:
            cursor.add_own(applied.own_news)
        if not was_open:
            # A reading connection from before the WAL mode would open the side files only when it is
            # next used: others by then, perhaps.
            await in_thread(self._reader.touch)
        return applied.answers

    async def _search(self) -> list[str] | None:
        async with self._locks.writing():
            return await self._run(self._writer.search)

    async def _see_to_tables(self) -> None:
        await finish(self._apply, ())

    async def _run(self, work: Callable[[*Ts], Coroutine[Any, Any, T]], *args: *Ts) -> T:
        """Runs what needs asyncio: here, or in the thread that has it."""
        self._check_loop()
        if self._asyncio_thread is None:
            return await work(*args)
        return await self._asyncio_thread.run(work, *args)

    def _check_loop(self) -> None:
        """Raises instead of waiting for what only the loop that opened the store could bring."""
        if self._opened_in != (running_loop(), os.getpid()):
            raise StoreError(
                f"{self.url} was opened in another event loop, or before this process was forked:"
                " open it here too (open_store)"
            )

    # Files that were removed or replaced -------------------------------------------------------

    async def _catch_up(self) -> None:
        """The files are others than those that are open: opens the present ones."""
        if self._writer.was_open:
            await self._see_to_tables()
        else:  # nothing of ours can be lost, and who only reads may not write
            await self._run(self._writer.close)
            await in_thread(self._reader.exchange, self._file.renew)
            await self._restart_cursors(everything=True)

    async def _open_anew(self, why: str) -> None:
        """Exchanges all connections for such on the present files, under the write lock."""
        is_another = self._file.is_another()
        await in_thread(self._reader.keep, carry_over.places(self._path)[is_another])
        # The reading connection last: it removes no side files, which may be others' by now.
        await self._run(self._writer.leave if is_another else self._writer.close)

        def renew() -> None:
            if not is_another:
                self._file.begin_new_log()
            self._file.renew()

        await in_thread(self._reader.exchange, renew)
        await self._apply_here(())
        self._reopened.append(f"{why}; opened anew, {self._writer.take_carried()} sessions carried over")
        await self._restart_cursors(everything=is_another)

    async def _restart_cursors(self, *, everything: bool) -> None:
        for cursor in tuple(self._cursors):
            await in_thread(partial(cursor.restart, everything=everything))


def _code(error: Exception) -> int:
    # An error of Python's own module (a wrong thread, say) has none.
    return int(getattr(error, "sqlite_errorcode", 0))


def _there(path: str | os.PathLike[str]) -> Path:
    real = Path(os.path.realpath(path, strict=True))
    if not real.is_file():
        raise StoreError(f"{real} is not a file, and an SQLite store is one; is it file:///FOLDER?")
    return real


def _real_file(path: str | os.PathLike[str]) -> Path:
    real = Path(os.path.realpath(path))
    if real.is_dir():
        raise StoreError(f"{real} is a folder, and an SQLite store is a file; is it file:///FOLDER?")
    if real.exists():
        return real
    if not real.parent.exists():
        make_private_folder(real.parent)
    # Before SQLite does: it would ask the umask who may read the tokens.
    with suppress(FileExistsError):
        fd = os.open(real, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        try:
            grant(fd, PRIVATE)
        finally:
            os.close(fd)
        sync_folder(real.parent)
    return real
