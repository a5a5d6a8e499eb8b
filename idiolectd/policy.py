"""When to refresh and how long to wait after a failure: pure functions of their arguments.

No clock, no randomness and no I/O in here. Times are seconds since the epoch, durations seconds.
"""

import hashlib
from dataclasses import dataclass

# Refresh late in a token's life: each rotation is a moment in which a crash can cost a session, so
# do it once. Not too late either: the rest of the life is what an outage of the server may last.
WINDOW = (0.70, 0.85)

# Below this lifetime the last minute is no longer a small part of it.
_SHORT_LIFE = 240.0
_LAST_MINUTE = 60.0

# The longest pause between two attempts while the server may still honour the token.
_MAX_BACKOFF = 300.0

# Past its end by our own clock, or refused by somebody who can't end it: look rarely, keep looking.
SLOW_RETRY = 3600.0

# Refused by our own checks, before anything was sent: a mended configuration is noticed soon.
LOCAL_RETRY = 300.0

# A refresh token's own end can't be extended once the access token would outlive it.
_ENDING_MARGIN = 60.0

# `refresh_if_needed` (upstream: 60 s), bounded so that a short token isn't refreshed at every call.
_NEEDED_MARGIN = 60.0
_NEEDED_SHARE = 0.15


# When people are told that a session ends: in time to plan a login, and when it has to happen.
_END_WARNINGS = (72 * 3600.0, 24 * 3600.0)


@dataclass(frozen=True, kw_only=True)
class Policy:
    """The configured part of the timing.

    Attributes:
        window: the shares of a token's life between which it is refreshed.
        settle: how long a request without an answer may still be served, in seconds.
    """

    window: tuple[float, float] = WINDOW
    settle: float = 30.0


def draw(token_hash: str) -> float:
    """A number in [0, 1) that belongs to a token: the same in every process and after a restart."""
    digest = hashlib.sha256(b"idiolectd due " + token_hash.encode()).digest()
    return int.from_bytes(digest[:8], "big") / 2**64


def due_at(policy: Policy, *, issued_at: float, expires_at: float, token_hash: str) -> float:
    """When a token should be refreshed: uniform over the window, drawn once per token.

    With a life of four minutes or more, it is also at least a minute before the end.
    """
    life = max(0.0, expires_at - issued_at)
    first, last = (share * life for share in policy.window)
    if life >= _SHORT_LIFE:
        last = max(first, min(last, life - _LAST_MINUTE))
    return issued_at + first + draw(token_hash) * (last - first)


def is_needed(*, issued_at: float, expires_at: float, now: float) -> bool:
    """Whether somebody who needs the token now should refresh it first."""
    return expires_at - now <= min(_NEEDED_MARGIN, _NEEDED_SHARE * max(0.0, expires_at - issued_at))


def retry_delay(*, attempts: int, left: float, luck: float, retry_after: float | None = None) -> float:
    """How long to wait after a failure that may pass: full jitter, capped by the life that is left.

    Args:
        attempts: failures in a row, this one included.
        left: what is left of the access token; not positive: it has ended.
        luck: uniform in [0, 1).
        retry_after: what the server asked for.
    """
    cap = min(_MAX_BACKOFF, 2.0 ** min(attempts, 16))
    if left > 0:
        cap = min(cap, left / 4)
    return max(1.0, retry_after or 0.0, luck * cap)


def is_ending(*, expires_at: float, deadline: float | None) -> bool:
    """Whether a refresh can't extend the session any more."""
    return deadline is not None and expires_at >= deadline - _ENDING_MARGIN


def end_warning(*, left: float, life: float) -> float | None:
    """Which warning of a session's absolute end is in order: how many seconds before it; None: none yet.

    A session that never lives long is nothing to warn of before half of its life is over.

    Args:
        left: until the end.
        life: of the session in all.
    """
    return min((at for at in _END_WARNINGS if left <= at <= life / 2), default=None)
