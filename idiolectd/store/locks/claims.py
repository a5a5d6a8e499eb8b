"""The two locks of a store: the claim on one DID, and the write lock.

A claim is held across HTTP requests, the write lock for milliseconds. Each is a lock on one byte of the same
file, so a million DIDs need no million files. The file lies in a private folder beside the store's *real*
path, so a symbolic link to the store leads to the same claims. Programs without write permission can't open
it.

Rules: fail closed: whatever goes wrong is a `StoreError`, and nothing is done. Waiting can be
cancelled and has a bound. Within the process tasks queue; the kernel decides between processes. A
lock folder that somebody removed is made anew, and a claim that was held in it is taken again there.
"""

import hashlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import anyio

from idiolectd.errors import LockBusy
from idiolectd.finish import in_thread
from idiolectd.store.durable import make_private_folder
from idiolectd.store.error_translation import translated
from idiolectd.store.in_place import InPlace
from idiolectd.store.locks.holders import holder_of, signed_holder_of
from idiolectd.store.locks.mounts import refuse_network_file_system
from idiolectd.store.locks.ofd import is_held
from idiolectd.store.locks.queues import Queues
from idiolectd.store.locks.waiting import LockWaiters, OwnedLock

# Claims lie below, the write lock at this byte. A file offset is a signed 64-bit number.
_WRITE_LOCK = 2**62

# Seconds. The write lock is held for milliseconds: a holder that keeps it this long is broken.
WRITE_PATIENCE = 10.0

# The process that is next to get the write lock holds the byte after it while it waits. It decides nothing:
# older versions, which know nothing of it, and `LockWaiters._stays_free` take the lock without it.


class Locks:
    """Claims and the write lock of one store.

    Args:
        runtime_dir: the private folder beside the store; made when the first lock is asked for.
        in_place: runs calls that never wait; None: a new one is made.
    """

    def __init__(self, runtime_dir: Path, in_place: InPlace | None = None) -> None:
        self._file = runtime_dir / "locks" / "claims"
        self._queues = Queues()
        self._prepared = False
        self._in_place = in_place or InPlace()
        self._waiters = LockWaiters(self._file, self._in_place)
        self._claims: dict[str, list[OwnedLock]] = {}

    @asynccontextmanager
    async def claim(self, did: str, patience: float) -> AsyncIterator[None]:
        """See `idiolectd.ports.SharedStore.claim`."""
        async with self._hold(_claim_on(did), _claim_byte(did), patience) as held:
            self._claims[did] = held
            try:
                yield
            finally:
                del self._claims[did]

    async def confirm_claim(self, did: str) -> None:
        """Checks that a claim of this process on the DID, if there is one, still keeps others out.

        Raises:
            LockBusy: the lock file was removed, and another process has taken the claim on the new one.
        """
        locks = self._claims.get(did)
        if locks and not await self._in_place.run(locks[-1].is_current):
            # The lock on the removed file is kept as well: another process may still have that file open.
            await self._take(_claim_on(did), _claim_byte(did), anyio.current_time(), locks)

    async def claim_holder(self, did: str) -> str | None:
        """See `idiolectd.ports.SharedStore.claim_holder`."""
        byte = _claim_byte(did)

        def find() -> str | None:
            return holder_of(self._file, byte) if is_held(self._file, byte) else None

        return await in_thread(find)

    @asynccontextmanager
    async def writing(self, *, first: bool = True) -> AsyncIterator[None]:
        """Holds the write lock for the block.

        Args:
            first: goes before this process's other waiters: for tokens, which are lost if they wait too long.

        Raises:
            LockBusy: another process kept it for 10 seconds.
        """
        async with self._hold(
            "write lock", _WRITE_LOCK, WRITE_PATIENCE, has_turn=True, first=first, restarts=True
        ):
            yield

    @asynccontextmanager
    async def _hold(
        self,
        what: str,
        byte: int,
        patience: float,
        *,
        has_turn: bool = False,
        first: bool = False,
        restarts: bool = False,
    ) -> AsyncIterator[list[OwnedLock]]:
        await self._prepare()
        async with self._queues.hold(what, patience, first=first, restarts=restarts) as deadline:
            held: list[OwnedLock] = []
            try:
                await self._take(what, byte, deadline, held, has_turn=has_turn)
                yield held
            finally:
                for lock in held:
                    lock.release()

    async def _prepare(self) -> None:
        if not self._prepared:
            with translated(f"can't make the lock folder {self._file.parent}"):
                await in_thread(self._make_folder)
            self._prepared = True

    def _make_folder(self) -> None:
        make_private_folder(self._file.parent.parent)
        make_private_folder(self._file.parent)
        refuse_network_file_system(self._file.parent)

    def _restore_folder(self) -> None:
        # Raises if the store's own folder is gone (its disk was unmounted, say): that one is not made anew.
        self._file.parent.parent.parent.stat()
        self._make_folder()

    async def _take(
        self, what: str, byte: int, deadline: float, into: list[OwnedLock], *, has_turn: bool = False
    ) -> None:
        with translated(f"can't lock {self._file}"):
            try:
                is_taken = await self._waiters.take(byte, deadline, into, has_turn=has_turn)
            except FileNotFoundError:
                await in_thread(self._restore_folder)
                is_taken = await self._waiters.take(byte, deadline, into, has_turn=has_turn)
        if not is_taken:
            who = await in_thread(signed_holder_of, self._file, byte) or "another process"
            raise LockBusy(f"{who} holds the {what} ({self._file}); try again later")


def _claim_byte(did: str) -> int:
    digest = hashlib.sha256(did.encode()).digest()
    return int.from_bytes(digest[:8], "big") >> 2


def _claim_on(did: str) -> str:
    return f"claim on {did}"
