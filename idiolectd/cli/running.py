"""Running a command's async part: Ctrl-C and SIGTERM end it in order, as they end the daemon.

Without this they would interrupt a refresh between the server's answer and the save.
"""

import signal
from collections.abc import Awaitable, Callable
from typing import TypeVar

import anyio
import click
from anyio.abc import TaskStatus

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
    async with anyio.create_task_group() as tg:

        async def listen(*, task_status: TaskStatus[None]) -> None:
            with anyio.open_signal_receiver(signal.SIGINT, signal.SIGTERM) as signals:
                task_status.started()
                async for _ in signals:
                    tg.cancel_scope.cancel()

        await tg.start(listen)
        result = await work()
        tg.cancel_scope.cancel()
        return result
    raise click.Abort
