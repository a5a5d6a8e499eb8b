"""A clock that stands until it is moved.

Does: serve as the injected ``now`` of a simulator (and of anything else that takes one).
Does not: wake anybody up; for sleeping tasks use the event loop's own virtual clock.
"""

from __future__ import annotations


class Clock:
    """Epoch seconds; call it to read it."""

    def __init__(self, start: float = 1_750_000_000.0) -> None:
        self.time = start

    def __call__(self) -> float:
        return self.time

    def __repr__(self) -> str:
        return f"<Clock {self.time}>"

    def advance(self, seconds: float) -> None:
        """Move on."""
        self.time += seconds
