"""When a request with a DPoP proof is signed anew and sent again, and with which nonce. Pure.

A server refuses a proof before it does anything, and its refusal brings what was missing: a nonce
(RFC 9449, sections 8 and 9), or the time. So a repetition costs nothing, but there must be an end.
"""

from collections.abc import Callable

# Behind one name there may be several nodes, each with nonces of its own, and each request may meet
# another one. The first repetition is for the node that refused; the next ones try what the others said.
_NONCES = 3

_REFUSALS = (400, 401)


class ProofRetry:
    """Decides on the repetitions of one request.

    Args:
        newest: tells what is known of the server now: its newest nonce, and by how many seconds its clock
            is ahead of ours.

    Attributes:
        nonce: the nonce for the next sending.
    """

    def __init__(self, newest: Callable[[], tuple[str | None, float]]) -> None:
        self._newest = newest
        self.nonce, self._skew = newest()
        self._brought: list[str] = []
        self._may_date = True

    def is_called_for(self, status: int, error: str | None) -> bool:
        """Whether the request is sent once more after an answer; `nonce` is what it is to carry then.

        To be asked once the answer's nonce and time have been taken.

        Args:
            status: of the answer.
            error: the error code in it.
        """
        if status not in _REFUSALS:
            return False
        nonce, skew = self._newest()
        if error == "use_dpop_nonce":
            return self._is_for_nonce(nonce)
        # Servers say in many words that a proof was made at the wrong time. That the answer brought
        # another time is what counts; a refused token is another matter (RFC 6749, section 5.2).
        if self._may_date and skew != self._skew and error != "invalid_grant":
            self._may_date = False
            self.nonce = nonce
            return True
        return False

    def _is_for_nonce(self, newest: str | None) -> bool:
        if newest is None or newest == self.nonce or len(self._brought) == _NONCES:
            return False
        self._brought.append(newest)
        # Refused with what the last refusal brought: this one came from another node. Its turn may be
        # over as well, so the nonces of both are tried in turn.
        self.nonce = self._brought[-2] if len(self._brought) == _NONCES else newest
        return True
