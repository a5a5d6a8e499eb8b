"""Keeps every session of a store refreshed.

`scheduler` is where to begin: what is due is taken from `due_queue`, waits in its server's queue
(`issuer_queues`) until that server's `pace` and the `places` of all let it start, is refreshed by the engine,
and what that teaches goes to `attempt_feedback`. `overdue` checks from outside that no access token ends in silence.
"""

from idiolectd.scheduler.due_queue import LONGEST_SLEEP
from idiolectd.scheduler.overdue import OverdueWatch
from idiolectd.scheduler.pace import IssuerLimits
from idiolectd.scheduler.places import FEWEST_PLACES
from idiolectd.scheduler.scheduler import Scheduler, Statistics

__all__ = ["FEWEST_PLACES", "LONGEST_SLEEP", "IssuerLimits", "OverdueWatch", "Scheduler", "Statistics"]
