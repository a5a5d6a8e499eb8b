"""Scripted misfortune between client and core.

Does: say which request meets which fault, in the order in which they were added.
Does not: carry a fault out; ``transport`` and ``server`` do, each in its own way.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, fields
from typing import Any, Literal, get_args

from tests.simulator.wire import Headers, Request, Response

Kind = Literal[
    "respond",  # a given answer; the core is not reached
    "respond_after",  # the core runs, then the given answer is sent instead of its own
    "drop_before",  # the connection is closed before the core runs
    "drop_after",  # the core runs, its answer is lost
    "reset",  # as drop_before, by RST
    "reset_after",  # as drop_after, by RST
    "cut",  # `count` bytes of the body of a given answer arrive, then the connection is closed
    "truncate",  # the core runs, ``count`` bytes of the body arrive, then the connection is closed
    "delay",  # nothing but the waits below
    "drip",  # the core runs, the body arrives ``count`` bytes at a time, ``interval`` seconds apart
    "connect_error",  # in process: refused; on a socket: as drop_before
]


@dataclass
class Fault:
    """One fault.

    ``match``: None (every request), a DID (requests whose tokens belong to it), part of the URL, or a predicate.
    ``times``: how often; None = always. ``skip``: how many matching requests pass before it begins.
    ``delay`` / ``delay_after``: seconds waited before / after the core runs, with every kind.
    """

    kind: Kind
    match: str | Callable[[Request], bool] | None = None
    times: int | None = 1
    skip: int = 0
    status: int = 503
    headers: Headers = field(default_factory=list)
    body: bytes = b""
    count: int = 0
    interval: float = 0.1
    delay: float = 0.0
    delay_after: float = 0.0
    hits: int = 0

    def __post_init__(self) -> None:
        if self.kind not in get_args(Kind):
            raise ValueError(f"unknown kind of fault: {self.kind}")

    @property
    def response(self) -> Response:
        """The answer of `respond` and `respond_after`."""
        return Response(self.status, self.headers, self.body)

    @classmethod
    def from_json(cls, value: dict[str, Any]) -> Fault:
        """A fault as other processes send it: the body as text, the headers as an object."""
        known = {f.name for f in fields(cls)} - {"hits"}
        unknown = set(value) - known
        if unknown:
            raise ValueError(f"unknown fields of a fault: {sorted(unknown)}")
        given = dict(value)
        given["body"] = str(given.get("body", "")).encode()
        given["headers"] = [(str(k), str(v)) for k, v in dict(given.get("headers", {})).items()]
        return cls(**given)


class Faults:
    """The script: the first fault that matches and is not used up applies."""

    def __init__(self, did_of: Callable[[Request], str | None]) -> None:
        self._did_of = did_of
        self._faults: list[Fault] = []

    def add(self, fault: Fault) -> Fault:
        """Add a fault; the returned object counts its ``hits``."""
        self._faults.append(fault)
        return fault

    def remove(self, fault: Fault) -> None:
        """Forget a fault that may be used up already."""
        self._faults = [other for other in self._faults if other is not fault]

    def clear(self) -> None:
        """Forget every fault."""
        self._faults.clear()

    def __len__(self) -> int:
        return len(self._faults)

    def take(self, request: Request) -> Fault | None:
        """The fault for this request, counted as used."""
        for fault in self._faults:
            if not self._matches(fault, request):
                continue
            if fault.skip > 0:
                fault.skip -= 1
                continue
            fault.hits += 1
            if fault.times is not None:
                fault.times -= 1
                if fault.times <= 0:
                    self._faults.remove(fault)
            return fault
        return None

    def _matches(self, fault: Fault, request: Request) -> bool:
        if request.path.startswith("/_sim/"):
            return False
        match = fault.match
        if match is None:
            return True
        if not isinstance(match, str):
            return match(request)
        if match.startswith("did:"):
            return self._did_of(request) == match or match in request.path
        return match in request.url


def server_error(
    match: str | Callable[[Request], bool] | None = "/oauth/token", times: int | None = 1
) -> Fault:
    """What the loser of two refreshes at the very same moment gets; the session lives."""
    body = b'{"error":"server_error","error_description":"Server error"}'
    return Fault(
        "respond", match, times, status=500, headers=[("Content-Type", "application/json")], body=body
    )


def html(
    status: int = 200, match: str | Callable[[Request], bool] | None = None, times: int | None = 1
) -> Fault:
    """A captive portal's or proxy's page in place of the answer; the core is not reached."""
    return Fault(
        "respond",
        match,
        times,
        status=status,
        headers=[("Content-Type", "text/html")],
        body=b"<html>Sign in</html>",
    )
