"""What a store must offer.

`OAuthTokenStore` is idiolect-oauth's. `SharedStore` is what a store must offer beyond that to be
shared by a daemon and its clients; `Spill` keeps the tokens that it would not take.
"""

from collections.abc import AsyncGenerator, Collection, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from enum import Enum, auto
from pathlib import Path
from typing import Protocol, runtime_checkable

from idiolectd.errors import RecordError
from idiolectd.session import OAuthSession, Tokens
from idiolectd.state import RefreshState


class OAuthTokenStore(Protocol):
    """Where sessions are kept, one per DID. Names and meaning are idiolect-oauth's.

    Every method raises `StoreError` if the store can't answer; that never means "no session".
    """

    async def save(self, session: OAuthSession) -> None:
        """Stores a session durably. Tokens that are known to be used up never replace newer ones."""
        ...

    async def load(self, did: str) -> OAuthSession | None:
        """The session of a DID, or None if nothing is stored for it."""
        ...

    async def delete(self, did: str) -> None:
        """Removes a session and all that is known of it. No error if there is none."""
        ...

    async def list_dids(self) -> list[str]:
        """The DIDs of all readable sessions, sorted."""
        ...


@dataclass(frozen=True)
class StoredSession:
    """One session with its refresh state, read in one step.

    Attributes:
        session: None: nothing is stored.
        state: what is known of it.
        interrupted_commit: a commit of ours was interrupted after the state and before the record. So the
            used-up token that is stored was not put back by anybody.
    """

    session: OAuthSession | None
    state: RefreshState
    interrupted_commit: bool = False


@dataclass(frozen=True)
class Survey:
    """All records of a store.

    Attributes:
        dids: of those that can be read, sorted.
        broken: what is wrong with each of the others, by place.
    """

    dids: list[str]
    broken: list[RecordError]


# The server of an entry for which nothing is sent: the record is unreadable, not planned yet, put off, or
# another process works on it. It stands in no issuer's queue, so no issuer's trouble delays it.
NO_SERVER = ""


@dataclass(frozen=True, order=True)
class ScheduleEntry:
    """When a session is worked on next. Times are seconds since the epoch.

    Attributes:
        at: not before then.
        did: the session's account.
        expires_at: when its access token ends: among overdue sessions the soonest goes first.
        server: the server that is asked first, mostly the issuer; or `NO_SERVER`.
    """

    at: float
    did: str
    expires_at: float
    server: str


class Witnesses(Protocol):
    """Know how new a store was, outside of it. Every method blocks. See `idiolectd.store.put_back`."""

    def newest(self) -> int:
        """The largest number that is known; 0: there is no witness. Read it before the store's own."""
        ...

    def tell(self, number: int) -> None:
        """Lets the witnesses know the store's number."""
        ...

    def remember(self, number: int, now: float) -> None:
        """The store was put back, and this is its number. Raises `OSError` if that can't be written."""
        ...

    def put_back_at(self) -> float | None:
        """When it was last noticed that the store was put back, in seconds since the epoch; None: never."""
        ...


@dataclass(frozen=True)
class StoredCopy:
    """One session as it lies in a store, for a backup.

    Attributes:
        did: whose.
        record: the record's text, readable or not.
        state: the text of its refresh state; None: there is none.
    """

    did: str
    record: bytes = field(repr=False)
    state: bytes | None = field(repr=False)


class Committed(Enum):
    """What became of a commit."""

    DONE = auto()
    GONE = auto()  # the record was deleted meanwhile: a logout; nothing was written
    SUPERSEDED = auto()  # the record holds another token than was read; nothing was written


@dataclass(frozen=True)
class Overview:
    """What a store's index says of all sessions, without reading them.

    Attributes:
        sessions: how many records there are, readable or not.
        needy: how many sessions are not simply well, by what `idiolectd.state.attention` calls them; under
            the empty text those that nobody has looked at yet.
        due: how many of the others are due.
        dids: the needy ones and those that are due, in this order; no more than were asked for.
    """

    sessions: int
    needy: Mapping[str, int]
    due: int
    dids: list[str]


@dataclass(frozen=True)
class Called:
    """What a store's index says of a handle; whoever relies on it reads the records.

    Attributes:
        dids: the sessions that may be called so.
        is_all: whether no other session is. If not, every record has to be read to know.
    """

    dids: Sequence[str] = ()
    is_all: bool = False


@dataclass(frozen=True)
class NewRecord:
    """A session of which nothing is known but its record.

    Attributes:
        session: the record.
        text: as it is stored.
    """

    session: OAuthSession
    text: bytes = field(repr=False)


@dataclass(frozen=True)
class FirstPlan:
    """The first state of a session.

    Attributes:
        found: the record that it was made from.
        state: the state.
        due: the session's schedule entry.
    """

    found: NewRecord
    state: RefreshState
    due: ScheduleEntry | None


# How many DIDs one answer of a `Watch` names at most: enough to keep the daemon busy, and little
# enough that the next answer is never far away.
FULL_BATCH = 1000


class Watch(Protocol):
    """Sees changes by any program, foreign ones included."""

    async def wait_changed(self) -> Collection[str]:
        """Waits for changes; returns the DIDs whose records have to be compared again, without order.

        The first call returns at once, with everything whose stored schedule can't be relied on.
        After a full batch (`FULL_BATCH`) more may be known, and the next call returns at once; a smaller one
        holds all that is known. It may name a DID whose record did not change, or is gone.
        """
        ...


@runtime_checkable
class SharedStore(OAuthTokenStore, Protocol):
    """A store that several processes use at once, the daemon among them."""

    @property
    def url(self) -> str:
        """The store URL, for logs and people."""
        ...

    @property
    def runtime_dir(self) -> Path | None:
        """The folder for what belongs to a running daemon; None: the store has no place on disk."""
        ...

    @property
    def spill(self) -> "Spill | None":
        """Where tokens go that the store would not take; None: it has no place on disk.

        Its place follows from the store's, not from the environment: every program that may claim the
        store's sessions finds the same one.
        """
        ...

    async def survey(self) -> Survey:
        """Reads every record: which are sessions, and what is wrong with the others."""
        ...

    def pages(self) -> AsyncGenerator[list[str], None]:
        """The DIDs of all records by their keys, page by page, in no order; reads no record that names its DID itself.

        A record that comes or goes meanwhile may be among them or not.
        """
        ...

    async def count(self) -> int:
        """How many records there are, readable or not."""
        ...

    async def overview(self, now: float, *, limit: int) -> Overview | None:
        """Which sessions need a look, by an index; None: this store has none, and every record has to be read.

        Args:
            now: seconds since the epoch.
            limit: how many DIDs to name at most.
        """
        ...

    async def called(self, handle: str) -> Called:
        """Finds the sessions that may be called by this handle in an index, as far as there is one.

        Args:
            handle: as it is compared (`idiolectd.session.normal_handle`).
        """
        ...

    def claim(self, did: str, *, patience: float) -> AbstractAsyncContextManager[None]:
        """Takes the right to send this session's refresh token. The kernel frees it if its holder dies.

        Args:
            did: whose session.
            patience: how many seconds to wait for another holder; 0: not at all.

        Raises:
            LockBusy: another holder kept it. Nothing may be sent then.
        """
        ...

    async def claim_holder(self, did: str) -> str | None:
        """Names the other process that holds a session's claim, for people: ``process 812 (python3)``.

        None: nobody holds it, a task of this process does, or the system doesn't tell. Never waits.
        """
        ...

    async def ensure_room(self) -> None:
        """Makes sure that store and spill have space for what a refresh brings.

        Raises:
            StoreError: there is not; the message says how much is missing where.
        """
        ...

    async def ensure_writable(self) -> None:
        """Makes sure, by writing, that a record can be written or deleted now.

        Called before what can't be undone, such as ending a session at its server.

        Raises:
            StoreError: it could not; nothing has changed.
        """
        ...

    async def secure(self) -> None:
        """Gives everything stored the permissions that the configuration says now."""
        ...

    async def read(self, did: str) -> StoredSession:
        """Record and state of one session.

        Raises:
            RecordError: the record is unreadable.
        """
        ...

    async def commit(
        self,
        read: OAuthSession,
        state: RefreshState,
        *,
        tokens: Tokens | None = None,
        due: ScheduleEntry | None = None,
    ) -> Committed:
        """Makes a new state durable, and with it new tokens, if the record still is what was read.

        Compares the stored refresh token with the one of `read` under the write lock. Fields that
        are neither tokens nor dropped pins stay as they are stored now. A stored token that `state`
        calls spent is no obstacle: it is what a foreign writer put back.

        Args:
            read: the session that was read before.
            state: the new state.
            tokens: what to change in the record; None leaves it untouched.
            due: the new schedule entry; None: the session has no next attempt.
        """
        ...

    async def change_number(self, *, renew: bool) -> int:
        """A number that lies in the store and grows with its changes; 0: it keeps none.

        Args:
            renew: counts what has changed, where changes don't count themselves.
        """
        ...

    def witnesses(self) -> "Witnesses | None":
        """Where the newest of these numbers is also known, outside of what is copied; None: nowhere. Blocks."""
        ...

    def copies(self) -> AsyncGenerator[list[StoredCopy], None]:
        """All sessions as they are stored, page by page: record and state of each belong together.

        Whoever writes meanwhile is not kept waiting for longer than one page takes.
        """
        ...

    async def restore(self, copy: StoredCopy) -> Committed:
        """Stores a session that comes from a copy, marked as such: see `RefreshState.restored`.

        `SUPERSEDED`: the store holds the same or a newer one, or nothing tells which is; nothing was written.

        Raises:
            RecordError: the copy is unreadable.
        """
        ...

    def new_sessions(
        self,
    ) -> AbstractAsyncContextManager[AsyncGenerator[list[NewRecord], None] | None]:
        """Reads a crowd of sessions that have a record and no state, soonest expiry first, page by page.

        The order is as good as can be told without parsing every record. While the crowd is read, a `Watch`
        names only what changes from then on; after it, what the reader of the crowd has left over. None:
        there is no crowd, or the store can't tell; a `Watch` names each new session.
        """
        ...

    async def commit_first(self, plans: Sequence[FirstPlan]) -> list[str]:
        """Makes first states durable, all in one commit, without claims; returns whose were written.

        A state is written only if the record still is what was read, byte for byte, and the session still has
        no state. Without a state there is no note that could be lost, and nothing that was sent.
        """
        ...

    async def unplanned(self) -> list[str]:
        """Finds sessions that have a record and no schedule entry, in the next part of the store.

        Each call searches another part, of bounded size, and the one after the last begins anew. Dead and
        paused sessions are among them: they rightly have no entry.
        """
        ...

    def reopened(self) -> list[str]:
        """Returns why it opened its files anew since the last call: somebody replaced or removed them.

        One sentence each time, for the log, with how many sessions were carried over.
        """
        ...

    async def forget(self, did: str) -> bool:
        """Removes a session's state if its record is gone; returns whether it is."""
        ...

    async def reseal(self, did: str) -> bool:
        """Seals a session's secrets with the key that seals now; returns whether there is a record.

        Nothing else changes, and nothing at all if they are sealed so already.
        """
        ...

    async def due(
        self, before: float, *, limit: int, after: ScheduleEntry | None = None
    ) -> list[ScheduleEntry]:
        """Returns the schedule entries with ``at < before``, sorted by `at` and DID.

        Args:
            before: seconds since the epoch.
            limit: how many at most.
            after: the last entry of the previous page; only later ones are returned.
        """
        ...

    def schedule(self, did: str, due: ScheduleEntry | None) -> None:
        """Replaces the session's in-memory schedule entry; None removes it. Makes nothing durable.

        A store that keeps its schedule on disk ignores it: it has the entry already.
        """
        ...

    def watch(self) -> AbstractAsyncContextManager[Watch]:
        """Starts to watch for changes."""
        ...


@dataclass(frozen=True)
class Spilled:
    """Tokens that arrived and could not be saved.

    Attributes:
        previous_token_hash: of the refresh token that they replace.
        session: the session with them.
        mismatch: as of `Arrived`.
        unconfirmed: as of `Arrived`.
    """

    previous_token_hash: str
    session: OAuthSession
    mismatch: str | None = None
    unconfirmed: str | None = None


@dataclass(frozen=True)
class SpillSurvey:
    """What is in the spill.

    Attributes:
        dids: whose tokens are kept, sorted.
        broken: the places that may hold tokens and can't be read, one sentence each.
        place: the folder that the next tokens would go to; None: none can be written.
        is_closed: this user only reads the store, and is not allowed to know any of it.
    """

    dids: list[str]
    broken: list[str]
    place: str | None
    is_closed: bool = False


class Spill(Protocol):
    """Keeps tokens that the store would not take, in a second place. Every method raises `StoreError`."""

    async def put(self, spilled: Spilled) -> str:
        """Keeps tokens durably, one set a DID; returns the place, for a person."""
        ...

    async def find(self, did: str, previous_token_hash: str) -> Spilled | None:
        """Returns the kept tokens of a DID that replace the token with this hash.

        Raises:
            SpillUnreadable: none were found, and a place that may hold them can't be read.
        """
        ...

    async def remove(self, did: str, previous_token_hash: str | None = None) -> None:
        """Removes what is kept for a DID.

        Args:
            did: whose.
            previous_token_hash: only what replaces the token with this hash; None: whatever there is.
        """
        ...

    async def reseal(self, did: str) -> None:
        """Seals what is kept for a DID with the key that seals now. To be called under its claim."""
        ...

    async def survey(self) -> SpillSurvey:
        """Lists everything that is kept."""
        ...

    async def copies(self) -> dict[str, bytes]:
        """Everything that is kept, as it lies there, by name; for a backup.

        Raises:
            SpillUnreadable: a place that may hold tokens can't be read.
        """
        ...

    async def put_copy(self, name: str, text: bytes) -> None:
        """Puts back what `copies` gave; what is kept under this name already stays.

        Raises:
            StoreError: it can't be written.
            ValueError: that is no name of theirs.
        """
        ...
