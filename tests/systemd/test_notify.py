"""What reaches the service manager."""

import os
import socket
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from idiolectd.systemd import Notifier


@pytest.fixture(params=["path", "abstract"])
def manager(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[tuple[socket.socket, str]]:
    name = str(tmp_path / "notify") if request.param == "path" else f"@idiolectd-test-{os.getpid()}"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as receiver:
        receiver.bind(name.replace("@", "\0") if name.startswith("@") else name)
        receiver.setblocking(False)
        yield receiver, name


def received(receiver: socket.socket) -> list[list[str]]:
    messages = []
    while True:
        try:
            messages.append(receiver.recv(4096).decode().split("\n"))
        except BlockingIOError:
            return messages


def test_messages(manager: tuple[socket.socket, str]) -> None:
    """Each call is one datagram in the words of sd_notify."""
    receiver, name = manager
    notifier = Notifier({"NOTIFY_SOCKET": name})
    notifier.ready("3 sessions")
    notifier.status("two\nlines READY=1")
    notifier.watchdog()
    notifier.extend_timeout(30_000_000)
    notifier.stopping()
    assert received(receiver) == [
        ["READY=1", "STATUS=3 sessions"],
        ["STATUS=two lines READY=1"],
        ["WATCHDOG=1"],
        ["EXTEND_TIMEOUT_USEC=30000000"],
        ["STOPPING=1"],
    ]


def test_reloading_has_the_time(manager: tuple[socket.socket, str]) -> None:
    """A reload is announced with the monotonic time, as Type=notify-reload asks."""
    receiver, name = manager
    before = time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000
    Notifier({"NOTIFY_SOCKET": name}).reloading()
    ((reloading, at),) = received(receiver)
    assert reloading == "RELOADING=1"
    assert (
        before
        <= int(at.removeprefix("MONOTONIC_USEC="))
        <= time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000
    )


def test_nobody_listens(tmp_path: Path) -> None:
    """Without a variable, a socket or a family that is known, nothing happens and nothing is raised."""
    for environ in ({}, {"NOTIFY_SOCKET": str(tmp_path / "gone")}, {"NOTIFY_SOCKET": "vsock:2:1"}):
        notifier = Notifier(environ)
        notifier.ready("x")
        notifier.watchdog()


def test_full_queue_does_not_block(manager: tuple[socket.socket, str]) -> None:
    """A manager that does not read loses signs of life and stops nobody."""
    _, name = manager
    notifier = Notifier({"NOTIFY_SOCKET": name})
    for _ in range(2000):  # who waited for the manager would wait for ever
        notifier.watchdog()


@pytest.mark.parametrize(
    ("environ", "expected"),
    [
        ({"WATCHDOG_USEC": "60000000"}, 30.0),
        ({"WATCHDOG_USEC": "60000000", "WATCHDOG_PID": str(os.getpid())}, 30.0),
        ({"WATCHDOG_USEC": "60000000", "WATCHDOG_PID": "1"}, None),
        ({"WATCHDOG_USEC": "0"}, None),
        ({"WATCHDOG_USEC": "soon"}, None),
        ({}, None),
    ],
)
def test_watchdog_interval(environ: dict[str, str], expected: float | None) -> None:
    """Signs of life come twice as often as the manager asks, if it asks this process."""
    assert Notifier({"NOTIFY_SOCKET": "/run/x"} | environ).watchdog_interval() == expected


def test_no_watchdog_without_a_socket() -> None:
    """Without a manager to tell there is nothing to do."""
    assert Notifier({"WATCHDOG_USEC": "60000000"}).watchdog_interval() is None
