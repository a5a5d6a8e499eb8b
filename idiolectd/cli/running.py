"""Runs a command's async part. On Ctrl-C or SIGTERM it finishes what was sent, as the daemon does.

Without this a signal would interrupt a refresh between the server's response and the save.
"""

import signal
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import TYPE_CHECKING, Literal, TypeVar

import click

from idiolectd.cli.output import say

if TYPE_CHECKING:
    import anyio

T = TypeVar("T")


def run_async(work: Callable[[], Awaitable[T]], *, backend: Literal["trio", "asyncio"] = "trio") -> T:
    """Runs `work`.

    Args:
        work: the command's async part.
        backend: the event loop.

    Raises:
        click.Abort: a signal came; requests that had been sent were finished and saved.
    """
    import anyio  # a command that needs no event loop this time does not pay for it

    try:
        return anyio.run(_until_signal, work, backend=backend)
    except BaseExceptionGroup as group:
        raise _only(group) from None  # the group comes from the task group here


def _only(error: BaseException) -> BaseException:
    while isinstance(error, BaseExceptionGroup) and len(error.exceptions) == 1:
        error = error.exceptions[0]
    return error


async def _until_signal(work: Callable[[], Awaitable[T]]) -> T:
    import anyio

    # Open until all is done: a second signal must not reach the default handlers, which end the process at
    # once.
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


async def _interrupt(signals: AsyncIterator[signal.Signals], running: "anyio.CancelScope") -> None:
    async for _ in signals:
        if running.cancel_called:
            say("finishing the requests that were sent; that may take two minutes")
        running.cancel()
