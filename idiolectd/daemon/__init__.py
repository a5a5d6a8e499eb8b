"""The composition root: the parts from a configuration, and the daemon that runs them."""

from idiolectd.daemon.daemon import run
from idiolectd.daemon.parts import Parts, open_parts
from idiolectd.daemon.presence import Presence, read_presence

__all__ = ["Parts", "Presence", "open_parts", "read_presence", "run"]
