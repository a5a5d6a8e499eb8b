"""What the process remembers of a session between two attempts: one small object, in one place.

It belongs to the refresh token that is stored, and goes with it: whoever logs in anew inherits
nothing of the session before, not even its waits, and of who logged out nothing is kept.
"""

import math
from dataclasses import dataclass


@dataclass
class RememberedSession:
    """One session's.

    Attributes:
        token: the hash of the refresh token that it is about.
        not_before: monotonic time before which nothing is sent: a lost request may be in flight, or our
            own code failed on it.
        crashes: exceptions in a row.
        strikes: troubles of its server that it ran into in a row.
        suspended: a person must change something.
        forced: somebody may have: it is tried whatever its state says.
    """

    token: str
    not_before: float = -math.inf
    crashes: int = 0
    strikes: int = 0
    suspended: bool = False
    forced: bool = False


_NOTHING = RememberedSession("")


class SessionMemory:
    """What is remembered, of those sessions only of which there is something."""

    def __init__(self) -> None:
        self._of: dict[str, RememberedSession] = {}

    def __len__(self) -> int:
        return len(self._of)

    def of(self, did: str) -> RememberedSession:
        """What is remembered of a session, to be read."""
        return self._of.get(did, _NOTHING)

    def about(self, did: str, token: str) -> RememberedSession:
        """The same, to be changed; what was remembered of another token is forgotten."""
        found = self._of.get(did)
        if found is None or found.token != token:
            found = self._of[did] = RememberedSession(token)
        return found

    def seen(self, did: str, token: str | None) -> None:
        """What is stored now; None: nothing is, or nothing that will be tried again."""
        found = self._of.get(did)
        if found is not None and found.token != token:
            del self._of[did]

    def calm(self, did: str) -> None:
        """Its server answered it."""
        if did in self._of:
            self._of[did].strikes = 0

    def forget(self, did: str) -> None:
        """All is well again, or over."""
        self._of.pop(did, None)

    def force_suspended(self) -> list[str]:
        """Has the suspended sessions tried whatever their state says; returns which they are."""
        suspended = [did for did, found in self._of.items() if found.suspended]
        for did in suspended:
            self._of[did].forced = True
        return suspended
