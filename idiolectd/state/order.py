"""Tells which of two records of one account is the older one. Pure; its cost does not grow with their distance.

A list of used-up tokens covers only the last few rotations, and a copy that was put back may be of any
age. So the records' own times are compared: first those that the server wrote into its tokens (`iat`,
RFC 7519, section 4.1.6), because nobody on this host sets that clock; then those written beside them.
"""

from enum import Enum, auto

from idiolectd.clock import parse_rfc3339
from idiolectd.jose import numeric_claim, peek_claims
from idiolectd.session import OAuthSession


class RecordOrder(Enum):
    """How old a record is beside another."""

    OLDER = auto()  # the server's own times say so, and nothing contradicts them
    SEEMS_OLDER = auto()  # by times that a clock of this host wrote, which may have been set since
    NEWER = auto()
    UNKNOWN = auto()  # no times, the same ones, or clocks that contradict each other


def order_of(record: OAuthSession, beside: OAuthSession) -> RecordOrder:
    """How old a record is beside another of the same account."""
    ours = _difference(parse_rfc3339(record.issued_at), parse_rfc3339(beside.issued_at))
    servers = _difference_by_server(record, beside)
    if ours * servers < 0:
        return RecordOrder.UNKNOWN
    if servers < 0:
        return RecordOrder.OLDER
    if ours < 0:
        return RecordOrder.SEEMS_OLDER
    return RecordOrder.NEWER if max(ours, servers) > 0 else RecordOrder.UNKNOWN


def _difference(time: float | None, beside: float | None) -> float:
    return 0.0 if time is None or beside is None else time - beside


def _difference_by_server(record: OAuthSession, beside: OAuthSession) -> float:
    """By the times in the tokens, if one server wrote both; 0 if they don't say (opaque ones)."""
    claims, others = peek_claims(record.access_jwt), peek_claims(beside.access_jwt)
    if any(claims.get(name) != others.get(name) for name in ("iss", "aud")):
        return 0.0
    return _difference(numeric_claim(claims, "iat"), numeric_claim(others, "iat"))
