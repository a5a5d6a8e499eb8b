"""The daemon: one task group, signals, readiness, supervision."""

from idiolectd.daemon.daemon import run

__all__ = ["run"]
