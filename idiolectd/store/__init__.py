"""Where sessions are kept: in memory, as files, or in SQLite, with the same meaning.

Each name is imported when it is first used: who only reads pays for no event loop.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from idiolectd.store.backup_file import Backup, BackupSummary, BackupWriter
    from idiolectd.store.claimants import Claimants
    from idiolectd.store.command_journal import note_command, take_commands
    from idiolectd.store.durable import replace_file
    from idiolectd.store.error_translation import translated
    from idiolectd.store.files.file_store import FilesystemOAuthTokenStore
    from idiolectd.store.key_ring import read_keys, read_keys_at_hand, write_new_key
    from idiolectd.store.locks.ofd import HeldLock, is_held, try_exclusive
    from idiolectd.store.memory import InMemoryOAuthTokenStore
    from idiolectd.store.one_process import OneProcessStore
    from idiolectd.store.opening import open_configured_store, open_store
    from idiolectd.store.presence import (
        PRESENCE_LOCK,
        PRESENCE_NOTE,
        Presence,
        is_daemon_running,
        read_presence,
    )
    from idiolectd.store.put_back import read_put_back
    from idiolectd.store.reading import (
        MemoryReading,
        Reading,
        find_did,
        load_session,
        open_reading,
        session_of,
    )
    from idiolectd.store.record_text import KnownRecord
    from idiolectd.store.sealing import AS_STORED, Keys, SealingKey, keys_of
    from idiolectd.store.spill import SpillFolder
    from idiolectd.store.spill_places import StoreSpill
    from idiolectd.store.sqlite.sqlite_store import SqliteOAuthTokenStore
    from idiolectd.store.telling import tell_refusal
    from idiolectd.store.view.entry import encode_entry
    from idiolectd.store.view.opening import View, make_view
    from idiolectd.store.view.refusals import Refusals, ToldRefusal
    from idiolectd.store.view.standing import Standing

__all__ = [
    "AS_STORED",
    "PRESENCE_LOCK",
    "PRESENCE_NOTE",
    "Backup",
    "BackupSummary",
    "BackupWriter",
    "Claimants",
    "FilesystemOAuthTokenStore",
    "HeldLock",
    "InMemoryOAuthTokenStore",
    "Keys",
    "KnownRecord",
    "MemoryReading",
    "OneProcessStore",
    "Presence",
    "Reading",
    "Refusals",
    "SealingKey",
    "SpillFolder",
    "SqliteOAuthTokenStore",
    "Standing",
    "StoreSpill",
    "ToldRefusal",
    "View",
    "encode_entry",
    "find_did",
    "is_daemon_running",
    "is_held",
    "keys_of",
    "load_session",
    "make_view",
    "note_command",
    "open_configured_store",
    "open_reading",
    "open_store",
    "read_keys",
    "read_keys_at_hand",
    "read_presence",
    "read_put_back",
    "replace_file",
    "session_of",
    "take_commands",
    "tell_refusal",
    "translated",
    "try_exclusive",
    "write_new_key",
]

_HOMES = {
    "AS_STORED": "sealing",
    "Keys": "sealing",
    "SealingKey": "sealing",
    "keys_of": "sealing",
    "read_keys": "key_ring",
    "read_keys_at_hand": "key_ring",
    "write_new_key": "key_ring",
    "PRESENCE_LOCK": "presence",
    "PRESENCE_NOTE": "presence",
    "Backup": "backup_file",
    "BackupSummary": "backup_file",
    "BackupWriter": "backup_file",
    "Claimants": "claimants",
    "FilesystemOAuthTokenStore": "files.file_store",
    "HeldLock": "locks.ofd",
    "InMemoryOAuthTokenStore": "memory",
    "KnownRecord": "record_text",
    "MemoryReading": "reading",
    "OneProcessStore": "one_process",
    "Presence": "presence",
    "Reading": "reading",
    "Refusals": "view.refusals",
    "SpillFolder": "spill",
    "SqliteOAuthTokenStore": "sqlite.sqlite_store",
    "Standing": "view.standing",
    "StoreSpill": "spill_places",
    "ToldRefusal": "view.refusals",
    "View": "view.opening",
    "encode_entry": "view.entry",
    "find_did": "reading",
    "is_daemon_running": "presence",
    "is_held": "locks.ofd",
    "load_session": "reading",
    "note_command": "command_journal",
    "make_view": "view.opening",
    "open_configured_store": "opening",
    "open_reading": "reading",
    "open_store": "opening",
    "read_presence": "presence",
    "read_put_back": "put_back",
    "replace_file": "durable",
    "session_of": "reading",
    "take_commands": "command_journal",
    "tell_refusal": "telling",
    "translated": "error_translation",
    "try_exclusive": "locks.ofd",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
