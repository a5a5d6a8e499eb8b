"""The near future: which session to look at when. Pure; the far future stays in the store's index."""

import heapq

from idiolectd.ports import ScheduleEntry


class DueHeap:
    """A heap of schedule lines, one a session; the newest line of a session replaces its older ones.

    A replaced line stays in the heap until it surfaces, and is skipped then.
    """

    def __init__(self) -> None:
        self._heap: list[ScheduleEntry] = []
        self._lines: dict[str, ScheduleEntry] = {}

    def __len__(self) -> int:
        return len(self._lines)

    def __contains__(self, did: object) -> bool:
        return did in self._lines

    def put(self, due: ScheduleEntry) -> None:
        """Plans a session, replacing its earlier plan."""
        if self._lines.get(due.did) == due:
            return
        self._lines[due.did] = due
        heapq.heappush(self._heap, due)
        if len(self._heap) > 64 + 2 * len(self._lines):  # mostly replaced lines: sweep
            self._heap = list(self._lines.values())
            heapq.heapify(self._heap)

    def drop(self, did: str) -> None:
        """Forgets a session's plan, if there is one."""
        self._lines.pop(did, None)

    def entries(self) -> list[ScheduleEntry]:
        """Every session's plan, without order."""
        return list(self._lines.values())

    @property
    def next_at(self) -> float | None:
        """When the next session is due; None if nothing is planned."""
        self._surface()
        return self._heap[0].at if self._heap else None

    def pop_due(self, now: float) -> list[ScheduleEntry]:
        """Takes out every line whose time has come."""
        ready: list[ScheduleEntry] = []
        while (at := self.next_at) is not None and at <= now:
            due = heapq.heappop(self._heap)
            del self._lines[due.did]
            ready.append(due)
        return ready

    def _surface(self) -> None:
        while self._heap and self._lines.get(self._heap[0].did) is not self._heap[0]:
            heapq.heappop(self._heap)
