"""Work in a forked child, which needs no seconds to import what the parent has imported already.

The forking process must have one thread only: a fork keeps no other, and the event loops' worker threads
would be missed in the child.
"""

import os
import signal
import sys
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import TypeVar

T = TypeVar("T")

# <linux/wait.h>: children that are threads, too.
WALL = 0x40000000


def in_fork(work: Callable[[], None], *, timeout: float, log: Path | None = None) -> int:
    """Runs `work` in a forked child without stopping it; returns the exit code, negative: a signal's.

    Args:
        work: what the child does.
        timeout: seconds.
        log: gets the child's standard error.

    Raises:
        TimeoutError: the child was killed because it took longer.
    """
    return forked(partial(leave, work), _wait, timeout=timeout, log=log)


def _wait(pid: int) -> int:
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def forked(
    be_child: Callable[[], None], follow: Callable[[int], T], *, timeout: float, log: Path | None
) -> T:
    """Forks; returns what `follow` makes of the child.

    Args:
        be_child: the child's whole life; must not return.
        follow: waits for the child with this process id.
        timeout: seconds for `follow`.
        log: gets the child's standard error.

    Raises:
        TimeoutError: the child was killed because it took longer.
    """
    sys.stdout.flush()
    sys.stderr.flush()
    pid = os.fork()
    if pid == 0:
        _redirect(log)
        be_child()
    try:
        with _alarm(timeout):
            return follow(pid)
    except BaseException:
        _bury(pid)
        raise


def _bury(pid: int) -> None:
    """Kills a child; each of its threads is reported to whoever traced it, the first one last."""
    with suppress(ProcessLookupError, ChildProcessError):
        os.kill(pid, signal.SIGKILL)
        found, status = 0, 0
        while found != pid or os.WIFSTOPPED(status):
            found, status = os.waitpid(-1, WALL)


def _redirect(log: Path | None) -> None:
    """In the child: standard error goes to a file."""
    if log is not None:
        fd = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        os.dup2(fd, 2)
        os.close(fd)


def leave(work: Callable[[], None]) -> None:
    """In the child: does its work, and ends."""
    code = 1
    try:
        work()
        code = 0
    except BaseException:  # noqa: BLE001 - the parent's stack must not go on in the child
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


@contextmanager
def _alarm(seconds: float) -> Iterator[None]:
    """Raises `TimeoutError` inside the block after so many seconds; for the main thread."""

    def ring(_number: int, _frame: object) -> None:
        raise TimeoutError(f"the child took longer than {seconds} s")

    before = signal.signal(signal.SIGALRM, ring)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
