"""The schedule of a store that has no index on disk: lines in memory, sorted by time.

What is lost with the process is found again: a look-out's first answer names every session.
"""

from bisect import bisect_left, bisect_right, insort

from idiolectd.ports import NOWHERE, Due


class DueIndex:
    """At most one line for each DID. Not for use by several threads at once."""

    def __init__(self) -> None:
        self._of: dict[str, Due] = {}
        # A plain list: an insertion moves pointers, 0.1 ms even among a million.
        self._sorted: list[Due] = []

    def __len__(self) -> int:
        return len(self._sorted)

    def __contains__(self, did: str) -> bool:
        return did in self._of

    def is_planned(self, did: str) -> bool:
        """Whether a DID has a line that more than a look is planned by."""
        line = self._of.get(did)
        return line is not None and line.lane != NOWHERE

    def put(self, did: str, line: Due | None) -> None:
        """Replaces the line of a DID; None removes it."""
        old = self._of.pop(did, None)
        if old is not None:
            del self._sorted[bisect_left(self._sorted, old)]
        if line is not None:
            self._of[did] = line
            insort(self._sorted, line)

    def put_saved(self, did: str, line: Due | None, *, keep: bool) -> None:
        """What a save makes of the line of a DID: another, or the same as before if there is one to keep."""
        if not (keep and did in self):
            self.put(did, line)

    def before(self, time: float, limit: int, after: Due | None = None) -> list[Due]:
        """The lines with ``at < time`` that come after that one, soonest first."""
        start = 0 if after is None else bisect_right(self._sorted, _place(after), key=_place)
        end = bisect_left(self._sorted, time, key=lambda line: line.at)
        return self._sorted[start : min(end, start + limit)]


def _place(line: Due) -> tuple[float, str]:
    """Where a line stands, whatever else it says: it may have changed since it was read."""
    return line.at, line.did
