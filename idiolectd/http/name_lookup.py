"""From a host's name to its addresses: by the system's own resolver, and at nobody else's expense.

``getaddrinfo`` is asked, because only it follows ``/etc/hosts`` and ``nsswitch.conf``. It blocks, for half a
minute where a name server is mute, and can't be interrupted. So:

1. Each look-up has a thread of its own (`Errand`), none that saving tokens would need.
2. Who asks for a name that is being looked up waits for the same answer.
3. What failed is remembered for a while: three times as long as it took, but 5 to 30 s.
4. How many wait at a time is bounded, apart for names that were told within a second the last time, names
   that are new, and all others; and who has waited for longer than that counts among the others. However
   many mute names somebody brings, they stand in each other's way only. Who finds no room is told so at
   once (`NotSent`), and tries again at his own pace.

Answers are not kept for longer than one and the same attempt needs (2 s): the system's resolver has its own
cache, and knows how long it may.
"""

import math
import socket
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum, auto
from functools import lru_cache
from ipaddress import ip_address

import anyio
import anyio.lowlevel

from idiolectd.errors import NotSent
from idiolectd.http.origin_state import ByOrigin
from idiolectd.outcome import Code
from idiolectd.threads import Errand

Resolve = Callable[[str], list[str]]


class _Kind(Enum):
    """What is expected of a look-up."""

    QUICK = auto()
    NEW = auto()
    SLOW = auto()


# Seconds. A resolver that works tells most names within some dozen milliseconds.
_QUICK = 1.0

# How many look-ups of each kind may wait.
_MOST = 64

# And how many there may be together when one of that kind begins: what turned out slow has left its own
# kind's bound. A thread that waits costs some dozen KiB; the last ones are for names that are known to work.
_MOST_TOGETHER = {_Kind.QUICK: 512, _Kind.NEW: 384, _Kind.SLOW: 384}

# Seconds between the look before anything is written down and the connection, which needs it again.
_KEPT = 2.0

# Seconds; see the module, 3.
_SHORTEST_MEMORY, _LONGEST_MEMORY, _MEMORY_FACTOR = 5.0, 30.0, 3.0


@dataclass(frozen=True)
class _Known:
    """What is remembered of a name.

    Attributes:
        quick: whether the last look-up ended soon, whichever way.
        numbers: what it brought; none: it failed.
        until: so long that counts, and nobody is asked; of the event loop's clock.
    """

    quick: bool
    numbers: tuple[str, ...]
    until: float


@dataclass
class _LookUp:
    errand: Errand[list[str]]
    kind: _Kind
    since: float


def resolve_by_system(host: str) -> list[str]:
    """The addresses of a host, in the order in which they should be tried; blocks.

    Raises:
        OSError: there are none, or nobody could be asked.
        UnicodeError: not a host name.
    """
    found = socket.getaddrinfo(host.encode("ascii"), None, type=socket.SOCK_STREAM)
    return list(dict.fromkeys(str(sockaddr[0]) for *_, sockaddr in found))


class NameLookups:
    """Looks up host names, for the tasks of one event loop.

    Args:
        resolve: who is asked; blocks.
    """

    def __init__(self, resolve: Resolve = resolve_by_system) -> None:
        self._resolve = resolve
        self._known: ByOrigin[_Known] = ByOrigin()
        self._under_way: dict[str, _LookUp] = {}

    def __repr__(self) -> str:
        return f"<Names {len(self._under_way)} under way>"

    async def addresses(self, host: str) -> list[str]:
        """The addresses of a host; a number is its own.

        Raises:
            NotSent: it has none, or nobody can be asked now (codes ``dns``, ``dns_busy``).
        """
        if _is_number(host):
            await anyio.lowlevel.checkpoint()
            return [host]
        now = anyio.current_time()
        known = self._known.get(host)
        if known is not None and known.until > now:
            await anyio.lowlevel.checkpoint()
            if known.numbers:
                return list(known.numbers)
            left = math.ceil(known.until - now)
            raise NotSent(Code.DNS, f"{host}: the name did not resolve; it is looked up again in {left} s")
        look_up = self._under_way.get(host) or self._start(host, known)
        numbers = await look_up.errand.wait()
        self._learn(host, look_up, numbers)
        if not numbers:
            raise NotSent(Code.DNS, f"{host}: the name does not resolve")
        return numbers

    def _start(self, host: str, known: _Known | None) -> _LookUp:
        now = anyio.current_time()
        kind = _Kind.NEW if known is None else _Kind.QUICK if known.quick else _Kind.SLOW
        if not self._has_room(kind, now):
            raise NotSent(
                Code.DNS_BUSY, f"{host}: too many name look-ups wait for an answer; is the DNS mute?"
            )
        try:
            errand = Errand(lambda: self._told(host), "idiolectd-name")
        except RuntimeError:
            raise NotSent(
                Code.DNS_BUSY, f"{host}: the system has no thread left to look up the name"
            ) from None
        look_up = self._under_way[host] = _LookUp(errand, kind, now)
        return look_up

    def _told(self, host: str) -> list[str]:
        try:
            return self._resolve(host)
        except (OSError, UnicodeError):
            return []

    def _has_room(self, kind: _Kind, now: float) -> bool:
        waiting: Counter[_Kind] = Counter()
        for host, look_up in list(self._under_way.items()):
            if (
                look_up.errand.is_done
            ):  # whoever waits for it has not been resumed yet, or nobody does any more
                self._learn(host, look_up, look_up.errand.result())
            else:
                waiting[_Kind.SLOW if now - look_up.since > _QUICK else look_up.kind] += 1
        return waiting[kind] < _MOST and waiting.total() < _MOST_TOGETHER[kind]

    def _learn(self, host: str, look_up: _LookUp, numbers: list[str]) -> None:
        if self._under_way.get(host) is not look_up:
            return  # another of those who waited for it was first
        del self._under_way[host]
        now = anyio.current_time()
        took = now - look_up.since
        memory = min(max(_MEMORY_FACTOR * took, _SHORTEST_MEMORY), _LONGEST_MEMORY)
        self._known.put(host, _Known(took <= _QUICK, tuple(numbers), now + (_KEPT if numbers else memory)))


@lru_cache(maxsize=4096)
def _is_number(host: str) -> bool:
    try:
        ip_address(host)
    except ValueError:
        return False
    return True
