"""Finds the folders of one store's spilled tokens, the same for every process that may claim its sessions.

A process that misses a spill would send the used token again and lose the session. So the folders are
recorded in the store, beside its locks, before any token is sent:

    RUNTIME/spill/places/0f3c….json     {"version": 1, "folder": "/run/idiolectd/spill/8d21…"}

A process that holds a claim looks in all of them, whatever its own environment says. The first process that
needs a place chooses it: `store.spill_dir`; else a folder on another file system than the store's (a full
disk is the usual reason for a spill); else any folder that the store's owner can write, at last one beside
the locks. Within a place each store has its own folder, because two stores may hold the same account.

Version 0.2.0 recorded nothing and kept its spills directly in the place, so those are searched too.
"""

import hashlib
import json
import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TypeVar

from idiolectd.errors import SpillUnreadable
from idiolectd.finish import in_thread
from idiolectd.ports import Spilled, SpillSurvey
from idiolectd.store import durable
from idiolectd.store.error_translation import described, translated
from idiolectd.store.sealing import NO_KEYS, Keys
from idiolectd.store.spill import SpillFolder

T = TypeVar("T")

_VERSION = 1
_END = ".json"

# The unit's RuntimeDirectory: a file system of its own, which a restart of the service keeps.
_UNIT_RUNTIME = Path("/run/idiolectd")


@dataclass(frozen=True)
class _Place:
    """A folder where spills of this store may lie.

    Attributes:
        folder: the folder.
        is_ours: no other store uses it.
        is_known: it is recorded, so tokens may lie there: if it can't be read, that is an error.
    """

    folder: SpillFolder
    is_ours: bool
    is_known: bool


class StoreSpill:
    """The second place of one store. See `idiolectd.ports.Spill`.

    Args:
        runtime_dir: the store's private folder.
        named: `store.spill_dir` of the configuration; None: it is not set.
        environ: the environment variables, for the default places.
        keys: seal and open the tokens.
    """

    def __init__(
        self,
        runtime_dir: Path,
        named: Path | None = None,
        environ: Mapping[str, str] | None = None,
        *,
        keys: Keys = NO_KEYS,
    ) -> None:
        self._keys = keys
        self._registry = runtime_dir / "spill" / "places"
        self._fallback = runtime_dir / "spill" / "here"
        self._own_name = _short_hash(str(runtime_dir))
        self._named = named
        self._environ = os.environ if environ is None else environ
        self._chosen: Path | None = None

    def __repr__(self) -> str:
        return f"<StoreSpill {self._registry}>"

    def make_known(self) -> None:
        """Chooses where tokens would be spilled, and records it in the store. Blocks.

        Call it before any token is sent: once the disk is full, nothing can be recorded. If no place can be
        made, tokens that can't be saved are held in memory only.
        """
        if self._chosen is not None and self._chosen.is_dir() and self._is_written_down(self._chosen):
            return
        self._chosen = None
        for folder in self._choice():
            with suppress(OSError):
                durable.make_private_folder(folder)
                self._write_down(folder)
                self._chosen = folder
                return

    def folders(self) -> list[Path]:
        """The folders of this store alone where its tokens may be spilled, there or not. Blocks."""
        return [place.folder.path for place in self._places([]) if place.is_ours]

    async def put(self, spilled: Spilled) -> str:
        """See `Spill.put`."""
        with translated("can't spill"):
            return str(await in_thread(self._put, spilled))

    async def find(self, did: str, previous_token_hash: str) -> Spilled | None:
        """See `Spill.find`."""
        return await in_thread(self._find, did, previous_token_hash)

    async def remove(self, did: str, previous_token_hash: str | None = None) -> None:
        """See `Spill.remove`."""
        with translated(f"can't remove the spill of {did}"):
            await in_thread(self._remove, did, previous_token_hash)

    async def reseal(self, did: str) -> None:
        """See `Spill.reseal`."""
        with translated(f"can't seal the spill of {did}"):
            await in_thread(self._reseal, did)

    async def survey(self) -> SpillSurvey:
        """See `Spill.survey`."""
        return await in_thread(self._survey)

    async def copies(self) -> dict[str, bytes]:
        """See `Spill.copies`."""
        return await in_thread(self._copies)

    async def put_copy(self, name: str, text: bytes) -> None:
        """See `Spill.put_copy`."""
        with translated("can't spill"):
            await in_thread(self._put_copy, name, text)

    # Blocking --------------------------------------------------------------------------------

    def _put(self, spilled: Spilled) -> Path:
        if self._chosen is None:
            self.make_known()
        failed: OSError | None = None
        folders = dict.fromkeys([*([self._chosen] if self._chosen else []), *self._choice()])
        # A place that can't be recorded is the last: it follows from this process's environment, and another
        # process may not look there.
        for folder in sorted(folders, key=lambda folder: not self._is_written_down(folder)):
            try:
                file = self._folder(folder).put(spilled)
            except OSError as error:
                failed = failed or error
            else:
                with suppress(OSError):  # the chosen folder is recorded already
                    self._write_down(folder)
                return file
        raise failed or FileNotFoundError(2, os.strerror(2), str(self._fallback))

    def _find(self, did: str, previous_token_hash: str) -> Spilled | None:
        broken: list[str] = []
        for place in self._places(broken):
            found = _ask(place, partial(SpillFolder.find, did=did), broken)
            if found is not None and found.previous_token_hash == previous_token_hash:
                return found
        if broken:
            raise SpillUnreadable(broken[0])
        return None

    def _remove(self, did: str, previous_token_hash: str | None) -> None:
        for place in self._places([]):
            found = _ask(place, partial(SpillFolder.find, did=did), [])
            if (
                place.is_ours
                if previous_token_hash is None
                else found and found.previous_token_hash == previous_token_hash
            ):
                place.folder.remove(did)

    def _reseal(self, did: str) -> None:
        for place in self._places([]):
            found = _ask(place, partial(SpillFolder.find, did=did), [])
            if found is not None and place.is_ours:
                place.folder.put(found)

    def _copies(self) -> dict[str, bytes]:
        broken: list[str] = []
        found: dict[str, bytes] = {}
        for place in self._places(broken):
            if place.is_ours:
                found = {**(_ask(place, SpillFolder.copies, broken) or {}), **found}
        if broken:
            raise SpillUnreadable(broken[0])
        return found

    def _put_copy(self, name: str, text: bytes) -> None:
        self.make_known()
        SpillFolder(self._chosen or self._fallback).put_copy(name, text)

    def _survey(self) -> SpillSurvey:
        if self._is_closed():
            return SpillSurvey([], [], None, is_closed=True)
        broken: list[str] = []
        dids: set[str] = set()
        for place in self._places(broken):
            dids.update(_ask(place, SpillFolder.dids, broken) or ())
        return SpillSurvey(sorted(dids), broken, str(next(filter(_could_write, self._choice()), "")) or None)

    def _is_closed(self) -> bool:
        """Whether the store's private folder is another user's, and closed to this one."""
        folder = self._registry.parents[1]
        try:
            owner = folder.stat().st_uid
        except OSError:
            return False
        return owner != os.geteuid() and not os.access(folder, os.R_OK | os.X_OK, effective_ids=True)

    # Places ----------------------------------------------------------------------------------

    def _places(self, broken: list[str]) -> Iterator[_Place]:
        """All folders where spills of this store may lie; appends messages on unreadable ones to `broken`."""
        known = self._written_down(broken)
        own = [*known, self._fallback, *map(self._folder_in, self._usual())]
        for folder in dict.fromkeys(own):
            yield _Place(self._folder(folder), is_ours=True, is_known=folder in known)
        for place in dict.fromkeys([*(folder.parent for folder in own), *self._former()]):
            yield _Place(self._folder(place), is_ours=False, is_known=False)

    def _folder(self, path: Path) -> SpillFolder:
        return SpillFolder(path, self._keys)

    def _choice(self) -> list[Path]:
        """The folders to spill to, the best first."""
        known = self._written_down([])
        in_place = {folder.parent: folder for folder in known}
        usual = [in_place.get(place) or self._folder_in(place) for place in self._usual()]
        home = _device(self._registry)
        # The sort is stable: of two equally good folders a recorded one comes first.
        found = sorted([*known, *usual], key=lambda folder: _device(folder) == home)
        if self._named is not None:
            found.insert(0, in_place.get(self._named) or self._folder_in(self._named))
        return [*dict.fromkeys(found), self._fallback]

    def _usual(self) -> list[Path]:
        """The places that this user's programs would choose, whatever the store."""
        found = [self._named] if self._named is not None else []
        with suppress(OSError):
            if _UNIT_RUNTIME.stat().st_uid == os.geteuid():
                found.append(_UNIT_RUNTIME / "spill")
        named = Path(self._environ.get("XDG_STATE_HOME", ""))
        state = named if named.is_absolute() else self._home() / ".local" / "state"
        return [*found, state / "idiolectd" / "spill"]

    def _former(self) -> list[Path]:
        """The places where only version 0.2.0 spilled."""
        service = self._environ.get("RUNTIME_DIRECTORY", "").partition(":")[0]
        found = [Path(service) / "spill"] if service else []
        return [*found, _UNIT_RUNTIME / "spill", self._home() / ".local" / "state" / "idiolectd" / "spill"]

    def _home(self) -> Path:
        try:
            return Path(self._environ.get("HOME") or Path.home())
        except RuntimeError:  # a user without a name, as in containers
            return Path("/nonexistent")

    def _folder_in(self, place: Path) -> Path:
        return place / self._own_name

    # What is written down --------------------------------------------------------------------

    def _written_down(self, broken: list[str]) -> list[Path]:
        try:
            with os.scandir(self._registry) as entries:
                lines = sorted(entry.path for entry in entries if entry.name.endswith(_END))
            texts = [(line, Path(line).read_bytes()) for line in lines]
        except (FileNotFoundError, NotADirectoryError):
            return []
        except OSError as error:
            broken.append(described(f"can't read {self._registry}", error))
            return []
        found: list[Path] = []
        for line, text in texts:
            try:
                said = json.loads(text)
                if said["version"] == _VERSION:
                    found.append(Path(said["folder"]))
            except (ValueError, KeyError, TypeError, RecursionError):
                broken.append(f"{line} should name a folder of spilled tokens, and can't be understood")
        return found

    def _is_written_down(self, folder: Path) -> bool:
        # Every process looks in the fallback, which lies beside the locks. A disk that can't be asked has nothing
        # that can be relied on, and must not keep the tokens from the other places.
        return folder == self._fallback or os.path.exists(self._line(folder))  # noqa: PTH110 - a Path would raise

    def _write_down(self, folder: Path) -> None:
        if not self._is_written_down(folder):
            durable.make_private_folder(self._registry)
            text = json.dumps({"version": _VERSION, "folder": str(folder)})
            durable.replace_file(self._line(folder), text.encode())

    def _line(self, folder: Path) -> Path:
        return self._registry / (_short_hash(str(folder.parent)) + _END)


def _ask(place: _Place, ask: Callable[[SpillFolder], T], broken: list[str]) -> T | None:
    try:
        return ask(place.folder)
    except OSError as error:
        # A place that is neither readable for us nor recorded holds no spill of this store.
        if place.is_known or not isinstance(error, PermissionError):
            broken.append(
                f"can't read {place.folder.path}, where tokens of this store may lie: {error.strerror};"
                " make it readable, or mount its disk"
            )
        return None


def _short_hash(text: str) -> str:
    return hashlib.sha256(text.encode(errors="surrogateescape")).hexdigest()[:16]


def _nearest(path: Path) -> Path:
    """The path itself, or the nearest folder above it that exists."""
    return next((above for above in (path, *path.parents) if above.exists()), Path("/"))


def _device(path: Path) -> int | None:
    """The device number of a path's file system; None: it can't be read, as on the store's failing disk."""
    try:
        return _nearest(path).stat().st_dev
    except OSError:
        return None


def _could_write(folder: Path) -> bool:
    return os.access(_nearest(folder), os.W_OK | os.X_OK)
