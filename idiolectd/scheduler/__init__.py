"""Keeps every session of a store refreshed: due times, one capped sleeper, a lane per issuer."""

from idiolectd.scheduler.lane import LaneLimits
from idiolectd.scheduler.overdue import OverdueWatch
from idiolectd.scheduler.plan import LONGEST_SLEEP
from idiolectd.scheduler.scheduler import Scheduler, Statistics

__all__ = ["LONGEST_SLEEP", "LaneLimits", "OverdueWatch", "Scheduler", "Statistics"]
