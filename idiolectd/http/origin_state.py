"""What is remembered of servers between two requests: DPoP nonces and clocks. In memory only."""

import threading
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Generic, TypeVar

from idiolectd.http.response import http_date

if TYPE_CHECKING:
    from idiolectd.events import EventSink

ValueT = TypeVar("ValueT")

# Servers name themselves in records and discovery: their number must not grow without end.
_MAX_ORIGINS = 4096

_MAX_NONCE = 1024

# Within this, servers accept proofs anyway, and our own estimate is no better.
_NEGLIGIBLE = 5.0

_WORTH_A_WARNING = 30.0


class ByOrigin(Generic[ValueT]):
    """One value for each origin; the longest unwritten are forgotten. May be shared by threads."""

    def __init__(self, limit: int = _MAX_ORIGINS) -> None:
        self._limit = limit
        self._writing = threading.Lock()
        self._values: OrderedDict[str, ValueT] = OrderedDict()

    def __len__(self) -> int:
        return len(self._values)

    def get(self, origin: str) -> ValueT | None:
        """The newest value, if there is one."""
        return self._values.get(origin)

    def put(self, origin: str, value: ValueT) -> None:
        """Replaces the value."""
        with self._writing:
            self._values[origin] = value
            self._values.move_to_end(origin)
            if len(self._values) > self._limit:
                self._values.popitem(last=False)

    def forget(self, origin: str) -> None:
        """Drops the value, if there is one."""
        with self._writing:
            self._values.pop(origin, None)


class Nonces(ByOrigin[str]):
    """The newest DPoP nonce of each server (RFC 9449, section 8), for all sessions."""

    def take(self, origin: str, nonce: str | None) -> None:
        """Keeps what an answer's `DPoP-Nonce` held, if it can be used."""
        if nonce and len(nonce) <= _MAX_NONCE and nonce.isascii() and nonce.isprintable():
            self.put(origin, nonce)


@dataclass(frozen=True)
class _Skew:
    seconds: float
    reported: float


class Skews:
    """How far servers' clocks are from ours, as their `Date` headers tell.

    Args:
        events: is told of a clock that is far off; None: nobody is.
    """

    def __init__(self, events: "EventSink | None" = None) -> None:
        self._events = events
        self._skews: ByOrigin[_Skew] = ByOrigin()

    def of(self, origin: str) -> float:
        """Seconds to add to our clock to get the server's; 0 if they agree or nothing is known."""
        known = self._skews.get(origin)
        return known.seconds if known else 0.0

    def learn(self, origin: str, headers: Mapping[str, str], *, sent_at: float, received_at: float) -> None:
        """Learns from the `Date` of one answer; both times are of our clock.

        Args:
            origin: who answered.
            headers: of the answer, found by their names in lower case.
            sent_at: when the request left.
            received_at: when the head of the answer was here.
        """
        date = http_date(headers.get("date", ""))
        if date is not None and "age" not in headers:  # else a cache's old answer
            self.take(origin, date, sent_at=sent_at, received_at=received_at)

    def take(self, origin: str, date: float, *, sent_at: float, received_at: float) -> None:
        """Learns one date.

        The server wrote its Date, cut to the second, somewhere between the two. So its clock is
        ahead of ours by at least `least` and at most `most`; what could be nothing, is nothing.
        """
        if received_at < sent_at:
            return  # our own clock was set back meanwhile: says nothing
        least, most = date - received_at, date + 1.0 - sent_at
        nearest_to_zero = max(least, 0.0) + min(most, 0.0)
        seconds = (least + most) / 2 if abs(nearest_to_zero) > _NEGLIGIBLE else 0.0
        known = self._skews.get(origin)
        reported = known.reported if known else 0.0
        if abs(seconds - reported) > _WORTH_A_WARNING:
            reported = 0.0
            if abs(seconds) > _WORTH_A_WARNING:
                reported = seconds
                self._report(origin, seconds)
        if seconds or reported:
            self._skews.put(origin, _Skew(seconds, reported))
        elif known:
            self._skews.forget(origin)

    def _report(self, origin: str, seconds: float) -> None:
        if self._events is not None:
            from idiolectd.events import ClockSkewed  # a client program has no use for events

            self._events(ClockSkewed(origin=origin, seconds=round(seconds, 1)))
