"""Talking to the service manager: readiness, status, watchdog (sd_notify(3)).

Without ``$NOTIFY_SOCKET`` everything here does nothing, and nothing here ever raises or waits: a
service manager that does not listen is no reason to stop refreshing.
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
        """Startup, or a reload, is finished."""
        self._send("READY=1", _status(status))

    def status(self, status: str) -> None:
        """One line for ``systemctl status``."""
        self._send(_status(status))

    def reloading(self) -> None:
        """SIGHUP has arrived; `ready` ends it. With the time that ``Type=notify-reload`` asks for."""
        now = time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000
        self._send("RELOADING=1", f"MONOTONIC_USEC={now}")

    def stopping(self) -> None:
        """The shutdown has begun."""
        self._send("STOPPING=1")

    def watchdog(self) -> None:
        """A sign of life. Send it only after the parts that matter have shown theirs."""
        self._send("WATCHDOG=1")

    def extend_timeout(self, usec: int) -> None:
        """The start or stop in progress needs this many more microseconds, counted from now."""
        self._send(f"EXTEND_TIMEOUT_USEC={usec}")

    def watchdog_interval(self) -> float | None:
        """Seconds between signs of life: half of what the manager allows; None: it asks for none."""
        return self._watchdog / 2 if self._watchdog is not None and self._address is not None else None

    def _send(self, *assignments: str) -> None:
        if self._address is None:
            return
        # One datagram without waiting: a full queue loses a sign of life, not the daemon.
        with (
            contextlib.suppress(OSError),
            socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as sender,
        ):
            sender.setblocking(False)
            sender.sendto("\n".join(assignments).encode("utf-8", "replace"), self._address)


def _address(name: str) -> str | None:
    """The socket's address: a path, or a name in the abstract namespace; other families are not ours."""
    if name.startswith("@"):
        return "\0" + name[1:]
    return name if name.startswith("/") else None


def _status(text: str) -> str:
    """Assignments are lines, so a status must be one."""
    return "STATUS=" + " ".join(text.split())


def _watchdog_seconds(environ: Mapping[str, str]) -> float | None:
    """What sd_watchdog_enabled(3) tells: the limit, if it is meant for this process."""
    usec, pid = environ.get("WATCHDOG_USEC", ""), environ.get("WATCHDOG_PID", "")
    if not (usec.isascii() and usec.isdigit()) or int(usec) == 0:
        return None
    return int(usec) / 1e6 if pid in ("", str(os.getpid())) else None
