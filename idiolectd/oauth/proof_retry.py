"""Decides whether a request whose DPoP proof was refused is sent again, and with which nonce. Does no I/O.

A server refuses a proof before it acts on the request, and the refusal brings what the next proof needs: a
nonce (RFC 9449, sections 8 and 9) or the server's time. So repeating is safe; the number of repetitions is
bounded.
"""

from collections.abc import Callable

# One host name may stand for several nodes, each with its own nonces, and each request may reach another
# node. The first repetition uses the nonce of the node that refused; further ones alternate between nodes'
# nonces.
_NONCES = 3

_REFUSALS = (400, 401)


class ProofRetry:
    """Decides on the repetitions of one request.

    Args:
        newest: returns the server's newest nonce, and the seconds by which its clock is ahead of ours.

    Attributes:
        nonce: the nonce for the next proof.
    """

    def __init__(self, newest: Callable[[], tuple[str | None, float]]) -> None:
        self._newest = newest
        self.nonce, self._skew = newest()
        self._brought: list[str] = []
        self._may_date = True

    def is_called_for(self, status: int, error: str | None) -> bool:
        """Whether the request should be sent again after an answer, with a proof that carries `nonce`.

        Call it after the answer's nonce and time have been recorded.

        Args:
            status: the answer's HTTP status.
            error: the answer's error code.
        """
        if status not in _REFUSALS:
            return False
        nonce, skew = self._newest()
        if error == "use_dpop_nonce":
            return self._is_for_nonce(nonce)
        # Servers have no common error code for a proof with a wrong time. So a new clock difference in the
        # answer decides, unless it was the refresh token that was refused (RFC 6749, section 5.2).
        if self._may_date and skew != self._skew and error != "invalid_grant":
            self._may_date = False
            self.nonce = nonce
            return True
        return False

    def _is_for_nonce(self, newest: str | None) -> bool:
        if newest is None or newest == self.nonce or len(self._brought) == _NONCES:
            return False
        self._brought.append(newest)
        # The nonce of the last refusal was refused in turn, so another node answered. The next request may
        # reach either node: the nonces of both are tried alternately.
        self.nonce = self._brought[-2] if len(self._brought) == _NONCES else newest
        return True
