"""Who reads the whole store all the time while others write and die, as an upstream program would.

It takes no lock of ours and imports nothing of the package under test. It keeps the hash of every
refresh token that was ever visible: what a reader has seen must never be lost again, and a rotation
whose token nobody could ever have seen is one that never became durable.

Does not: look at the refresh state, or at what was durable for less than `_PAUSE` between two looks.
"""

import json
import sqlite3
import threading
from collections import defaultdict
from collections.abc import Iterator
from contextlib import closing, contextmanager
from types import TracebackType
from typing import Self

from tests.torture.common import Record
from tests.torture.stores import StorePlace, token_hash

# The tokens of these tests live for a second at least before they are replaced.
_PAUSE = 0.1

_FIELDS = ("did", "pdsUrl", "accessJwt", "refreshJwt", "dpopPrivateKeyJwk")


class Observer:
    """Reads from its start to its end; a context manager.

    Attributes:
        seen: by DID, the hashes of all refresh tokens that the record held.
        torn: what was no whole record.
        looks: how often everything was read.
    """

    def __init__(self, place: StorePlace) -> None:
        self.seen: dict[str, set[str]] = defaultdict(set)
        self.torn: list[str] = []
        self.looks = 0
        self._place = place
        self._lock = threading.Lock()
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run, name="observer", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stopped.set()
        self._thread.join(10)

    def look(self) -> dict[str, Record]:
        """Reads everything once, now."""
        with self._lock:
            records = dict(self._records())
            for did, record in records.items():
                self.seen[did].add(token_hash(record["refreshJwt"]))
            if not records.keys() >= self.seen.keys():
                self.torn.append(f"gone: {sorted(self.seen.keys() - records.keys())}")
            self.looks += 1
            return records

    @contextmanager
    def looking_away(self) -> Iterator[None]:
        """Keeps it from looking: for writes that are not whole at every moment and need not be."""
        with self._lock:
            yield

    def _run(self) -> None:
        while not self._stopped.wait(_PAUSE):
            try:
                self.look()
            except Exception as error:  # noqa: BLE001 - a reader that fails is a finding, not an end
                self.torn.append(f"{type(error).__name__}: {error}")

    def _records(self) -> Iterator[tuple[str, Record]]:
        for name, text in self._texts():
            try:
                record: Record = json.loads(text)
                wrong = [field for field in _FIELDS if not isinstance(record.get(field), str)]
            except (ValueError, AttributeError) as error:
                self.torn.append(f"{name}: {error}: {text[:60]!r}")
                continue
            if wrong:
                self.torn.append(f"{name}: fields missing: {wrong}")
            else:
                yield record["did"], record

    def _texts(self) -> Iterator[tuple[str, bytes]]:
        if self._place.kind == "files":
            for path in sorted(self._place.path.glob("*.json")):
                yield path.name, path.read_bytes()
            return
        uri = f"file:{self._place.path}?mode=ro"
        with closing(sqlite3.connect(uri, uri=True, timeout=10)) as database:
            for did, text in database.execute("SELECT did, body_json FROM sessions"):
                yield did, text.encode()
