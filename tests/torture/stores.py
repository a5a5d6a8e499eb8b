"""A store on disk as programs see it that know nothing of ours: upstream's format, no locks.

`seed` writes a record as upstream's stores do, `upstream_record` reads one (and may write: SQLite
needs that to undo an unfinished transaction of a database that is not in WAL mode). `held_tokens` looks
at everything that a later process of ours could find: record, state, spill.

It does not import the package under test: what it can't read, an upstream program can't read.
"""

import hashlib
import json
import re
import shutil
import sqlite3
import tempfile
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from tests.torture.common import Record

StoreKind = Literal["sqlite", "files"]
# How a program replaces a file: as upstream's CLI does, as most do, as some do.
Way = Literal["in place", "renamed", "removed first"]
WAYS: tuple[Way, ...] = ("in place", "renamed", "removed first")

STORE_KINDS: tuple[StoreKind, ...] = ("sqlite", "files")

# What upstream's deserializer wants to find, all of them strings.
_UPSTREAM_FIELDS = ("did", "pdsUrl", "accessJwt", "refreshJwt", "dpopPrivateKeyJwk")

# In a record, and in a record that lies as escaped text inside a state.
_REFRESH_TOKEN = re.compile(rb'refreshJwt\\*":\s*\\*"([^"\\]+)')


class TornError(Exception):
    """A reader that takes no locks found something that is not a whole record."""


@dataclass(frozen=True)
class StorePlace:
    """Where one store is: a folder of its own, with the spill folder beside it.

    Attributes:
        kind: which store.
        folder: holds nothing but it.
    """

    kind: StoreKind
    folder: Path

    @property
    def path(self) -> Path:
        """The database file, or the folder of records."""
        return self.folder / ("sessions.sqlite" if self.kind == "sqlite" else "sessions")

    @property
    def url(self) -> str:
        """The store's URL."""
        return f"{'sqlite' if self.kind == 'sqlite' else 'file'}://{self.path}"

    @property
    def spill(self) -> Path:
        """The second place for tokens that the store does not take."""
        return self.folder / "spill"

    def seed(self, record: Record, *, wal: bool = True) -> None:
        """Stores a login as upstream does.

        Args:
            record: the login.
            wal: whether a database is in WAL mode, as upstream's are; one that a person has restored
                may not be.
        """
        text = json.dumps(record, separators=(",", ":"))
        if self.kind == "files":
            self.path.mkdir(parents=True, exist_ok=True)
            self.record_file(record["did"]).write_text(text)
            return
        self.folder.mkdir(parents=True, exist_ok=True)
        with closing(sqlite3.connect(self.path)) as database:
            if wal:
                database.execute("PRAGMA journal_mode = WAL")
            database.execute(
                "CREATE TABLE IF NOT EXISTS sessions (did TEXT PRIMARY KEY NOT NULL, body_json TEXT NOT NULL)"
            )
            database.execute("INSERT INTO sessions VALUES (?, ?)", (record["did"], text))
            database.commit()

    def put(self, record: Record, way: Way) -> None:
        """Overwrites a record as a foreign program does, which takes no lock of ours.

        Args:
            record: what is there afterwards.
            way: how a file is written; a row is written in one transaction.
        """
        text = json.dumps(record, separators=(",", ":"))
        if self.kind == "sqlite":
            with closing(sqlite3.connect(f"file:{self.path}?mode=rw", uri=True, timeout=2.0)) as database:
                database.execute("INSERT OR REPLACE INTO sessions VALUES (?, ?)", (record["did"], text))
                database.commit()
            return
        file = self.record_file(record["did"])
        if way == "renamed":
            beside = file.with_name(file.name + ".theirs")
            beside.write_text(text)
            beside.replace(file)
            return
        if way == "removed first":
            file.unlink(missing_ok=True)
        file.write_text(text)

    @contextmanager
    def copied(self) -> Iterator["StorePlace"]:
        """A copy, to look at: SQLite mends what a crash left, and the next process is to find it unmended."""
        with tempfile.TemporaryDirectory(dir=self.folder.parent) as folder:
            shutil.copytree(self.folder, folder, dirs_exist_ok=True)
            yield StorePlace(self.kind, Path(folder))

    def upstream_record(self, did: str) -> Record:
        """The record as upstream reads it.

        Raises:
            TornError: it is not there, or not whole.
        """
        text = self._record_text(did)
        try:
            record: Record = json.loads(text)
        except ValueError as error:
            raise TornError(f"not JSON: {error}: {text[:80]!r}") from error
        wrong = [name for name in _UPSTREAM_FIELDS if not isinstance(record.get(name), str)]
        if wrong or record["did"] != did:
            raise TornError(f"fields missing or wrong: {wrong}")
        return record

    def held_tokens(self, did: str) -> set[str]:
        """The hashes of all refresh tokens that record, state and spill hold now."""
        return {token_hash(token.decode()) for text in self._texts(did) for token in _found(text)}

    def _texts(self, did: str) -> Iterator[bytes]:
        yield self._record_text(did)
        if self.kind == "files":
            state = self.path / ".idiolectd" / "state" / self.record_file(did).name
            if state.exists():
                yield state.read_bytes()
        else:
            yield from self._rows("SELECT state_json FROM idiolectd_state WHERE did = ?", did)
        for spilled in self.spill.rglob("*") if self.spill.exists() else ():
            if spilled.is_file() and not spilled.name.endswith(".tmp"):
                yield spilled.read_bytes()

    def _record_text(self, did: str) -> bytes:
        if self.kind == "files":
            try:
                return self.record_file(did).read_bytes()
            except FileNotFoundError as error:
                raise TornError("no file") from error
        found = self._rows("SELECT body_json FROM sessions WHERE did = ?", did)
        if len(found) != 1:
            raise TornError("no row")
        return found[0]

    def record_file(self, did: str) -> Path:
        """Where a file store keeps a record."""
        return self.path / f"{did.replace(':', '_')}.json"

    def _rows(self, sql: str, did: str) -> list[bytes]:
        try:
            with closing(sqlite3.connect(f"file:{self.path}?mode=rw", uri=True)) as database:
                if (
                    "idiolectd_state" in sql
                    and not database.execute(
                        "SELECT 1 FROM sqlite_master WHERE name = 'idiolectd_state'"
                    ).fetchone()
                ):
                    return []
                return [row[0].encode() for row in database.execute(sql, (did,)) if row[0] is not None]
        except sqlite3.Error as error:
            raise TornError(f"SQLite: {error}") from error


def token_hash(token: str) -> str:
    """How the simulator names a refresh token."""
    return hashlib.sha256(token.encode()).hexdigest()


def _found(text: bytes) -> list[bytes]:
    return _REFRESH_TOKEN.findall(text)
