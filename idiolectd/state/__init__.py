"""The durable refresh state of a session, the comparison of a record with it, and the session's times."""

from idiolectd.state.attention import ENDING, attention, is_under_way
from idiolectd.state.order import RecordOrder, order_of
from idiolectd.state.reconciliation import (
    ReconciledRecord,
    RecordChange,
    displaced,
    last_good,
    reconcile,
    reconcile_login,
    tokens_of,
    withheld,
)
from idiolectd.state.refresh_state import ACTIVE, LastError, Note, Pins, RefreshState, State
from idiolectd.state.times import TokenTimes, latest_end, session_deadline, session_end, shown

__all__ = [
    "ACTIVE",
    "ENDING",
    "LastError",
    "Note",
    "Pins",
    "ReconciledRecord",
    "RecordChange",
    "RecordOrder",
    "RefreshState",
    "State",
    "TokenTimes",
    "attention",
    "displaced",
    "is_under_way",
    "last_good",
    "latest_end",
    "order_of",
    "reconcile",
    "reconcile_login",
    "session_deadline",
    "session_end",
    "shown",
    "tokens_of",
    "withheld",
]
