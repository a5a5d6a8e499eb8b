"""What connections see whose files were removed or replaced, brought into the database that is there now.

A removed write-ahead log takes along every commit that it held: for those who have it open they are there,
for everybody else they never were. So before the connections are closed all that they see is kept as a
copy in the store's private folder, and whoever writes next into the present database brings over what is
newer there. The copy outlives a crash in between, and is removed when its content is durable.
"""

import os
import sqlite3
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from idiolectd.errors import RecordError
from idiolectd.state import RecordChange, reconcile
from idiolectd.store.durable import make_private_folder, sync_folder
from idiolectd.store.merge import decode_state, encode_record
from idiolectd.store.record_text import MAX_RECORD
from idiolectd.store.sealing import Keys
from idiolectd.store.sqlite import schema
from idiolectd.store.sqlite.columns import did_of, place_of, text_of
from idiolectd.store.sqlite.database import Row, runtime_dir_of
from idiolectd.store.sqlite.operations import Statement, Stored, state_values

_PAGE = 200

# What differs: the rest needs no look. Nothing that is too large to be handed out.
_DIFFERENT = (
    "SELECT o.rowid, o.did, o.body_json, oi.state_json, oi.due_at, oi.expires_at, oi.lane, s.body_json, c.seq "
    "FROM kept.sessions AS o LEFT JOIN kept.idiolectd_state AS oi ON oi.did = o.did "
    "LEFT JOIN main.sessions AS s ON s.did = o.did LEFT JOIN main.idiolectd_state AS i ON i.did = o.did "
    "LEFT JOIN main.idiolectd_changes AS c ON c.did = o.did "
    "WHERE o.rowid > ? AND length(o.did) <= 2048 AND (s.body_json IS NOT o.body_json OR i.state_json IS NOT oi.state_json) "
    "AND max(length(o.body_json), ifnull(length(s.body_json), 0)) <= ? "
    "ORDER BY o.rowid LIMIT ?"
)

_HAS_STATES = "SELECT count(*) FROM kept.sqlite_master WHERE name = 'idiolectd_state'"


def places(path: Path) -> tuple[Path, Path]:
    """Where copies are kept: of a database that lost side files, and of one that another has replaced."""
    folder = runtime_dir_of(path)
    return folder / "side-files-lost.sqlite", folder / "replaced.sqlite"


def keep(connection: sqlite3.Connection, copy: Path) -> None:
    """Copies what a connection sees. What can't be read at all (a damaged database) is not kept.

    A copy that waits since an earlier loss stays: whoever writes carries it over first, so nothing of
    ours has been written since, and the connection may not see what it holds.

    Raises:
        OSError, sqlite3.Error: there is no room for it, say; the connection is as it was.
    """
    if _waits(copy):
        return
    part = copy.with_suffix(".part")
    make_private_folder(copy.parent)
    with suppress(FileNotFoundError):
        part.unlink()
    # Before SQLite does: it would ask the umask who may read the tokens.
    os.close(os.open(part, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600))
    target = sqlite3.connect(part, check_same_thread=False)
    try:
        connection.backup(target)
        target.execute("PRAGMA journal_mode = DELETE")  # one file, without side files of its own
    except sqlite3.DatabaseError as error:
        part.unlink()
        if getattr(error, "sqlite_errorcode", 0) & 0xFF in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB):
            return
        raise
    finally:
        target.close()
    fd = os.open(part, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
    part.rename(copy)
    sync_folder(copy.parent)


def _waits(copy: Path) -> bool:
    return copy.exists()


def bring(connection: sqlite3.Connection, path: Path, copy: Path, now: float, keys: Keys) -> int:
    """Writes what is newer in an attached copy (as ``kept``) into the database, in its open transaction.

    Returns:
        how many sessions it was.

    Raises:
        SealedError: the keys don't open one of them; the copy has to wait for the right ones.
    """
    ((count,),) = connection.execute(_HAS_STATES).fetchall()
    if not count:  # nobody has written through us there
        return 0
    is_same_database = copy == places(path)[0]
    last, brought = 0, 0
    while page := connection.execute(_DIFFERENT, (last, MAX_RECORD, _PAGE)).fetchall():
        for row in page:
            statements = _statements(row, path, is_same_database=is_same_database, now=now, keys=keys)
            for sql, values in statements:
                connection.execute(sql, values)
            brought += bool(statements)
        last = page[-1][0]
    return brought


def _statements(
    row: Row, path: Path, *, is_same_database: bool, now: float, keys: Keys
) -> Sequence[Statement]:
    """What brings one session over; nothing if the present database has what is newer, or damaged.

    Args:
        row: of `_DIFFERENT`.
        path: the database, for messages.
        is_same_database: the copy is of this very database: what it lacks was lost. Else somebody has
            put another one here on purpose: which sessions it has is for him to say.
        now: seconds since the epoch.
        keys: of the store.
    """
    _, key, record, state_text, due_at, expires_at, server, present_text, change = row
    did = did_of(key)
    if did is None:  # foreign programs may have stored anything as a key
        return ()
    place = place_of(path, did)
    try:
        kept = Stored(text_of(record), None).session(place, did, keys)
        present = Stored(text_of(present_text), None).session(place, did, keys)
    except RecordError:
        return ()
    state = decode_state(text_of(state_text), now, did=did, keys=keys)
    if kept is None:
        return ()
    session = kept
    if present is not None:
        # As if a foreign program had just put it there, beside what we know.
        adopted = reconcile(present, state, now)
        if adopted.change not in (RecordChange.NONE, RecordChange.SPENT):
            return ()
        session, state = adopted.session, adopted.state
    elif not is_same_database or change is not None:  # it never was there, or is logged out
        return ()
    scheduled = (due_at, expires_at, None if server is None else server.decode())
    record = encode_record(session, place=place, keys=keys).decode()
    values = state_values(session, state, scheduled, change=None, keys=keys)
    return (schema.PUT_RECORD, (did, record)), (schema.PUT_STATE, values)
