"""The durable state of a session, what a changed record means beside it, and the session's times."""

from idiolectd.state.adopt import (
    Adopted,
    Change,
    adopt,
    adopt_login,
    displaced,
    last_good,
    tokens_of,
    withheld,
)
from idiolectd.state.order import Order, order_of
from idiolectd.state.refresh_state import ACTIVE, LastError, Note, Pins, RefreshState, State
from idiolectd.state.times import TokenTimes, session_deadline, session_end, shown

__all__ = [
    "ACTIVE",
    "Adopted",
    "Change",
    "LastError",
    "Note",
    "Order",
    "Pins",
    "RefreshState",
    "State",
    "TokenTimes",
    "adopt",
    "adopt_login",
    "displaced",
    "last_good",
    "order_of",
    "session_deadline",
    "session_end",
    "shown",
    "tokens_of",
    "withheld",
]
