"""The progress bar of a command that takes minutes: on standard error, if that is a terminal."""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial


@contextmanager
def progress(what: str, total: int) -> Iterator[Callable[[], None]]:
    """Shows a bar as long as it is open; yields what to call for each part that is done.

    Lines that the command writes meanwhile stand above the bar.
    """
    if not sys.stderr.isatty():
        yield _ignore
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    bar = Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        console=Console(stderr=True),
        refresh_per_second=2,
        redirect_stdout=sys.stdout.isatty(),  # a file gets its lines as they are
    )
    with bar:
        yield partial(bar.advance, bar.add_task(what, total=total))


def _ignore() -> None:
    """Shows nothing: there is no terminal."""
