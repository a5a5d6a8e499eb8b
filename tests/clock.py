"""The time of a test, which nobody waits for."""

import anyio

START = 1_800_000_000.0


class VirtualClock:
    """The true time, which servers follow, and what this machine's clock shows, which can be wrong.

    It stands still until it is moved, or runs with the event loop's time, which trio's `MockClock` makes
    virtual. Sleeping tasks are woken by the event loop alone.

    Args:
        start: seconds since the epoch.
        runs: whether it runs with the event loop's time.

    Attributes:
        error: by how many seconds this machine's clock is ahead.
    """

    def __init__(self, start: float = START, *, runs: bool = False) -> None:
        self.error = 0.0
        self._passed = start
        self._runs = runs

    def __repr__(self) -> str:
        return f"<VirtualClock {self._passed}{' and running' if self._runs else ''}>"

    def true(self) -> float:
        """What time it is: seconds since the epoch."""
        return self._passed + (anyio.current_time() if self._runs else 0.0)

    def now(self) -> float:
        """What time this machine believes it is; the product's `Clock`."""
        return self.true() + self.error

    def advance(self, seconds: float) -> None:
        """Time passes, unseen by the event loop: as when the machine is suspended."""
        self._passed += seconds

    def advance_to(self, time: float) -> None:
        """It becomes a certain time by this machine's clock."""
        self.advance(time - self.now())

    def step(self, seconds: float) -> None:
        """Somebody sets this machine's clock; the servers' go on."""
        self.error += seconds
