"""Refreshing one session: under the claim, with a durable note, to durable tokens.

`RefreshEngine` is the daemon's and the command line's way in; `refresh_if_needed` a client's.
"""

from idiolectd.refresh.engine import Admission, RefreshEngine
from idiolectd.refresh.ledger import Attempt, Look
from idiolectd.refresh.needed import refresh_if_needed
from idiolectd.refresh.schedule import Planner
from idiolectd.refresh.sending import Patience

__all__ = ["Admission", "Attempt", "Look", "Patience", "Planner", "RefreshEngine", "refresh_if_needed"]
