"""Writing lines to a stream that somebody else reads, or doesn't.

Nothing here raises, and nothing waits for long: a dead or stuck reader must not keep the daemon
from saving tokens.
"""

import io
import os
import select
from collections.abc import Mapping
from typing import TextIO

from idiolectd.events import Level

# What sd-daemon(3) calls a log level; journald takes the prefix off and keeps it as PRIORITY.
_PRIORITY: Mapping[str, int] = {"debug": 7, "info": 6, "warning": 4, "error": 3}


class LineWriter:
    """Writes lines to a stream, and would rather lose one than wait for its reader.

    In structlog's terms it is the wrapped logger: a method per level.

    A pipe whose reader is stuck blocks its writer, and with it the whole event loop. So a write
    happens only when the kernel says that it won't wait; what is lost is counted and told later.
    """

    _CHUNK = 4096  # PIPE_BUF: a pipe that is writable takes this much at once, and in one piece
    _PATIENCE_MS = 200  # for a reader that is only slow; once it has proven stuck there is none

    def __init__(self, stream: TextIO, *, prefixed: bool) -> None:
        self._stream = stream
        self._prefixed = prefixed
        self._descriptor = _descriptor(stream)
        self._stuck = False
        self._lost = 0
        self._torn = False  # the last line got stuck half-way: the next begins a line of its own

    def debug(self, line: str) -> None:
        """One line of that level."""
        self._write("debug", line)

    def info(self, line: str) -> None:
        """One line of that level."""
        self._write("info", line)

    def warning(self, line: str) -> None:
        """One line of that level."""
        self._write("warning", line)

    def error(self, line: str) -> None:
        """One line of that level."""
        self._write("error", line)

    def _write(self, level: Level, line: str) -> None:
        prefix = f"<{_PRIORITY[level]}>" if self._prefixed else ""
        if self._lost and self._put(f"idiolectd: {self._lost} log lines were lost: nobody read them\n"):
            self._lost = 0
        if not self._put(f"{prefix}{line}\n"):
            self._lost += 1

    def _put(self, text: str) -> bool:
        if self._descriptor is None:
            try:
                self._stream.write(text)
                self._stream.flush()
            except (OSError, ValueError):
                return False
            return True
        data = ("\n" if self._torn else "").encode() + text.encode("utf-8", "backslashreplace")
        whole = len(data)
        try:
            self._stream.flush()  # what others printed comes first
            while data:
                if not self._is_writable(self._descriptor):
                    self._torn = self._torn or len(data) < whole
                    return False
                data = data[os.write(self._descriptor, data[: self._CHUNK]) :]
        except (OSError, ValueError):
            return False
        self._torn = False
        return True

    def _is_writable(self, descriptor: int) -> bool:
        poll = select.poll()
        poll.register(descriptor, select.POLLOUT)
        ready = poll.poll(0 if self._stuck else self._PATIENCE_MS)
        self._stuck = not ready
        return bool(ready)


def _descriptor(stream: TextIO) -> int | None:
    try:
        return stream.fileno()
    except (AttributeError, OSError, ValueError, io.UnsupportedOperation):
        return None


def is_journal(stream: TextIO) -> bool:
    """Whether the stream ends in the journal (``$JOURNAL_STREAM``, systemd.exec(5))."""
    descriptor = _descriptor(stream)
    if descriptor is None:
        return False
    try:
        found = os.fstat(descriptor)
    except OSError:
        return False
    return os.environ.get("JOURNAL_STREAM") == f"{found.st_dev}:{found.st_ino}"
