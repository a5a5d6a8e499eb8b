"""Running a command's async part: Ctrl-C and SIGTERM end it in order, as they end the daemon.

Without this they would interrupt a refresh between the server's answer and the save.
"""

import signal
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import TypeVar

import anyio
import click

from idiolectd.cli.output import say

T = TypeVar("T")


def run_async(work: Callable[[], Awaitable[T]]) -> T:
    """Runs `work` on trio.

    Raises:
        click.Abort: a signal came. What had been sent by then was finished and saved.
    """
    try:
        return anyio.run(_until_signal, work, backend="trio")
    except BaseExceptionGroup as group:
        raise _only(group) from None  # the task group is ours, and no part of what went wrong


def _only(error: BaseException) -> BaseException:
    while isinstance(error, BaseExceptionGroup) and len(error.exceptions) == 1:
        error = error.exceptions[0]
    return error


async def _until_signal(work: Callable[[], Awaitable[T]]) -> T:
    # Open until all is done: the second signal of somebody who loses patience must not find the handlers
    # that end the process at once.
    with anyio.open_signal_receiver(signal.SIGINT, signal.SIGTERM) as signals:
        async with anyio.create_task_group() as tg:
            running = anyio.CancelScope()
            tg.start_soon(_interrupt, signals, running)
            with running:
                result = await work()
            tg.cancel_scope.cancel()
            if not running.cancel_called:
                return result
    raise click.Abort


async def _interrupt(signals: AsyncIterator[signal.Signals], running: anyio.CancelScope) -> None:
    async for _ in signals:
        if running.cancel_called:
            say("what was sent is being finished; that may take two minutes")
        running.cancel()
