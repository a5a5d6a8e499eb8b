"""Upstream's SQLite database, with a schedule and a list of changes beside its table.

Reads take no lock. Writes that wait together share one durable transaction under the write lock.
Under asyncio everything runs on the caller's loop, under trio on an island: see there.
"""

import os
import sqlite3
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager, nullcontext, suppress
from functools import partial
from pathlib import Path
from typing import Any, Self, TypeVar, TypeVarTuple

import anyio

from idiolectd.clock import Clock, SystemClock
from idiolectd.did import parse_did
from idiolectd.errors import LockBusy, StoreError
from idiolectd.finish import finish, in_thread, is_asyncio, running_loop
from idiolectd.ports import FULL_BATCH, Committed, ScheduleEntry, StoredSession, Survey
from idiolectd.session import OAuthSession, Tokens
from idiolectd.state import RefreshState
from idiolectd.store.access import RecordAccess
from idiolectd.store.change_set import ChangeSet
from idiolectd.store.disk_space import RoomCheck
from idiolectd.store.durable import PRIVATE, grant, make_private_folder, sync_folder
from idiolectd.store.error_translation import ONLY_LOOKING, translated
from idiolectd.store.locks.claims import Locks
from idiolectd.store.locks.holders import holder_of
from idiolectd.store.merge import decode_record, decode_state
from idiolectd.store.spill_places import StoreSpill
from idiolectd.store.sqlite import carry_over
from idiolectd.store.sqlite.asyncio_thread import AsyncioThread
from idiolectd.store.sqlite.change_cursor import ChangeCursor, SchemaChanged
from idiolectd.store.sqlite.connections import DatabaseFile, Replaced
from idiolectd.store.sqlite.database import runtime_dir_of
from idiolectd.store.sqlite.group_commit import GroupCommit
from idiolectd.store.sqlite.operations import Commit, Delete, Forget, Operation, Save, place_of
from idiolectd.store.sqlite.reader import Reader
from idiolectd.store.sqlite.writer import Answer, StoreWriter
from idiolectd.store.store_url import StoreUrl

T = TypeVar("T")
Ts = TypeVarTuple("Ts")

# A look at the data version costs microseconds; a login should be noticed within a second.
_POLL = 0.3


# The byte of the -shm file that whoever writes in WAL mode keeps locked
# (https://www.sqlite.org/walformat.html#wal_locks).
_WAL_WRITER = 120

# What a read-only connection says of a journal, or a WAL, that first has to be recovered.
_HALF_WRITTEN = (sqlite3.SQLITE_READONLY_ROLLBACK, sqlite3.SQLITE_READONLY_RECOVERY)


class SqliteOAuthTokenStore:
    """Sessions in a database. See `idiolectd.ports.SharedStore`; made by `open`.

    Attributes:
        url: the store's URL.
        runtime_dir: a private folder beside the database (0700, made with the first write) for what
            belongs to the store but is not a session.
        spill: the second place for tokens.
    """

    def __init__(
        self,
        path: Path,
        *,
        access: RecordAccess,
        spill_dir: Path | None,
        looking: bool,
        clock: Clock,
        island: AsyncioThread | None,
    ) -> None:
        self.url = str(StoreUrl("sqlite", path))
        self.runtime_dir = runtime_dir_of(path)
        self.spill = StoreSpill(self.runtime_dir, spill_dir)
        self._room = RoomCheck(path.parent, also=self.spill.make_known)
        self._path = path
        self._clock = clock
        self._island = island
        self._opened_in = (running_loop(), os.getpid())
        self._locks = Locks(self.runtime_dir)
        self._file = DatabaseFile(path)
        # Of which database each claimed session was read: in another it may never have been.
        self._claimed: dict[str, int] = {}
        self._reopened: list[str] = []
        self._reader = Reader(self._file, untouched=looking)
        self._looking = looking
        self._writer = StoreWriter(
            self._file, access, clock, own_change=self._own_change, undone=self._undone
        )
        self._group = GroupCommit(self._apply)
        self._look_outs: set[ChangeCursor] = set()

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

        Raises:
            StoreError: it is not a database, or another program's, or can't be made.
        """
        access = RecordAccess(group)
        with translated(f"can't open {os.fspath(path)}"):
            real = await in_thread(_there if looking else _real_file, path)
        async with nullcontext() if is_asyncio() else AsyncioThread.open() as island:
            with translated(f"can't open {real}"):
                store = cls(
                    real,
                    access=access,
                    spill_dir=spill_dir,
                    looking=looking,
                    clock=clock or SystemClock(),
                    island=island,
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
        with self._reading(did):
            text = await self._read(self._reader.record, parse_did(did))
        return None if text is None else decode_record(text, place=place_of(self._path, did), did=did)

    async def delete(self, did: str) -> None:
        """See `OAuthTokenStore.delete`."""
        await self._write(did, Delete(parse_did(did)))

    async def list_dids(self) -> list[str]:
        """See `OAuthTokenStore.list_dids`."""
        return (await self.survey()).dids

    # SharedStore -----------------------------------------------------------------------------

    async def survey(self) -> Survey:
        """See `SharedStore.survey`."""
        with self._reading("all sessions"):
            return await self._read(self._reader.survey)

    async def count(self) -> int:
        """See `SharedStore.count`."""
        with self._reading("all sessions"):
            return await self._read(self._reader.count)

    @asynccontextmanager
    async def claim(self, did: str, *, patience: float) -> AsyncIterator[None]:
        """See `SharedStore.claim`."""
        if self._looking:
            raise StoreError(ONLY_LOOKING)
        did = parse_did(did)
        async with self._locks.claim(did, patience):
            self._claimed[did] = self._file.generation
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
        with self._reading(did):
            stored = await self._read(self._reader.entry, parse_did(did))
        return StoredSession(
            stored.session(place_of(self._path, did), did), decode_state(stored.state, self._clock.now())
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
        if tokens is None:  # nothing has been sent, or it is lost: without a claim nothing may be
            await self._locks.confirm_claim(did)
        done = await self._write(did, Commit(read, state, tokens, due))
        if done is Committed.GONE and self._claimed.get(did, self._file.generation) != self._file.generation:
            raise StoreError(
                f"{did} is not in the database that has taken the place of {self._path} since it was read"
            )
        return done

    async def unplanned(self) -> list[str]:
        """See `SharedStore.unplanned`."""
        with self._reading("the schedule"):
            return await self._read(self._reader.unplanned, FULL_BATCH)

    def reopened(self) -> list[str]:
        """See `SharedStore.reopened`."""
        told, self._reopened = self._reopened, []
        return told

    async def forget(self, did: str) -> bool:
        """See `SharedStore.forget`."""
        did = parse_did(did)
        return await self._write(did, Forget(did)) is Committed.GONE

    async def due(
        self, before: float, *, limit: int, after: ScheduleEntry | None = None
    ) -> list[ScheduleEntry]:
        """See `SharedStore.due`."""
        with self._reading("the schedule"):
            return await self._read(self._reader.due, before, limit, after)

    def schedule(self, did: str, due: ScheduleEntry | None) -> None:
        """See `SharedStore.schedule`; whoever made a line has written it into the database."""

    @asynccontextmanager
    async def watch(self) -> AsyncIterator["SqliteWatch"]:
        """See `SharedStore.watch`."""
        look_out = ChangeCursor(self._reader)
        self._look_outs.add(look_out)
        try:
            yield SqliteWatch(look_out, partial(self._look, look_out))
        finally:
            self._look_outs.discard(look_out)

    # -----------------------------------------------------------------------------------------

    async def _start(self) -> None:
        with self._reading("the database"):
            try:
                await finish(self._run, self._reader.open)
            except sqlite3.OperationalError as error:
                if error.sqlite_errorcode not in _HALF_WRITTEN:
                    raise
                if self._looking:
                    raise StoreError(
                        f"{self._path}: a program that wrote it ended in the middle; the next that writes mends it,"
                        " as idiolectd run or refresh"
                    ) from error
                # A writer died in the middle: whoever may write rolls that back, a reader can't.
                await self._see_to_tables()
                await self._run(self._reader.touch)
            is_ready = await self._read(self._reader.check_is_ours)
            await self._read(self._reader.check_format)
        if not is_ready and self._looking:
            raise StoreError(f"{self._path} holds no table of sessions yet; idiolectd login makes it")
        if not is_ready:
            await self._see_to_tables()

    async def _stop(self) -> None:
        # The reading connection last, and not asleep since before the WAL mode: see `Reader`.
        with suppress(sqlite3.Error, RuntimeError, OSError, StoreError):
            await self._read(self._reader.touch)
        await self._run(self._writer.close)
        await self._run(self._reader.close)

    async def _run(self, work: Callable[[*Ts], Coroutine[Any, Any, T]], *args: *Ts) -> T:
        """Runs what needs asyncio: here, or on the island."""
        self._check_loop()
        if self._island is None:
            return await work(*args)
        return await self._island.run(work, *args)

    def _check_loop(self) -> None:
        """Raises instead of waiting for what only the loop that opened the store could bring."""
        if self._opened_in != (running_loop(), os.getpid()):
            raise StoreError(
                f"{self.url} was opened in another event loop, or before this process was forked:"
                " open it here too (open_store)"
            )

    async def _read(self, work: Callable[[*Ts], Coroutine[Any, Any, T]], *args: *Ts) -> T:
        """As `_run`, from the files that are there now."""
        try:
            return await self._run(work, *args)
        except Replaced:
            await finish(self._catch_up)
            return await self._run(work, *args)

    @contextmanager
    def _reading(self, what: str) -> Iterator[None]:
        with translated(f"can't read {what} from {self.url}"):
            yield

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
                        return await self._run(self._apply_here, operations)
                    except Replaced as error:
                        await self._run(self._open_anew, str(error))
                        return await self._run(self._apply_here, operations)
        except LockBusy as error:
            if isinstance(error.__cause__, sqlite3.Error):  # a foreign program's transaction
                who = await in_thread(holder_of, Path(f"{self._path}-shm"), _WAL_WRITER)
                raise LockBusy(f"{error} ({who or 'which one, the system does not tell'})") from error
            raise

    async def _apply_here(self, operations: Sequence[Operation]) -> list[Answer]:
        was_open = self._writer.is_open
        if not was_open and self._file.generation:  # another database than was opened: whose?
            await self._reader.check_is_ours()
        answers = await self._writer.apply(operations)
        if not was_open:
            # A reading connection from before the WAL mode would open the side files only when it is
            # next used: others by then, perhaps.
            await self._reader.touch()
        return answers

    async def _open_anew(self, why: str) -> None:
        """Exchanges all connections for such on the present files, under the write lock."""
        is_another = self._file.is_another()
        copy = carry_over.places(self._path)[is_another]
        async with self._reader.away(copy, self._writer.leave if is_another else self._writer.close):
            if not is_another:
                await self._file.begin_new_log()
            self._file.renew()
        await self._apply_here(())
        self._reopened.append(f"{why}; opened anew, {self._writer.take_carried()} sessions carried over")
        await self._restart_look_outs(everything=is_another)

    async def _catch_up(self) -> None:
        """The files are others than those that are open: opens the present ones."""
        if self._writer.was_open:
            await self._see_to_tables()
        else:  # nothing of ours can be lost, and who only reads may not write
            await self._run(self._open_anew_to_read)

    async def _open_anew_to_read(self) -> None:
        async with self._reader.away(None, self._writer.close):
            self._file.renew()
        await self._restart_look_outs(everything=True)

    async def _restart_look_outs(self, *, everything: bool) -> None:
        for look_out in tuple(self._look_outs):
            await look_out.restart(everything=everything)

    async def _see_to_tables(self) -> None:
        await finish(self._apply, ())

    async def _look(self, look_out: ChangeCursor) -> list[str]:
        with translated(f"can't watch {self.url}"):
            try:
                return await self._run(look_out.poll)
            except Replaced:
                await self._catch_up()  # which restarts all look-outs
            except SchemaChanged:
                await self._see_to_tables()
                await self._run(look_out.restart)
            return []

    # These two are called where the connections live, be it another thread.

    def _own_change(self, did: str, seq: int) -> None:
        for look_out in tuple(self._look_outs):
            look_out.add_own(did, seq)

    def _undone(self) -> None:
        for look_out in tuple(self._look_outs):
            look_out.forget_own()


class SqliteWatch:
    """A look-out, for one task. See `idiolectd.ports.Watch`.

    Args:
        look_out: where it stands.
        look: asks it what is new.
    """

    def __init__(self, look_out: ChangeCursor, look: Callable[[], Awaitable[list[str]]]) -> None:
        self._look_out = look_out
        self._look = look
        self._pending = ChangeSet(())

    async def wait_changed(self) -> list[str]:
        """See `idiolectd.ports.Watch.wait_changed`."""
        while True:
            await finish(self._collect)
            if self._look_out.has_more and len(self._pending) < FULL_BATCH:
                continue
            if self._pending.is_ready:
                return self._pending.take()
            await anyio.sleep(_POLL)

    async def _collect(self) -> None:
        self._pending.add(await self._look())


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
