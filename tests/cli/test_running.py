"""Running a command's async part: its result, its errors, and a signal in the middle."""

import os
import signal

import anyio
import anyio.lowlevel
import click
import pytest

from idiolectd.cli.running import run_async
from idiolectd.errors import LockBusy


def test_results_and_errors_come_as_they_are() -> None:
    """A command sees its own error, not the task group's."""

    async def answer() -> int:
        await anyio.lowlevel.checkpoint()
        return 7

    async def fail() -> None:
        await anyio.lowlevel.checkpoint()
        raise LockBusy("somebody")

    async def leave() -> None:
        await anyio.lowlevel.checkpoint()
        raise SystemExit(5)

    assert run_async(answer) == 7
    with pytest.raises(LockBusy, match="somebody"):
        run_async(fail)
    with pytest.raises(SystemExit):
        run_async(leave)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_waits_for_what_can_not_be_cancelled(number: signal.Signals) -> None:
    """Ctrl-C ends a command in order: what was sent is finished first."""
    done: list[str] = []

    async def work() -> None:
        with anyio.CancelScope(shield=True):
            os.kill(os.getpid(), number)
            await anyio.sleep(0.1)
            done.append("saved")
        await anyio.sleep(10)
        done.append("never")

    with pytest.raises(click.Abort):
        run_async(work)
    assert done == ["saved"]
