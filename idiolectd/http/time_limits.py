"""How long an exchange may wait for what: to connect, to write, to read, for a connection that is free.

`EachWait` bounds each wait by a cancel scope of its own, as httpx means its timeouts. `WholeExchange` has one
scope, whose deadline it moves with what is waited for: a scope costs as much as reading an answer.
"""

from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext
from types import TracebackType
from typing import Literal, Protocol

import anyio
import httpx

Phase = Literal["connect", "write", "read", "pool"]

_TOO_LATE: Mapping[Phase, type[httpx.TimeoutException]] = {
    "connect": httpx.ConnectTimeout,
    "write": httpx.WriteTimeout,
    "read": httpx.ReadTimeout,
    "pool": httpx.PoolTimeout,
}


class TimeLimits(Protocol):
    """Bounds the waits of one exchange."""

    def waiting(self, phase: Phase) -> AbstractContextManager[object]:
        """Bounds the wait in the block.

        Raises:
            httpx.TimeoutException: the one of the phase; or the block is cancelled, and whoever made the
                limits knows.
        """
        ...


class EachWait:
    """Each wait by itself.

    Args:
        seconds: by phase; a phase that is missing or None has no limit.
    """

    def __init__(self, seconds: Mapping[str, float | None]) -> None:
        self._seconds = seconds

    def waiting(self, phase: Phase) -> AbstractContextManager[object]:
        """See `TimeLimits.waiting`."""
        return _Wait(phase, self._seconds.get(phase))


class _Wait:
    def __init__(self, phase: Phase, seconds: float | None) -> None:
        self._phase = phase
        self._bound = anyio.fail_after(seconds)

    def __enter__(self) -> None:
        self._bound.__enter__()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> bool | None:
        try:
            return self._bound.__exit__(kind, error, trace)
        except TimeoutError as too_late:
            raise _TOO_LATE[self._phase]("") from too_late


# Nothing is to be undone behind a wait.
_MOVED = nullcontext()


class WholeExchange:
    """The waits of an exchange, and the exchange as a whole. A context manager: leaving it ends the limits.

    What takes too long is cancelled, and `too_late` says what it was.

    Args:
        seconds: by phase.
        deadline: seconds for everything together.
    """

    def __init__(self, seconds: Mapping[str, float], deadline: float) -> None:
        self.seconds = seconds
        self._end = anyio.current_time() + deadline
        self._scope = anyio.CancelScope(deadline=self._end)
        self._phase: Phase | None = None

    def waiting(self, phase: Phase) -> AbstractContextManager[object]:
        """See `TimeLimits.waiting`; the limit holds until the next wait."""
        limit = anyio.current_time() + self.seconds[phase]
        self._phase = phase if limit < self._end else None
        self._scope.deadline = min(limit, self._end)
        return _MOVED

    @property
    def too_late(self) -> httpx.TimeoutException | None:
        """Which wait was cut short; None: it was everything together, or nothing was."""
        if not self._scope.cancelled_caught or self._phase is None:
            return None
        return _TOO_LATE[self._phase]("")

    def __enter__(self) -> "WholeExchange":
        self._scope.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> bool | None:
        return self._scope.__exit__(kind, error, trace)
