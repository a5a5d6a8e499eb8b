"""Refreshes one session: under the claim, with a durable note, to durable tokens.

`RefreshEngine` is what the daemon and the command line call; `engine` shows the way of a session.
`refresh_if_needed` is what a client calls.
"""

from idiolectd.refresh.engine import Admission, RefreshEngine
from idiolectd.refresh.needed import refresh_if_needed
from idiolectd.refresh.planner import Planner
from idiolectd.refresh.recorder import AttemptResult, Reconciled
from idiolectd.refresh.saving import SaveDeadline

__all__ = [
    "Admission",
    "AttemptResult",
    "Planner",
    "Reconciled",
    "RefreshEngine",
    "SaveDeadline",
    "refresh_if_needed",
]
