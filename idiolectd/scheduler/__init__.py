"""Keeps every session of a store refreshed.

`scheduler` is where to begin: what is due is taken from `due_queue`, waits in its server's queue
(`issuer_queues`), is refreshed by the engine, and what that teaches goes to `attempt_feedback`. `overdue`
checks from outside that no access token ends in silence.
"""

from idiolectd.scheduler.due_queue import LONGEST_SLEEP
from idiolectd.scheduler.issuer_queues import IssuerLimits
from idiolectd.scheduler.overdue import OverdueWatch
from idiolectd.scheduler.scheduler import Scheduler

__all__ = ["LONGEST_SLEEP", "IssuerLimits", "OverdueWatch", "Scheduler"]
