"""Decides when to refresh and how long to wait after a failure: pure functions of their arguments.

No clock, no randomness and no I/O in here. Times are seconds since the epoch, durations seconds.
"""

import hashlib
from dataclasses import dataclass

# A token is refreshed late in its lifetime: each rotation is a moment in which a crash can cost a session,
# so it should happen once. Not too late either: an outage of the server may last as long as the rest.
WINDOW = (0.70, 0.85)

# Below this lifetime the last minute is no longer a small part of it.
_SHORT_LIFETIME = 240.0
_LAST_MINUTE = 60.0

# The longest pause between two attempts while the server may still honour the token.
_MAX_BACKOFF = 300.0

# The shortest between two refusals, but at the very end of a token: it is the same question again.
_SHORTEST_BACKOFF = 5.0

# How often a refusal must be heard. It consumes nothing that was not lost already.
CONFIRMATIONS = 3

# A client or an account that is refused for so long needs a person; before, the server may be unable
# to fetch the client's document, or be restarting with another configuration.
CLIENT_PATIENCE = 900.0

# Past its end by our own clock, or refused by somebody who can't end it: look rarely, keep looking.
SLOW_RETRY = 3600.0

# Refused by our own checks, before anything was sent: a mended configuration is noticed soon.
LOCAL_RETRY = 300.0

# Between two rotations of a session, whatever a server says of its tokens' life: each is a durable commit
# and a moment in which a crash can cost the session. Lives from about seven seconds on are not touched.
ROTATION_FLOOR = 5.0

# Seconds between two reports of a fault that lasts: a log line each second would hide everything else.
_FIRST_REMINDER, _LONGEST_REMINDER = 60.0, 3600.0

# A refresh token's own end can't be extended once the access token would outlive it.
_ENDING_MARGIN = 60.0

# `refresh_if_needed` (upstream: 60 s), bounded so that a short token isn't refreshed at every call.
_NEEDED_MARGIN = 60.0
_NEEDED_SHARE = 0.15

# Seconds that a command or a client waits for a claim that another process holds: longer than one refresh
# may take, so that its holder is done by then and its result can be used.
CLAIM_PATIENCE = 60.0

# When people are told that a session ends: in time to plan a login, and when it has to happen.
_END_WARNINGS = (72 * 3600.0, 24 * 3600.0)


# What an access token is taken to live if nobody says it: the shortest lifetime seen in the field. Too short
# costs a refresh too many; too long, clients with dead tokens.
CAUTIOUS_LIFETIME = 900.0

# What a server says counts, however short (`ROTATION_FLOOR` bounds how often we rotate); beyond a year nobody
# means it.
_LONGEST_LIFETIME = 366 * 86_400.0


@dataclass(frozen=True, kw_only=True)
class Policy:
    """The configured part of the timing.

    Attributes:
        window: the shares of a token's life between which it is refreshed.
        settle: how long a request without an answer may still be served, in seconds.
        confirm: for how long a server must refuse a session before it is believed, in seconds. Longer
            than a fault that passes: a database that is locked, a restart. 0: the first time, which
            only tests should want.
    """

    window: tuple[float, float] = WINDOW
    settle: float = 30.0
    confirm: float = 120.0


def believed_lifetime(*said: float | None) -> float | None:
    """How many seconds a token is taken to live: the shortest that is said; None if nobody says any."""
    positive = [lifetime for lifetime in said if lifetime]
    return min(*positive, _LONGEST_LIFETIME) if positive else None


def draw(token_hash: str) -> float:
    """A number in [0, 1) that belongs to a token: the same in every process and after a restart."""
    digest = hashlib.sha256(b"idiolectd due " + token_hash.encode()).digest()
    return int.from_bytes(digest[:8], "big") / 2**64


def due_at(policy: Policy, *, issued_at: float, expires_at: float, token_hash: str) -> float:
    """When a token should be refreshed: uniform over the window, drawn once per token.

    With a life of four minutes or more, it is also at least a minute before the end.
    """
    lifetime = max(0.0, expires_at - issued_at)
    first, last = (share * lifetime for share in policy.window)
    if lifetime >= _SHORT_LIFETIME:
        last = max(first, min(last, lifetime - _LAST_MINUTE))
    return issued_at + first + draw(token_hash) * (last - first)


def is_needed(*, issued_at: float, expires_at: float, now: float) -> bool:
    """Whether a client that wants to use the token now has to have it refreshed first."""
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


def is_confirmed(policy: Policy, *, refusals: int, since: float | None, now: float) -> bool:
    """Whether a refusal was heard often enough, and over a time that outlasts a passing fault.

    Args:
        policy: has the time.
        refusals: in a row, the present one included.
        since: when the first of them was heard; None: this is the first.
        now: seconds since the epoch.
    """
    if policy.confirm == 0:
        return True
    return refusals >= CONFIRMATIONS and since is not None and now - since >= policy.confirm


def refusal_delay(
    policy: Policy,
    *,
    age: float,
    left: float,
    luck: float,
    is_useless: bool = False,
    retry_after: float | None = None,
) -> float:
    """How long to wait before a refused session is tried again.

    Spread over the life that is left of the access token, closer near its end, at most five minutes
    apart at first. After its end, and if its PDS refuses it, clients have no token any more: then so that
    the time for a confirmation is soon full. What is refused for long is tried ever more rarely.

    Args:
        policy: has the time for a confirmation.
        age: since the first refusal of the row.
        left: what is left of the access token; not positive: it has ended.
        luck: uniform in [0, 1).
        is_useless: the PDS refuses the access token, whatever is left of it.
        retry_after: what the server asked for.
    """
    longest = max(_MAX_BACKOFF if left > 0 and not is_useless else policy.confirm / 2, age / 4)
    shortest = _SHORTEST_BACKOFF
    if left > 0:
        longest, shortest = min(longest, left / 3), min(shortest, left / 2)
    delay = max(shortest, min(SLOW_RETRY, longest) * (0.75 + luck / 4))
    return max(1.0, retry_after or 0.0, delay)


def slow_delay(*, pause: float, left: float) -> float:
    """Returns how long to wait for a person to mend what is wrong: never beyond the end of a living token.

    Args:
        pause: at most, and after the token's end.
        left: what is left of it.
    """
    return max(1.0, min(pause, left / 4)) if left > 0 else pause


def reminder_gap(reports: int) -> float:
    """Returns the seconds until a lasting fault is reported again, after so many reports: 60, 120, ... 3600."""
    return min(_LONGEST_REMINDER, _FIRST_REMINDER * 2.0 ** min(reports - 1, 16))


def is_ending(*, expires_at: float, deadline: float | None) -> bool:
    """Whether a refresh can't extend the session any more."""
    return deadline is not None and expires_at >= deadline - _ENDING_MARGIN


def end_warning(*, left: float, lifetime: float) -> float | None:
    """Returns which warning of a session's absolute end is due, in seconds before it; None: none yet.

    A session with a short lifetime is not warned of before half of it is over.

    Args:
        left: until the end.
        lifetime: of the session in all.
    """
    return min((at for at in _END_WARNINGS if left <= at <= lifetime / 2), default=None)
