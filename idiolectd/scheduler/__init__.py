"""Keeps every session of a store refreshed: due times, one capped sleeper, a lane per issuer."""

from idiolectd.scheduler.due_queue import LONGEST_SLEEP
from idiolectd.scheduler.issuer_queue import IssuerLimits
from idiolectd.scheduler.overdue import OverdueWatch
from idiolectd.scheduler.scheduler import Scheduler, Statistics

__all__ = ["LONGEST_SLEEP", "IssuerLimits", "OverdueWatch", "Scheduler", "Statistics"]
