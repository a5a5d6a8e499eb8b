"""Keeps what answers show of servers, for all sessions of a process: DPoP nonces and clock differences."""

from collections.abc import Mapping

from idiolectd.http.origin_state import Nonces, Skews


class Servers:
    """The nonces and clock differences of servers; in memory only, bounded, safe for threads.

    Every `SessionAuth` of a process shares one. With one for each, an appview with ten thousand accounts on
    one PDS would get ten thousand refusals for each new nonce.
    """

    def __init__(self) -> None:
        self._nonces = Nonces()
        self._skews = Skews()

    def nonce(self, origin: str) -> str | None:
        """The newest ``DPoP-Nonce`` of a server (RFC 9449, section 9)."""
        return self._nonces.get(origin)

    def skew(self, origin: str) -> float:
        """Seconds to add to our clock to get the server's; 0 if they agree or nothing is known."""
        return self._skews.of(origin)

    def learn(self, origin: str, headers: Mapping[str, str], *, sent_at: float, received_at: float) -> None:
        """Records the nonce and time in an answer's headers; both times are by our clock."""
        self._nonces.take(origin, headers.get("dpop-nonce"))
        self._skews.learn(origin, headers, sent_at=sent_at, received_at=received_at)
