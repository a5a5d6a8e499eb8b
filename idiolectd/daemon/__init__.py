"""The daemon: one task group, signals, readiness, supervision."""

from idiolectd.daemon.daemon import run
from idiolectd.daemon.presence import Presence, read_presence

__all__ = ["Presence", "read_presence", "run"]
