"""The habits of `soak`: what other programs and people do to a store that a daemon works on.

Each habit is a class that does its thing once (`act`) and undoes what a person would undo. None of
them knows of our locks, but for the hung client, which holds one. What can't be done just now, since
another habit is at work, is left out and counted as that.
"""

import random
import shutil
import sqlite3
import subprocess
import sys
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar

from tests.store.support import Child
from tests.torture.common import Record
from tests.torture.stores import WAYS, StorePlace, TornError

# How far back an old copy comes from.
_OLDEST = 30

# Seconds that something is held, as a rule; and sometimes, for longer than a token lives.
_HELD = (1.0, 8.0)
_HELD_LONG = 40.0
_LONG = 0.15

# Another habit is at work.
_NOT_POSSIBLE = (OSError, TornError, sqlite3.Error, subprocess.SubprocessError)

_FORGOTTEN = """
import sqlite3, sys
database = sqlite3.connect(sys.argv[1], timeout=2, isolation_level=None)
database.execute("BEGIN IMMEDIATE")
print("ready", flush=True)
sys.stdin.read()
"""


class BackupJob:
    """Copies of every record it ever saw, the oldest first, by DID."""

    def __init__(self, place: StorePlace, dids: Sequence[str]) -> None:
        self._place = place
        self._dids = dids
        self.copies: defaultdict[str, list[Record]] = defaultdict(list)

    def look(self) -> None:
        """Copies what is new."""
        for did in self._dids:
            try:
                record = self._place.upstream_record(did)
            except (OSError, TornError):
                continue
            kept = self.copies[did]
            if all(record["refreshJwt"] != copy["refreshJwt"] for copy in kept):
                kept.append(record)


@dataclass(frozen=True, order=True)
class Done:
    """Something that was done, from when until when; seconds since the epoch."""

    began: float
    ended: float
    what: str


@dataclass
class Habit:
    """Something that is done again and again until `stop` is set.

    Attributes:
        place: the store.
        dids: whose sessions are in it.
        backups: old copies of them.
        stop: set at the end; what is held is let go then.
        chance: what is drawn by lot is drawn from this.
        done: what was done.
    """

    name: ClassVar[str] = ""
    # Seconds between two acts: at least, at most.
    every: ClassVar[tuple[float, float]] = (5.0, 20.0)

    place: StorePlace
    dids: Sequence[str]
    backups: BackupJob
    stop: threading.Event
    chance: random.Random
    done: list["Done"] = field(default_factory=list)

    def run(self) -> None:
        """The habit's thread."""
        while not self.stop.wait(self.chance.uniform(*self.every)):
            began = time.time()
            try:
                done = self.act()
            except _NOT_POSSIBLE:
                done = f"{self.name}: not possible just then"
            self.done.append(Done(began, time.time(), done))

    def act(self) -> str:
        """Does it once; returns what was done."""
        raise NotImplementedError

    def hold(self) -> str:
        """Waits while something is held; returns for how long it was, in words."""
        long = self.chance.random() < _LONG
        self.stop.wait(_HELD_LONG if long else self.chance.uniform(*_HELD))
        return f"for {_HELD_LONG:.0f} s" if long else "for some seconds"


class Rewriter(Habit):
    """Loads every record and saves it whole, each second."""

    name = "rewritten"
    every = (1.0, 1.0)

    def act(self) -> str:
        done = 0
        for did in self.dids:
            with suppress(*_NOT_POSSIBLE):
                record = self.place.upstream_record(did)
                # Something of its own was to be saved: that takes it a moment.
                time.sleep(self.chance.uniform(0.0, 0.02))
                self.place.put(record, self.chance.choice(WAYS))
                done += 1
        return "every record rewritten" if done == len(self.dids) else "some records rewritten"


class Restorer(Habit):
    """Puts a record back from a backup."""

    name = "restored"
    every = (5.0, 15.0)

    def act(self) -> str:
        copies = self.backups.copies[self.chance.choice(self.dids)]
        oldest = min(_OLDEST, len(copies) - 1)
        if oldest < 1:
            raise TornError("no copy yet")
        back = self.chance.randint(1, oldest)
        self.place.put(copies[-1 - back], self.chance.choice(WAYS))
        return "a record restored, 1 to 16 rotations old" if back <= 16 else "a record restored, older"


class HungClient(Habit):
    """A client that follows the locks takes a claim and hangs."""

    name = "claimed"

    def act(self) -> str:
        with Child("asyncio", "claim", self.place.url, self.chance.choice(self.dids)) as child:
            if child.line() != "ready":
                raise TornError("claimed by another")
            return f"a claim held {self.hold()}"


class ForgottenTransaction(Habit):
    """A program begins to write into the database, and forgets to end that."""

    name = "begun"

    def act(self) -> str:
        command = [sys.executable, "-c", _FORGOTTEN, str(self.place.path)]
        with subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
        ) as child:
            try:
                assert child.stdout is not None
                if not child.stdout.readline():
                    raise TornError("locked by another")
                return f"BEGIN IMMEDIATE kept open {self.hold()}"
            finally:
                child.kill()


class Chmod(Habit):
    """Somebody takes all permissions away, and gives them back."""

    name = "chmod"

    def act(self) -> str:
        what, path = self._target()
        with forbidden(path):
            return f"chmod 000 on {what} {self.hold()}"

    def _target(self) -> tuple[str, Path]:
        if self.chance.random() < 0.3:
            return "the store's folder", self.place.path if self.place.kind == "files" else self.place.folder
        if self.place.kind == "files":
            return "a record", self.place.record_file(self.chance.choice(self.dids))
        return "the database", self.place.path


@contextmanager
def forbidden(path: Path) -> Iterator[None]:
    """A file or folder that nobody may use."""
    mode = path.stat().st_mode & 0o7777
    if mode == 0:
        raise TornError("forbidden already")
    path.chmod(0)
    try:
        yield
    finally:
        # A file may have been replaced meanwhile; then the new one is nobody's business.
        if path.exists() and path.stat().st_mode & 0o7777 == 0:
            path.chmod(mode)


class Remover(Habit):
    """Somebody tidies up what he does not know: locks, states, or all that is ours."""

    name = "removed"
    every = (10.0, 30.0)

    def act(self) -> str:
        ours = self.place.path / ".idiolectd"
        if self.place.kind == "sqlite":
            ours = self.place.path.with_name(self.place.path.name + ".idiolectd")
        names = [path.name for path in ours.iterdir() if path.is_dir()]
        name = self.chance.choice([*sorted(names), ""])
        shutil.rmtree(ours / name)
        return f"our folder {name} removed" if name else "our folder removed"


class SideFiles(Habit):
    """Somebody removes `-wal`, `-shm` or both: they look like leavings."""

    name = "side files"
    every = (10.0, 30.0)

    def act(self) -> str:
        chosen = self.chance.choice((("-wal",), ("-shm",), ("-wal", "-shm")))
        for suffix in chosen:
            Path(f"{self.place.path}{suffix}").unlink()
        return f"{' and '.join(chosen)} removed"


class Replacer(Habit):
    """Somebody puts the whole database back from a copy that is some seconds old."""

    name = "replaced"
    every = (20.0, 40.0)

    def act(self) -> str:
        copy = self.place.folder / "theirs.sqlite"
        copy.unlink(missing_ok=True)
        with (
            closing(sqlite3.connect(f"file:{self.place.path}?mode=rw", uri=True)) as source,
            closing(sqlite3.connect(copy)) as target,
        ):
            source.backup(target)
        self.hold()
        for suffix in ("-wal", "-shm"):
            Path(f"{self.place.path}{suffix}").unlink(missing_ok=True)
        copy.replace(self.place.path)
        return "the database replaced by an old copy"


_EVERYWHERE: tuple[type[Habit], ...] = (Rewriter, Restorer, HungClient, Chmod, Remover)
_DATABASE: tuple[type[Habit], ...] = (ForgottenTransaction, SideFiles, Replacer)


class Habits:
    """All of them at once, a thread each.

    Args:
        place: the store.
        dids: whose sessions are in it.
        seed: of everything that is drawn by lot.
    """

    def __init__(self, place: StorePlace, dids: Sequence[str], seed: int) -> None:
        self._stop = threading.Event()
        self._backups = BackupJob(place, dids)
        kinds = _EVERYWHERE + (_DATABASE if place.kind == "sqlite" else ())
        self._habits = [
            kind(place, dids, self._backups, self._stop, random.Random(f"{seed} {place.kind} {kind.name}"))
            for kind in kinds
        ]
        self._threads = [threading.Thread(target=habit.run) for habit in self._habits]
        self._threads.append(threading.Thread(target=_each_second, args=(self._stop, self._backups.look)))

    def __enter__(self) -> "Habits":
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join()

    @property
    def done(self) -> list[Done]:
        """What was done, in order."""
        return sorted(done for habit in self._habits for done in habit.done)


def _each_second(stop: threading.Event, work: Callable[[], None]) -> None:
    while not stop.wait(1.0):
        work()
