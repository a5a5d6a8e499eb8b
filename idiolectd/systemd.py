"""Tells the service manager about readiness, status and signs of life (sd_notify(3)).

Without ``$NOTIFY_SOCKET`` nothing is sent. No method ever raises or waits: a service manager that does not
listen is no reason to stop refreshing.
"""

import contextlib
import os
import socket
import time
from collections.abc import Mapping


class Notifier:
    """Sends state to whoever started this process.

    Args:
        environ: the environment; ``NOTIFY_SOCKET``, ``WATCHDOG_USEC`` and ``WATCHDOG_PID`` count.
    """

    def __init__(self, environ: Mapping[str, str]) -> None:
        self._address = _address(environ.get("NOTIFY_SOCKET", ""))
        self._watchdog = _watchdog_seconds(environ)

    def ready(self, status: str) -> None:
        """Tells that the start, or a reload, is finished."""
        self._send("READY=1", _status(status))

    def status(self, status: str) -> None:
        """Replaces the line that ``systemctl status`` shows."""
        self._send(_status(status))

    def reloading(self) -> None:
        """Tells that a reload has begun; `ready` ends it. Carries the time that ``Type=notify-reload`` wants."""
        now = time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000
        self._send("RELOADING=1", f"MONOTONIC_USEC={now}")

    def stopping(self) -> None:
        """Tells that the shutdown has begun."""
        self._send("STOPPING=1")

    def watchdog(self) -> None:
        """Gives a sign of life. Call it only when scheduler and store have shown theirs."""
        self._send("WATCHDOG=1")

    def extend_timeout(self, usec: int) -> None:
        """Asks for so many microseconds more, counted from now, for the start or stop in progress."""
        self._send(f"EXTEND_TIMEOUT_USEC={usec}")

    def watchdog_interval(self) -> float | None:
        """Seconds between signs of life, half of what the service manager allows; None: it asks for none."""
        return self._watchdog / 2 if self._watchdog is not None and self._address is not None else None

    def _send(self, *assignments: str) -> None:
        if self._address is None:
            return
        # One datagram, without waiting: if the socket's queue is full the message is lost, and nothing else.
        with (
            contextlib.suppress(OSError),
            socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as sender,
        ):
            sender.setblocking(False)
            sender.sendto("\n".join(assignments).encode("utf-8", "replace"), self._address)


def _address(name: str) -> str | None:
    """The socket's address, a path or a name in the abstract namespace; None: another family, not supported."""
    if name.startswith("@"):
        return "\0" + name[1:]
    return name if name.startswith("/") else None


def _status(text: str) -> str:
    """The status as an assignment, in one line: each line of a message is an assignment of its own."""
    return "STATUS=" + " ".join(text.split())


def _watchdog_seconds(environ: Mapping[str, str]) -> float | None:
    """The time limit between two signs of life as sd_watchdog_enabled(3) finds it; None: not for this process."""
    usec, pid = environ.get("WATCHDOG_USEC", ""), environ.get("WATCHDOG_PID", "")
    if not (usec.isascii() and usec.isdigit()) or int(usec) == 0:
        return None
    return int(usec) / 1e6 if pid in ("", str(os.getpid())) else None
