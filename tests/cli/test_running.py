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
    """Ctrl-C ends a command in order, and twice no sooner: what was sent is finished first."""
    done: list[str] = []

    async def work() -> None:
        with anyio.CancelScope(shield=True):
            for _ in range(2):
                os.kill(os.getpid(), number)
                await anyio.sleep(0.1)
            done.append("saved")
        await anyio.sleep(10)
        done.append("never")

    with pytest.raises((click.Abort, KeyboardInterrupt)) as ended:
        run_async(work)
    assert (done, ended.type) == (["saved"], click.Abort)


def test_a_command_that_was_interrupted_says_so_even_if_all_was_done() -> None:
    """A shell that runs one command after the other stops."""

    async def work() -> int:
        with anyio.CancelScope(shield=True):
            os.kill(os.getpid(), signal.SIGINT)
            await anyio.sleep(0.1)
        return 7

    with pytest.raises(click.Abort):
        run_async(work)
