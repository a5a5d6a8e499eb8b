"""The schedule of a store that keeps none on disk: entries in memory, sorted by time.

A new process begins with an empty one, and a watch's first answer then names every session.
"""

from bisect import bisect_left, bisect_right, insort
from collections.abc import Iterable

from idiolectd.ports import NO_SERVER, ScheduleEntry


class DueIndex:
    """At most one entry for each DID. Not for use by several threads at once."""

    def __init__(self) -> None:
        self._of: dict[str, ScheduleEntry] = {}
        # A plain list: an insertion moves pointers, 0.1 ms even among a million.
        self._sorted: list[ScheduleEntry] = []

    def __len__(self) -> int:
        return len(self._sorted)

    def __contains__(self, did: str) -> bool:
        return did in self._of

    def is_planned(self, did: str) -> bool:
        """Whether a DID has an entry that names a server, and so plans more than a look at the record."""
        entry = self._of.get(did)
        return entry is not None and entry.server != NO_SERVER

    def put(self, did: str, entry: ScheduleEntry | None) -> None:
        """Replaces the entry of a DID; None removes it."""
        old = self._of.pop(did, None)
        if old is not None:
            del self._sorted[bisect_left(self._sorted, old)]
        if entry is not None:
            self._of[did] = entry
            insort(self._sorted, entry)

    def fill(self, entries: Iterable[ScheduleEntry]) -> None:
        """Takes over the entries of DIDs that have none, all at once."""
        for entry in entries:
            self._of.setdefault(entry.did, entry)
        self._sorted = sorted(self._of.values(), key=_place)

    def put_saved(self, did: str, entry: ScheduleEntry | None, *, keep: bool) -> None:
        """Replaces the entry of a DID after a save, unless there is one and `keep` is set."""
        if not (keep and did in self):
            self.put(did, entry)

    def before(self, time: float, limit: int, after: ScheduleEntry | None = None) -> list[ScheduleEntry]:
        """The entries with ``at < time`` that come after the given one, soonest first."""
        start = 0 if after is None else bisect_right(self._sorted, _place(after), key=_place)
        end = bisect_left(self._sorted, time, key=lambda entry: entry.at)
        return self._sorted[start : min(end, start + limit)]


def _place(entry: ScheduleEntry) -> tuple[float, str]:
    """What the order is by. The rest of an entry may have changed since it was read."""
    return entry.at, entry.did
